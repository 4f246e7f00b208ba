#include "src/detail/iterative_filter_backend.hpp"
#include "src/detail/no_cuda.hpp"

namespace tamis::cuda {

std::unique_ptr<detail::FilterPasses> filter_passes(const ConstMatrixView&, const VectorView&,
                                                    const VectorView&, const Exec&) {
  detail::throw_no_cuda("iterative_filter");
}

}  // namespace tamis::cuda
