// weighted_sums: a few weighted sums of the same rows, in one read of them.
#pragma once

#include "tamis/covariance_apply.hpp"
#include "tamis/exec.hpp"
#include "tamis/views.hpp"

namespace tamis {

/// Y = U X: row c of y is sum_i u_ci x_i.
///
/// - Shapes: x (n, d), float32 or float64, any row stride >= d, n >= 1, 1 <= d <= 65536; u (j, n)
///   of x's type, any row stride >= n, 1 <= j <= 256; y (j, d) row-major and dense.
/// - Weights: finite, of any sign. A row of x whose j weights are all 0 is not looked at.
/// - One pass over x. Workspace: at most 64 j d float64, and never more than 64 MiB beyond j d of
///   them.
/// - Accumulators: sums over 128 rows in x's type, sums of those in float64; y is float64. On CUDA
///   float32 sums are over 8 rows at a time, and those over at most 2048.
/// - Determinism: the same bits for any number of threads and any CPU instruction set. Blocks of
///   rows depend on n, d and j only, and are added in order.
/// - Aliasing: y overlaps nothing. On CUDA every pointer lies on the device; the call waits for
///   exec.stream, because bad data is an error the caller must see.
/// @throws NonFiniteError naming the first row (that has a weight) with a NaN or an infinity, or
/// saying that the sums overflow; std::invalid_argument; std::runtime_error on a CUDA failure.
void weighted_sums(ConstMatrixView x, ConstMatrixView u, double* y, const Exec& exec = {});

}  // namespace tamis
