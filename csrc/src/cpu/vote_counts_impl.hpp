// vote_counts for one instruction set: included after a simd_*.hpp.
//
// Scalar code on purpose: one compare a value keeps up with the rate at which any classifier can
// produce logits (bench/certify.py), and the compiler may use this file's instruction set.
#include <cstdint>

#include "src/detail/half.hpp"
#include "src/detail/vote_counts_backend.hpp"

namespace tamis::cpu::TAMIS_ISA {
namespace {

inline double value(double x) { return x; }
template <class T>
inline float value(T x) {
  return detail::to_float32(x);
}

template <class T>
std::int64_t count(const ConstMatrixView& logits, std::int64_t* counts) {
  for (std::int64_t i = 0; i < logits.rows; ++i) {
    const T* row = static_cast<const T*>(logits.data) + i * logits.row_stride;
    auto best = value(row[0]);
    std::int64_t best_class = 0;
    bool nan = best != best;
    for (std::int64_t c = 1; c < logits.cols; ++c) {
      const auto v = value(row[c]);
      nan |= v != v;
      if (v > best) {  // strict: ties stay with the lowest index
        best = v;
        best_class = c;
      }
    }
    if (nan) return i;
    ++counts[best_class];
  }
  return -1;
}

}  // namespace

std::int64_t vote_counts(const ConstMatrixView& logits, std::int64_t* counts) {
  switch (logits.dtype) {
    case DType::float64:
      return count<double>(logits, counts);
    case DType::float16:
      return count<detail::Float16>(logits, counts);
    case DType::bfloat16:
      return count<detail::BFloat16>(logits, counts);
    default:
      return count<float>(logits, counts);
  }
}

}  // namespace tamis::cpu::TAMIS_ISA
