// iterative_filter: the mean of rows of which a minority is arbitrary, by spectral filtering.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "tamis/covariance_apply.hpp"
#include "tamis/exec.hpp"
#include "tamis/views.hpp"

namespace tamis {

struct FilterOptions {
  /// How rows are removed along a direction whose spread clean rows do not explain.
  enum class Rule : std::uint8_t {
    gaussian_tail,       ///< beyond where a Gaussian tail explains less than a share 1/c of them
    bounded_covariance,  ///< beyond the widest interval whose variance is explained
    fixed_fraction,      ///< contamination / 4 of the rows a round, largest scores first
    soft,                ///< weights times (1 - score / max)^r
    randomized,          ///< kept with that probability
  };
  /// What is known of the covariance of clean rows.
  enum class Assume : std::uint8_t { identity, scale, none };

  Rule rule = Rule::gaussian_tail;
  Assume assume = Assume::none;
  double contamination = 0.1;  ///< in [0, 0.5); sets the budget only
  bool automatic = false;      ///< contamination unknown: the budget is half of the rows
  bool prune = true;           ///< drop rows outside a ball about the coordinate-wise median first
  bool readmit = true;         ///< score all rows again against the survivors until they are stable
  std::int64_t max_rounds = 50;
  double max_removed = 2.5;  ///< at most min(max_removed * contamination, 0.5) n rows go, in weight
  std::uint64_t seed = 0;
  /// Called between passes over x, on the calling thread; what it throws ends the call.
  std::function<void()> checkpoint = {};
};

struct FilterResult {
  enum class StopReason : std::uint8_t {
    eigenvalue_explained,  ///< noise alone explains the top eigenvalue of the survivors
    tails_explained,       ///< it is larger, but no direction has too many rows far out
    removal_limit,         ///< more would have gone than max_removed allows
    max_rounds,
    zero_variance,  ///< the survivors coincide
    too_few_rows,   ///< the budget is below one row
    no_contamination,
  };
  std::vector<double> mean;         ///< d: weights . X / sum of weights
  std::int64_t rounds = 0;          ///< eigensolves
  std::vector<double> eigenvalues;  ///< top eigenvalue of the survivors, one a round
  std::vector<double> directions;   ///< (d, m) row-major: the recorded ones, then the last top ones
  std::vector<double> centers;      ///< m: of the projection of clean rows
  std::vector<double> scales;       ///< m: their robust standard deviation
  std::int64_t cuts = 0;            ///< how many of the m define the support
  std::vector<double> ball_center;  ///< d: of the ball outside which rows were pruned
  double ball_radius = 0.0;         ///< infinity: nothing was pruned
  double ball_scale = 0.0;          ///< a row outside scores at least (distance / ball_scale)^2
  StopReason stop_reason = StopReason::max_rounds;
  double contamination = 0.0;  ///< share of the weight removed
  std::int64_t passes = 0;     ///< reads of x
};

/// Robust mean, weights and outlier scores of the rows of x.
///
/// - x (n, d), float32 or float64, any row stride >= d, n >= 1, 1 <= d <= 65536, finite; never
///   modified. weights and scores: n numbers of x's type each, overwritten, overlapping nothing.
///   weights lie in [0, 1]; scores[i] = max_j ((v_j . x_i - center_j) / scale_j)^2 over directions
///   (0 if there is none), so larger is more outlying; for a row outside the ball at least
///   (|x_i - ball_center| / ball_scale)^2.
/// - Numbers so large that squares overflow are outliers to the pruning step; without it they are
///   an error. Rows are never removed beyond the budget: the least outlying ones come back.
/// - Passes: 2 to 15 reads of x, most of them one product with 8 columns. Where x has four times
///   as many rows as the sample, max(4096, 4 d), and the rule is gaussian_tail with re-admission, a
///   round is one read on the CPU (docs/robust_mean.md, "sweeps"). Beyond x, weights and scores
///   nothing grows with n.
/// - Accumulators: as covariance_apply. Decisions along a direction are made on a 2048-bin
///   histogram of the projections: integer counts, so neither threads nor order matter.
/// - Determinism: a function of x, the options and the seed; not of threads or instruction set.
/// - On CUDA x, weights and scores lie on the device. Per round, sums of d numbers, histograms and
///   scalars cross; rows and scores do not.
/// @throws NonFiniteError naming the first row with a NaN or an infinity; std::invalid_argument;
/// std::runtime_error on a CUDA failure.
///
/// Source: Diakonikolas, Kamath, Kane, Li, Moitra and Stewart 2016 and 2017 (the filter); Dong,
/// Hopkins and Li 2019 (soft weights). docs/robust_mean.md has the departures and their reasons.
FilterResult iterative_filter(ConstMatrixView x, VectorView weights, VectorView scores,
                              const FilterOptions& options = {}, const Exec& exec = {});

}  // namespace tamis
