// Eigendecomposition of the small projected matrices of a Krylov space.
#pragma once

#include <cstdint>
#include <vector>

namespace tamis::detail {

struct SmallEigen {
  std::vector<double> values;   ///< m, largest first
  std::vector<double> vectors;  ///< m vectors of m numbers, one after the other
};

/// All eigenpairs of the symmetric m x m matrix `a` (row-major; only symmetric input makes sense).
/// Householder reduction to tridiagonal form and implicit QL: O(m^3), for m up to a few hundred.
/// Source: Golub and Van Loan, "Matrix Computations", 4th ed., 8.3.
SmallEigen symmetric_eigen(std::vector<double> a, std::int64_t m);

}  // namespace tamis::detail
