// What every backend of power_iteration defines.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "src/detail/block_krylov.hpp"
#include "tamis/power_iteration.hpp"

namespace tamis {
namespace detail {

/// The rows of one call, on their device. Blocks and results lie on the host.
class CovarianceOperator {
 public:
  CovarianceOperator() = default;
  CovarianceOperator(const CovarianceOperator&) = delete;
  CovarianceOperator& operator=(const CovarianceOperator&) = delete;
  virtual ~CovarianceOperator() = default;
  /// The covariance of all rows times a block: one pass.
  virtual Block apply(const Block& v) = 0;
  /// From now on apply_some() is about these rows. Returns the sum of their weights.
  virtual double choose(const std::vector<std::int64_t>& rows) = 0;
  /// The covariance of the chosen rows, about the mean of all or (on the CPU, while that is not
  /// known) their own, times a block.
  virtual Block apply_some(const Block& v) = 0;
  /// What rounding of the mean alone does to the covariance; known after the first pass.
  double rounding = 0.0;
};

}  // namespace detail

namespace cuda {
/// `mean` (of the device) may be null: the weighted mean.
std::unique_ptr<detail::CovarianceOperator> covariance_operator(const char* op,
                                                                const ConstMatrixView& x,
                                                                const ConstVectorView& weights,
                                                                const double* mean,
                                                                const Exec& exec);
}  // namespace cuda
}  // namespace tamis
