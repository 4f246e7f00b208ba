#include "src/detail/no_cuda.hpp"
#include "src/detail/vote_counts_backend.hpp"

namespace tamis::cuda {

std::int64_t vote_counts(const ConstMatrixView&, std::int64_t*, const Exec&) {
  detail::throw_no_cuda("vote_counts");
}

void vote_counts_deferred(const ConstMatrixView&, std::int64_t*, const Exec&) {
  detail::throw_no_cuda("vote_counts");
}

}  // namespace tamis::cuda
