// What every backend of weighted_sums defines.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

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

/// Of every row of x, 1 if it has a weight, for messages about data whose sums are not finite. No
/// weight that is not finite leaves all sums finite, so nobody need have looked before: here it is
/// refused. `weights_of(c)` gives row c of u.
template <class T, class Row>
std::vector<T> used_rows(const WeightedSumsTask& task, const Row& weights_of) {
  std::vector<T> used(static_cast<std::size_t>(task.x.rows), T(0));
  for (std::int64_t c = 0; c < task.u.rows; ++c) {
    const auto& weights = weights_of(c);
    for (std::size_t i = 0; i < used.size(); ++i) {
      if (!std::isfinite(weights[i])) {
        fail(task.op, "U: finite numbers",
             text(static_cast<double>(weights[i]), " in row ", c, ", column ", i));
      }
      if (weights[i] != T(0)) used[i] = T(1);
    }
  }
  return used;
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
