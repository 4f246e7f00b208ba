#include "src/detail/linear_gradients_backend.hpp"
#include "src/detail/no_cuda.hpp"

namespace tamis::cuda {

void linear_gradients(const detail::LinearGradientsTask&, const Exec&) {
  detail::throw_no_cuda("linear_gradients");
}

}  // namespace tamis::cuda
