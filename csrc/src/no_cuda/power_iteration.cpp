#include "src/detail/no_cuda.hpp"
#include "src/detail/power_iteration_backend.hpp"

namespace tamis::cuda {

std::unique_ptr<detail::CovarianceOperator> covariance_operator(const char*, const ConstMatrixView&,
                                                                const ConstVectorView&,
                                                                const double*, const Exec&) {
  detail::throw_no_cuda("power_iteration");
}

}  // namespace tamis::cuda
