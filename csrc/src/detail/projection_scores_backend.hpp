// What every backend of projection_scores defines.
#pragma once

#include <cstdint>

#include "tamis/projection_scores.hpp"

namespace tamis {
namespace detail {

/// A checked call with a known mean. On CUDA every pointer is the device's.
struct ProjectionTask {
  ConstMatrixView x;
  const double* mean;
  const double* v;  ///< (d, k) row-major
  std::int64_t k;
  VectorView scores;
};

}  // namespace detail

namespace cuda {
/// `task.mean` may be null: the mean of the rows.
void projection_scores(const detail::ProjectionTask& task, const Exec& exec);
}  // namespace cuda
}  // namespace tamis
