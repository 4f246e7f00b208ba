#include "src/detail/covariance_apply_backend.hpp"
#include "src/detail/no_cuda.hpp"

namespace tamis::cuda {

void covariance_apply(const detail::CovarianceTask&, const Exec&) {
  detail::throw_no_cuda("covariance_apply");
}

}  // namespace tamis::cuda
