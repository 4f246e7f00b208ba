// Checks that the operations on rows of a matrix share.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>

#include "src/detail/check.hpp"
#include "tamis/exec.hpp"
#include "tamis/views.hpp"

namespace tamis::detail {

inline constexpr std::int64_t kMaxColumns = 65536;
inline constexpr std::int64_t kMaxVectors = 256;

inline void check_rows(const char* op, const ConstMatrixView& x, std::int64_t min_rows) {
  if (x.dtype != DType::float32 && x.dtype != DType::float64) {
    fail(op, "x of float32 or float64", name_of(x.dtype));
  }
  if (x.rows < min_rows || x.cols < 1 || x.cols > kMaxColumns) {
    fail(op, text("x of shape (n, d) with n >= ", min_rows, " and 1 <= d <= ", kMaxColumns),
         text("(", x.rows, ", ", x.cols, ")"));
  }
  if (x.rows > 1 && x.row_stride < x.cols) {
    fail(op, text("x.row_stride >= ", x.cols), text(x.row_stride));
  }
  if (x.data == nullptr && x.rows > 0) fail(op, "non-null x", "null");
}

/// Do [a, a + a_bytes) and x share memory?
inline bool overlaps(const ConstMatrixView& x, const void* a, std::int64_t a_bytes) {
  if (x.rows == 0 || a == nullptr) return false;
  const auto* begin = static_cast<const char*>(x.data);
  const auto* end = begin + ((x.rows - 1) * x.row_stride + x.cols) * size_of(x.dtype);
  const auto* other = static_cast<const char*>(a);
  return other < end && begin < other + a_bytes;
}

inline void check_vectors(const char* op, std::int64_t k, const void* v, const void* y) {
  if (k < 1 || k > kMaxVectors) fail(op, text("1 <= k <= ", kMaxVectors), text(k));
  if (v == nullptr || y == nullptr) fail(op, "non-null vectors", "null");
}

/// Finite numbers >= 0, not all zero.
template <class T>
void check_weight_values(const char* op, const T* w, std::int64_t n, const char* name = "weights") {
  bool any = false;
  for (std::int64_t i = 0; i < n; ++i) {
    if (!(w[i] >= T(0)) || !std::isfinite(w[i])) {
      fail(op, text(name, ": finite numbers >= 0"),
           text(static_cast<double>(w[i]), " at index ", i));
    }
    any = any || w[i] > T(0);
  }
  if (!any) fail(op, text(name, " that are not all zero"), "zeros");
}

/// Weights of x's type and length; on the CPU also their values.
inline void check_weights(const char* op, const ConstMatrixView& x, const ConstVectorView& weights,
                          const Exec& exec) {
  if (weights.data == nullptr) return;
  if (weights.size != x.rows || weights.dtype != x.dtype) {
    fail(op, text("weights: ", x.rows, " of ", name_of(x.dtype)),
         text(weights.size, " of ", name_of(weights.dtype)));
  }
  if (exec.device.kind != Device::Kind::cpu) return;
  if (x.dtype == DType::float64) {
    check_weight_values(op, static_cast<const double*>(weights.data), weights.size);
  } else {
    check_weight_values(op, static_cast<const float*>(weights.data), weights.size);
  }
}

/// On the CPU: d numbers, all finite.
inline void check_finite(const char* op, const char* name, const double* numbers,
                         std::int64_t count, const Exec& exec) {
  if (numbers == nullptr || exec.device.kind != Device::Kind::cpu) return;
  for (std::int64_t j = 0; j < count; ++j) {
    if (!std::isfinite(numbers[j])) {
      fail(op, text(name, ": finite numbers"), text(numbers[j], " at index ", j));
    }
  }
}

}  // namespace tamis::detail
