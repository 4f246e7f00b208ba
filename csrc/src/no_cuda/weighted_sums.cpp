#include "src/detail/no_cuda.hpp"
#include "src/detail/weighted_sums_backend.hpp"

namespace tamis::cuda {

void weighted_sums(const detail::WeightedSumsTask&, const Exec&) {
  detail::throw_no_cuda("weighted_sums");
}

}  // namespace tamis::cuda
