// What every backend of iterative_filter defines: the passes over rows. The loop that decides
// (src/iterative_filter.cpp) lies on the host and sees sums, histograms and projections of a few
// sampled rows; rows, weights and scores stay on their device.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "src/detail/block_krylov.hpp"
#include "src/detail/intervals.hpp"
#include "tamis/iterative_filter.hpp"

namespace tamis {
namespace detail {

/// Rows with |x - centre|^2 > radius2 are gross outliers. An infinite radius: none are.
struct Ball {
  std::vector<double> centre;
  double radius2 = kInfinity;
  double score =
      0.0;  ///< of a row on the border; one outside scores at least score |x - c|^2 / r^2
};

/// Sums over the rows as they are weighted now.
struct Survivors {
  std::vector<double> mean;
  double trace = 0.0;  ///< of the covariance
  double mass = 0.0;   ///< sum of weights
};

/// What a change of weights did.
struct Change {
  double moved = 0.0;     ///< sum of |new - old|
  double returned = 0.0;  ///< sum of the increases
  bool limited = false;   ///< the budget was exceeded, and the least severe rows came back
  bool overflow = false;  ///< support(): the distance of some row to the ball was not finite
  Survivors survivors;

  /// Adds what another part of the rows says; the survivors are not added.
  void add(const Change& part) {
    moved += part.moved;
    returned += part.returned;
    overflow = overflow || part.overflow;
  }
};

/// All that one sweep over the rows tells.
struct Sweep {
  Change change;
  std::vector<Histogram> histograms;  ///< of every cut
  Block image;                        ///< covariance of the rows that stay, times the block
  std::int64_t reads = 1;             ///< of x
};

/// What a sweep does: see FilterPasses::sweep.
struct SweepTask {
  const Ball& ball;
  const std::vector<Cut>& cuts;
  std::size_t recorded;                    ///< that many of the cuts, the first, define the support
  const std::vector<CentreScale>& scored;  ///< one a cut; none: no scores
  const Block& block;
  double budget;
};

/// How the soft family turns scores (tau) into weights.
struct Reweighting {
  FilterOptions::Rule rule;
  double bound = 0.0;  ///< fixed_fraction: rows with tau >= bound go
  double top = 1.0;    ///< the largest tau
  double power = 1.0;  ///< survive with (1 - tau / top)^power
  std::uint64_t seed = 0;
  std::uint64_t stream = 0;  ///< randomized: of the draws
};

/// Mass of the alive rows by tau: bin b holds tau / top in [2^((b - 960) / 16), one bin further).
inline constexpr int kOctaveBins = 16;
inline constexpr int kTauBins = 60 * kOctaveBins;

class FilterPasses {
 public:
  FilterPasses() = default;
  FilterPasses(const FilterPasses&) = delete;
  FilterPasses& operator=(const FilterPasses&) = delete;
  virtual ~FilterPasses() = default;

  // ---- a few rows, once ----------------------------------------------------------------------
  /// Median of every column over these rows, in x's type: the origin of all projections.
  virtual std::vector<double> coordinate_medians(const std::vector<std::int64_t>& rows) = 0;
  virtual std::vector<double> distances2(const std::vector<std::int64_t>& rows,
                                         const std::vector<double>& centre) = 0;
  virtual std::vector<double> pair_distances2(const std::vector<std::int64_t>& first,
                                              const std::vector<std::int64_t>& second) = 0;
  /// Fixes the origin and the sample; weights become 1, scores 0.
  virtual void begin(const std::vector<double>& origin,
                     const std::vector<std::int64_t>& sample) = 0;

  // ---- the sample ----------------------------------------------------------------------------
  virtual std::vector<double> sample_weights() = 0;
  /// Projections of x - origin, one direction after the other.
  virtual std::vector<double> project_sample(const Block& directions) = 0;
  virtual Block sample_covariance(const Block& v, const std::vector<double>& mean) = 0;

  // ---- passes over all rows ------------------------------------------------------------------
  /// support() of the recorded cuts, histograms() of all of them with scores, and the covariance of
  /// the rows that stay, about their mean, times a block: what a round needs, in one read where the
  /// backend can. Where the budget is exceeded nothing but `change.limited` counts.
  /// Here: one after the other.
  virtual Sweep sweep(const SweepTask& task);
  /// After that sweep: its recorded cuts become `moved`, whose bounds lie close to what they were.
  /// Weights follow, scores stay. No image. Here: two reads.
  virtual Sweep move_bounds(const SweepTask& task, const std::vector<Cut>& moved,
                            const Survivors& before);
  /// Sums of the rows under their weights. Not finite where the data are not, or overflow.
  virtual Survivors survivors() = 0;
  /// Says which row holds a NaN or an infinity; returns if none does.
  virtual void fail_on_bad_row() = 0;
  virtual Block covariance(const Block& v, const std::vector<double>& mean) = 0;
  /// A row stays if it is in the ball and in every interval. Scores become severities: the largest
  /// |z - centre| / scale over active cuts, beyond 1e6 outside the ball.
  virtual Change support(const Ball& ball, const std::vector<Cut>& cuts, double budget) = 0;
  /// One histogram a direction over the rows in the ball, by weight or each counting 1. A row
  /// inside every interval counts in all; another only for the first direction that excludes it,
  /// so each outlier is explained once and narrows no other interval. Unless `scored` is empty, it
  /// has one centre and scale a cut, and the same pass writes the scores of final_scores() for
  /// them.
  virtual std::vector<Histogram> histograms(const Ball& ball, const std::vector<Cut>& cuts,
                                            bool weighted,
                                            const std::vector<CentreScale>& scored) = 0;
  /// Scores become tau = sum_j ((z_j - centre_j) / scale_j)^2. Returns the largest of an alive row.
  virtual double standardised(const std::vector<Cut>& cuts) = 0;
  /// Scores become max_j ((z_j - centre_j) / scale_j)^2, and the ball's for rows outside it.
  virtual void final_scores(const Ball& ball, const std::vector<Cut>& cuts) = 0;

  // ---- weights and scores only ---------------------------------------------------------------
  virtual std::vector<double> tau_masses(double top) = 0;
  /// The count-th largest tau of an alive row.
  virtual double tau_bound(std::int64_t count) = 0;
  virtual Change reweigh(const Reweighting& how, double budget) = 0;
};

}  // namespace detail

namespace cpu {
std::unique_ptr<detail::FilterPasses> filter_passes(const ConstMatrixView& x,
                                                    const VectorView& weights,
                                                    const VectorView& scores, int num_threads);
}
namespace cuda {
std::unique_ptr<detail::FilterPasses> filter_passes(const ConstMatrixView& x,
                                                    const VectorView& weights,
                                                    const VectorView& scores, const Exec& exec);
}
}  // namespace tamis
