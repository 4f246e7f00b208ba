// power_iteration: the top eigenpairs of the weighted covariance of the rows, never formed.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "tamis/covariance_apply.hpp"
#include "tamis/exec.hpp"
#include "tamis/views.hpp"

namespace tamis {

struct PowerIterationOptions {
  enum class Method : std::uint8_t {
    lanczos,  ///< block Lanczos with full reorthogonalisation, thick restart
    power,    ///< orthogonal iteration with Rayleigh-Ritz; plain power iteration for k = 1
  };
  Method method = Method::lanczos;
  double tol = 1e-4;            ///< stop when every ||A v - value v|| <= tol * values[0]
  std::int64_t max_iter = 100;  ///< applications of the covariance to a block, at least 1
  const double* init =
      nullptr;  ///< (d, init_columns) row-major, on the host; null: a row subsample
  std::int64_t init_columns = 0;
  std::uint64_t seed = 0;
  /// Called between passes over x, on the calling thread; what it throws ends the call.
  std::function<void()> checkpoint = {};
};

struct EigenResult {
  std::vector<double> values;     ///< k, largest first, >= 0
  std::vector<double> vectors;    ///< (d, k) row-major, orthonormal, largest entry of each positive
  std::vector<double> residuals;  ///< k: ||A v - value v||
  std::int64_t iterations = 0;    ///< applications to a block of all rows: passes over x
  bool converged = false;
  /// The k-th and the next Ritz value cannot be told apart at this tolerance: the vectors are one
  /// basis of an invariant subspace, and another start gives another basis.
  bool clustered = false;
};

/// The top k eigenpairs of sum_i w_i (x_i - mu) (x_i - mu)^T / sum w.
///
/// - x, weights, mean: as in covariance_apply. 1 <= k <= min(d, 252).
/// - Starts from the eigenvectors of a subsample of min(max(4096, 4 d), n / 8) rows, so that the
///   passes over all rows only polish them. The block is k + 1 wide (at most d), which shows
///   whether the k-th value is repeated; wider ones take as many passes, each longer.
/// - Rank below k: zero values with some orthonormal vectors. Never NaN.
/// - Workspace: at most 2 * 256 vectors of d float64, and that of covariance_apply.
/// - Determinism: a function of the arguments and the seed; not of threads or instruction set. On
///   CUDA x, weights and mean lie on the device; blocks of d * (k + 1) numbers cross per pass.
/// - Not converging within max_iter is data (`converged`), not an error.
/// @throws as covariance_apply.
///
/// Source: Musco and Musco, "Randomized block Krylov methods", NeurIPS 2015 (the space); Wu and
/// Simon, SIAM J. Matrix Anal. Appl. 22, 2000 (thick restart).
EigenResult power_iteration(ConstMatrixView x, std::int64_t k, ConstVectorView weights = {},
                            const double* mean = nullptr, const PowerIterationOptions& options = {},
                            const Exec& exec = {});

}  // namespace tamis
