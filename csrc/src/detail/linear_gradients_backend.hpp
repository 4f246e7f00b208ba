// What every backend of linear_gradients defines.
#pragma once

#include <cmath>
#include <cstdint>

#include "src/detail/check.hpp"
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

/// For sums that are not finite although X is: names the first row whose coefficient is not;
/// returns if there is none. `coefficients`: those of the task, on the host.
inline void fail_on_coefficients(const LinearGradientsTask& task, const double* coefficients) {
  for (std::int64_t i = 0; i < task.x.rows; ++i) {
    const double a = coefficients[i];
    if (std::isfinite(a)) continue;
    const char* what = std::isnan(a) ? "nan" : a > 0.0 ? "inf" : "-inf";
    throw NonFiniteError(
        text("[", task.op, "] y, weights: expected numbers with finite residuals, got ", what,
             " in row ", i),
        i);
  }
}

}  // namespace detail

namespace cpu {
void linear_gradients(const detail::LinearGradientsTask& task, int num_threads);
}
namespace cuda {
void linear_gradients(const detail::LinearGradientsTask& task, const Exec& exec);
}
}  // namespace tamis
