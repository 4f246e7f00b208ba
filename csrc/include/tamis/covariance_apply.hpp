// covariance_apply: the weighted covariance of the rows times a few vectors, never formed.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

#include "tamis/exec.hpp"
#include "tamis/views.hpp"

namespace tamis {

/// X holds a NaN or an infinity, or numbers so large that their products overflow.
class NonFiniteError : public std::invalid_argument {
 public:
  NonFiniteError(const std::string& message, std::int64_t row)
      : std::invalid_argument(message), row_(row) {}
  /// The first such row.
  std::int64_t row() const noexcept { return row_; }

 private:
  std::int64_t row_;
};

/// Y = sum_i w_i (x_i - mu) (x_i - mu)^T V / sum_i w_i.
///
/// - Shapes: x (n, d), float32 or float64, any row stride >= d, n >= 1, 1 <= d <= 65536; v and y
///   (d, k) row-major and dense, 1 <= k <= 256; weights n numbers of x's type, or null data for
///   ones; mean d numbers, or null for the weighted mean of the rows (found in the same pass).
/// - Weights: finite, >= 0, not all zero. A row of weight 0 is not looked at.
/// - One pass over x; no (n, k) and no (d, d) array. Workspace: at most 64 (k + 1) d float64, and
///   never more than 64 MiB beyond (k + 1) d of them.
/// - Accumulators: sums over 128 rows in x's type, sums of those in float64; y is float64.
/// - Determinism: the same bits for any number of threads and any CPU instruction set. Blocks of
///   rows depend on n, d and k only, and are added in order.
/// - Aliasing: y overlaps nothing. On CUDA every pointer lies on the device; the call waits for
///   exec.stream, because bad data is an error the caller must see.
/// @throws NonFiniteError naming the first row (of weight > 0) with a NaN or an infinity, or
/// saying that the data overflow; std::invalid_argument; std::runtime_error on a CUDA failure.
void covariance_apply(ConstMatrixView x, const double* v, std::int64_t k, double* y,
                      ConstVectorView weights = {}, const double* mean = nullptr,
                      const Exec& exec = {});

}  // namespace tamis
