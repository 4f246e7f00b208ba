// The loop of the filter: what to look at next, what to cut, and when to stop.
//
// State is a ball and a list of cuts (direction, interval); a row survives if it is in all of them.
// So re-admission is nothing but finding the intervals again from all rows. Rows are behind
// FilterPasses, on whatever device.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "src/detail/block_krylov.hpp"
#include "src/detail/intervals.hpp"
#include "src/detail/iterative_filter_backend.hpp"
#include "tamis/iterative_filter.hpp"

namespace tamis::detail {

inline constexpr std::int64_t kSampleRows = 4096;  ///< that start the eigensolver, lay the grids
inline constexpr std::int64_t kFewRows = 1024;     ///< whose median is the origin
inline constexpr double kSettled = 1e-4;           ///< share of the rows that may still move
inline constexpr std::int64_t kBlockSize = 8;      ///< vectors multiplied at once
inline constexpr std::int64_t kDirections = 4;     ///< examined in a round
inline constexpr std::int64_t kKrylovPasses = 4;   ///< over all rows, per round
inline constexpr double kKrylovTol = 0.03;         ///< on the leading pairs
inline constexpr std::int64_t kLeading = 2;

class FilterLoop {
 public:
  FilterLoop(FilterPasses& passes, std::int64_t n, std::int64_t d, const FilterOptions& options);
  FilterResult run();

  // ---- what a stream carries on after run() ----------------------------------------------------

  const Ball& ball() const { return ball_; }
  std::vector<Cut>& cuts() { return cuts_; }
  const Block& last_directions() const { return last_.vectors; }
  const std::vector<double>& origin() const { return origin_; }
  double most_removed() const { return most_removed_; }
  /// These are the survivors now.
  void adopt(const Survivors& now) {
    now_ = now;
    spread_.reset();
  }
  /// Empty cuts, their grids laid by the surviving rows of the sample.
  std::vector<Cut> empty_cuts(const Block& directions);
  /// What clean rows may do along one direction, given the survivors.
  const Spread& spread();
  /// The eigenvalue above which a direction is looked at.
  double eigenvalue_threshold(const Spread& spread) const;
  /// The interval that the histogram of a direction justifies.
  Cut find(const Histogram& h, const Cut& cut, const Spread& spread) const;

 private:
  // ---- passes ----------------------------------------------------------------------------------

  FilterPasses& count_pass();
  std::int64_t sample_size() const { return std::min(n_, std::max(kSampleRows, 4 * d_)); }
  void start();
  static bool finite(const Survivors& s);

  /// @throws NonFiniteError if the rows that are left still overflow.
  static void need_finite(const Survivors& s);
  void adopt(const Change& change);
  bool changed(const Change& change) const;

  // ---- scales ----------------------------------------------------------------------------------

  /// A robust variance per column: |x - y|^2 / 2 is s^2 times a chi-squared with d degrees of
  /// freedom for two clean rows; its 40% point by Wilson and Hilferty 1931.
  double pair_scale2();

  /// The share of the surviving rows that repeat one another. Rows that coincide in space coincide
  /// along a random direction; they add nothing to the variance of the others, so trace and pair
  /// distances are too small by this factor.
  double atom_share();
  Spread measured_spread();

  /// The ball outside which rows are gross outliers. The radius is measured: median distance, plus
  /// the chi-squared deviation of Laurent and Massart 2000 (Lemma 1) where the spread is known; or
  /// where only the covariance is bounded, by Markov's inequality.
  ///
  /// Departure from [DKKLMS17]: not 0.33 sqrt(d log(n / eps)), which prunes good rows at small d
  /// and nothing at large d.
  void measure_ball();
  /// Before there are cuts: takes out the rows beyond the ball.
  void apply_ball();
  void recentre_ball();

  // ---- sweeps: filter_sweeps.cpp ---------------------------------------------------------------

  /// Whether there are so many rows that reads of them take the time; and whether the rule decides
  /// by tails: by variances, provisional intervals cost accuracy.
  bool many_rows() const;

  /// Rounds of one read each: what applies the cuts also counts, scores and multiplies, so new
  /// directions are cut by what the sample says of them until the same read has said better.
  /// Nothing where the budget is exceeded or the cuts do not come to rest: then rounds() go on.
  std::optional<FilterResult::StopReason> sweeps();

  /// The recorded cuts of a sweep get the bounds that it found, if these are close. Nothing happens
  /// if they are not, or if too many rows would go: another sweep then has to say what follows.
  bool move_bounds(const SweepTask& task, const std::vector<Cut>& found);

  /// A sample with rows outside the ball says nothing: then the ball is applied first.
  void prune_sample();
  void remember(const std::vector<double>& values, const Block& vectors);

  /// What the next sweep has to do.
  struct Look {
    std::vector<Cut> chain;  ///< recorded cuts, the last with provisional intervals; then others
    std::size_t recorded = 0;
    std::vector<CentreScale> scored;
    Block block;  ///< to be multiplied; the first are those of the chain that are not recorded
  };
  Look look_at(const KrylovResult& top);
  /// Whether the leading directions that a sweep has found are those that it has examined: none has
  /// a much larger variance.
  bool examined(const Look& look, const Block& image, const std::vector<double>& values,
                double threshold) const;

  // ---- directions ------------------------------------------------------------------------------

  /// The top directions of the sample about `mean`: where passes over all rows begin.
  Block sample_start(const std::vector<double>& mean);
  KrylovResult top_directions();

  /// An empty cut, its grid laid by the surviving rows of the sample.
  static Cut lay_grid(const double* direction, const double* z, const std::vector<double>& weights,
                      std::int64_t d);
  static Histogram sample_histogram(const Cut& cut, const double* z,
                                    const std::vector<double>& weights);

  /// Cuts along the candidates with provisional intervals, found on the surviving sample. Greedy:
  /// take the interval of largest reach, drop what it excludes, look again. What is left comes
  /// last, without an interval. `scored` receives what each is scored by, in the same order.
  std::vector<Cut> provisional(const Block& candidates, const Spread& spread,
                               std::vector<CentreScale>& scored);

  /// What clean rows do along a top direction without a cut: about the mean, with the sample's
  /// scale.
  CentreScale scored_by(const Cut& grid, const Spread& spread) const;

  // ---- rounds ----------------------------------------------------------------------------------

  FilterResult::StopReason rounds();
  double distance2_to_origin() const;

  /// Returns the cuts of new directions that have something to cut. Where all rows count, the
  /// intervals of the recorded cuts are found anew too: `moved` says whether that matters, and if
  /// it does not they stay as they are.
  std::vector<Cut> examine(bool& moved);
  Change remove(std::vector<Cut> suspicious);

  /// Scores every row again against the survivors; returns whether the support changed.
  bool readmit();

  // ---- the end ---------------------------------------------------------------------------------

  /// The last top directions as cuts without an interval.
  std::vector<Cut> last_as_cuts();
  FilterResult result(FilterResult::StopReason reason);
  FilterPasses& passes_;
  std::int64_t n_, d_;
  FilterOptions options_;
  double share_;         ///< contamination as stated
  bool hard_;            ///< weights are 0 or 1 and follow from ball and cuts
  bool whole_;           ///< every round scores all rows again
  bool tail_family_;     ///< decides by tails, not by variances
  double most_removed_;  ///< share of the rows that may go
  double budget_;        ///< the same in rows
  bool limited_ = false;
  bool scored_ = false;         ///< the scores are those of cuts_ and last_
  std::vector<Cut> looked_at_;  ///< by the last sweep, if it was the end: what rows are scored by
  int draws_ = 0;
  std::vector<std::int64_t> few_;
  std::vector<double> origin_;
  double pair_scale2_ = 0.0;
  Ball ball_;
  std::vector<Cut> cuts_;
  Survivors now_;
  std::optional<Spread> spread_;     ///< of the rows that survive now, once it has been asked for
  std::vector<double> along_atoms_;  ///< the sample's projections for atom_share()
  KrylovResult last_;
  FilterResult result_;
};

}  // namespace tamis::detail
