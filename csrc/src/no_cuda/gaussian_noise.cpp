#include "src/detail/gaussian_noise_backend.hpp"
#include "src/detail/no_cuda.hpp"

namespace tamis::cuda {

void gaussian_noise(const detail::GaussianNoiseTask&, const Exec&) {
  detail::throw_no_cuda("gaussian_noise");
}

}  // namespace tamis::cuda
