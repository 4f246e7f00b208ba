// linear_gradients: what SEVER asks of the gradients of a linear regression, in one read of the
// rows.
#pragma once

#include <cstdint>
#include <limits>

#include "tamis/covariance_apply.hpp"
#include "tamis/exec.hpp"
#include "tamis/views.hpp"

namespace tamis {

/// A linear model and what it was fitted to. The loss of example i is Huber's, of the residual
/// x_i . coef + intercept - y_i, times weights_i.
struct LinearModel {
  const double* coef = nullptr;  ///< d numbers
  double intercept = 0.0;
  const double* y = nullptr;                                 ///< n numbers
  double epsilon = std::numeric_limits<double>::infinity();  ///< infinite: the squared loss
  const double* weights = nullptr;                           ///< n numbers, or null for ones
};

/// Where results go. Sums run over all n rows; c is the mean of the rows with weights `share`.
struct LinearGradients {
  double* coefficients;  ///< n: the derivatives a_i = weights_i min(max(residual_i, -e), e)
  double* center;        ///< d: c = sum s_i x_i / sum s
  double* sums;          ///< (3, d): of s_i a_i (x_i - c) / sum s; a_i (x_i - c); a_i^2 (x_i - c)
  double* product;       ///< (d, k): sum a_i^2 (x_i - c) (x_i - c)^T V
};

/// The derivatives of the loss, sums of the gradients a_i (x_i - c), and the first product of their
/// second moments with a few vectors.
///
/// - Shapes: x (n, d), float32 or float64, any row stride >= d, n >= 1, 1 <= d <= 65536; v (d, k)
///   row-major and dense, 1 <= k <= 251; share n numbers >= 0, not all zero, or null for ones.
/// - One pass over x; no (n, d) and no (d, d) array. Workspace: at most 64 (k + 4) d float64, and
///   never more than 64 MiB beyond (k + 4) d of them.
/// - On CUDA two passes for every 28 columns of v (30 without share). The first one leaves what a
///   row counts in the sums, 8 MiB of it at most, for some rows at a time. Sums of blocks: 2 MiB,
///   or a twentieth of x where that is more, beyond 3 (k + 5) d float64.
/// - Accumulators: as in covariance_apply. Rows are summed about a point near their mean, and what
///   is left is corrected in float64.
/// - Determinism: the same bits for any number of threads and any CPU instruction set.
/// - Values: coef, intercept, v and share are finite. A y or a weight that is not shows in the
///   coefficients, which are written before the call throws.
/// - Aliasing: results overlap nothing. On CUDA every pointer lies on the device; the call waits.
/// @throws NonFiniteError naming the first row with a NaN or an infinity (of x, y or the weights),
/// or saying that the sums overflow; std::invalid_argument; std::runtime_error on a CUDA failure.
void linear_gradients(ConstMatrixView x, const LinearModel& model, const double* share,
                      const double* v, std::int64_t k, const LinearGradients& out,
                      const Exec& exec = {});

}  // namespace tamis
