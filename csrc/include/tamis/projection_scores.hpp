// projection_scores: how far every row reaches along a few directions.
#pragma once

#include <cstdint>

#include "tamis/covariance_apply.hpp"
#include "tamis/exec.hpp"
#include "tamis/views.hpp"

namespace tamis {

/// scores[i] = || V^T (x_i - mu) ||^2.
///
/// - Shapes: x (n, d), float32 or float64, any row stride >= d, n >= 0, 1 <= d <= 65536; v (d, k)
///   row-major and dense, 1 <= k <= 256; mean d numbers, or null for the mean of the rows (one
///   more pass); scores n numbers of x's type. n = 0 does nothing.
/// - One pass over x, no workspace beyond V in x's type. Projections are summed in x's type with a
///   fixed shape: same bits for any number of threads, instruction set and grouping of rows.
/// - Aliasing: scores overlaps nothing. On CUDA every pointer lies on the device, and the call
///   waits for exec.stream.
/// @throws NonFiniteError naming the first row with a NaN or an infinity, or saying that the data
/// overflow; scores is then unspecified. std::invalid_argument; std::runtime_error on a CUDA
/// failure.
void projection_scores(ConstMatrixView x, const double* v, std::int64_t k, VectorView scores,
                       const double* mean = nullptr, const Exec& exec = {});

}  // namespace tamis
