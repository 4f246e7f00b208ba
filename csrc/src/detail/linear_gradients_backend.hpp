// What every backend of linear_gradients defines.
#pragma once

#include <cstdint>

#include "tamis/linear_gradients.hpp"

namespace tamis {
namespace detail {

/// A checked call. On CUDA every pointer is the device's.
struct LinearGradientsTask {
  const char* op;  ///< for messages
  ConstMatrixView x;
  LinearModel model;
  const double* share;
  const double* v;
  std::int64_t k;
  LinearGradients out;
};

}  // namespace detail

namespace cpu {
void linear_gradients(const detail::LinearGradientsTask& task, int num_threads);
}
namespace cuda {
void linear_gradients(const detail::LinearGradientsTask& task, const Exec& exec);
}
}  // namespace tamis
