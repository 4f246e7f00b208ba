// What every backend of covariance_apply defines.
#pragma once

#include <cstdint>

#include "tamis/covariance_apply.hpp"

namespace tamis {
namespace detail {

/// A checked call. Vectors of v and y lie `vector_stride` apart, their numbers `element_stride`.
/// On CUDA every pointer is the device's.
struct CovarianceTask {
  const char* op;  ///< for messages
  ConstMatrixView x;
  ConstVectorView weights;  ///< null data: ones. One number a row of x.
  const double* mean;       ///< null: the weighted mean of the rows
  const double* v;
  double* y;
  std::int64_t k;
  std::int64_t element_stride;
  std::int64_t vector_stride;
  const std::int64_t* index = nullptr;  ///< only these rows, ascending; null: all
  std::int64_t count = 0;               ///< of index
  double* found_mean = nullptr;         ///< CPU only: where mean is null, d numbers to put it in
};

}  // namespace detail

namespace cpu {
void covariance_apply(const detail::CovarianceTask& task, int num_threads);
}
namespace cuda {
void covariance_apply(const detail::CovarianceTask& task, const Exec& exec);
}
}  // namespace tamis
