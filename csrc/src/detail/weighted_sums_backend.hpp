// What every backend of weighted_sums defines.
#pragma once

#include <cmath>
#include <cstdint>

#include "src/detail/check.hpp"
#include "tamis/weighted_sums.hpp"

namespace tamis {
namespace detail {

/// A checked call, but for the values of u. On CUDA every pointer is the device's.
struct WeightedSumsTask {
  const char* op;  ///< for messages
  ConstMatrixView x;
  ConstMatrixView u;
  double* y;
};

/// Refuses a weight that is not finite.
template <class T>
void check_weight(const WeightedSumsTask& task, T weight, std::int64_t c, std::int64_t i) {
  if (std::isfinite(weight)) return;
  fail(task.op, "U: finite numbers",
       text(static_cast<double>(weight), " in row ", c, ", column ", i));
}

/// For sums that are not finite although all data are.
[[noreturn]] inline void fail_on_overflow(const WeightedSumsTask& task) {
  throw NonFiniteError(text("[", task.op, "] X: expected values whose weighted sums fit ",
                            name_of(task.x.dtype), ": rescale the data or the weights"),
                       -1);
}

}  // namespace detail

namespace cpu {
void weighted_sums(const detail::WeightedSumsTask& task, int num_threads);
}
namespace cuda {
void weighted_sums(const detail::WeightedSumsTask& task, const Exec& exec);
}
}  // namespace tamis
