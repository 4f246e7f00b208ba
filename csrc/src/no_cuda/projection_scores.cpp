#include "src/detail/no_cuda.hpp"
#include "src/detail/projection_scores_backend.hpp"

namespace tamis::cuda {

void projection_scores(const detail::ProjectionTask&, const Exec&) {
  detail::throw_no_cuda("projection_scores");
}

}  // namespace tamis::cuda
