// One direction: a histogram of the projections, and the interval that it justifies.
//
// Everything along a direction is decided on counts, so a decision depends neither on threads nor
// on the order of rows, nothing is sorted, and memory does not grow with n.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace tamis::detail {

inline constexpr int kBinsPerScale = 32;
inline constexpr int kHalfRange = 32;  ///< scales on either side; what lies beyond overflows
inline constexpr int kBins = 2 * kHalfRange * kBinsPerScale;
inline constexpr int kSlots = kBins + 2;  ///< with the overflows
inline constexpr double kInfinity = std::numeric_limits<double>::infinity();
inline constexpr double kOne = 4294967296.0;  ///< 2^32: a count is an integer of this unit

/// Where the bins of a direction lie. Fixed when the direction is recorded, so that intervals can
/// come to rest.
struct Grid {
  double origin = 0.0;
  double width = 1.0;

  /// 0 and kBins + 1 are the overflows.
  int bin(double z) const {
    const double position = (z - origin) / width;
    if (!(position >= -kBins / 2)) return 0;
    if (position >= kBins / 2) return kBins + 1;
    const int whole = static_cast<int>(position);  // floor() is a library call on the baseline
    return whole - (position < whole ? 1 : 0) + kBins / 2 + 1;
  }
  /// Lower edge of bin 1 + i; i = kBins gives the upper edge of the last.
  double edge(int i) const { return origin + width * (i - kBins / 2); }
};

/// Weighted counts of one projection, and the overflows' sums of (z - origin)^2.
struct Histogram {
  Grid grid;
  std::vector<double> counts = std::vector<double>(kSlots, 0.0);
  std::array<double, 2> square{};

  /// Middle of a bin; an overflow bin stands at the root of its mean square.
  double middle(int bin) const;
};

/// A recorded direction and the interval [lo, hi) of its projection that is kept. Positions are
/// projections of x - origin for the fixed origin of the run.
struct Cut {
  std::vector<double> direction;
  double centre = 0.0;
  double scale = 1.0;
  Grid grid;
  double lo = -kInfinity;
  double hi = kInfinity;

  bool active() const { return lo > -kInfinity || hi < kInfinity; }
  bool keeps(double z) const { return z >= lo && z < hi; }
  /// Distance of the nearer bound from the centre, in scales: how well the direction separates.
  double reach() const {
    const double right = hi - centre;
    const double left = centre - lo;
    return (right < left ? right : left) / scale;
  }
};

/// Where the lower bound of a cut may move without another look at all rows, and where the upper:
/// a little outwards, where there may be many rows; further inwards, but past few of the rows that
/// a Gaussian has there. Nowhere if there is no bound.
struct CloseRange {
  double from = kInfinity;
  double to = -kInfinity;

  bool holds(double z) const { return z >= from && z <= to; }
};
CloseRange close_to_lo(const Cut& cut);
CloseRange close_to_hi(const Cut& cut);

/// What is taken for granted about the spread of clean rows along any direction. The robust scale
/// is clipped to scale_lo .. scale_hi for a tail cut, its square to variance_lo .. variance_hi for
/// a variance cut; the upper ends leave room for the in-sample variance along a fitted direction.
struct Spread {
  double scale_lo = 0.0;
  double scale_hi = kInfinity;
  double variance_lo = 0.0;
  double variance_hi = kInfinity;
  double factor = 2.0;  ///< how many times the expected rows must lie beyond a tail cut
};

/// The interval outside which more rows lie than a Gaussian tail explains.
///
/// For each side let N(T) be the rows beyond T scales from the median and E(T) what a Gaussian tail
/// predicts. A side is cut if some T with N > c E has log-likelihood ratio N log(N/E) - N + E of 10
/// or more [BerkJones79]: one gross row among many is evidence enough, and on clean data nothing
/// is. It is cut where N - c E is largest: then every shell that goes holds at least a share
/// 1 - 1/c of bad rows, the invariant of [DKKLMS16], and neither the contamination nor a single
/// order statistic enters. Median and scale are those of the rows inside, to a fixed point.
///
/// Departure from [DKKLMS17], whose walk stops at the first violation of a bound with slack and
/// takes about 10% of the good rows along.
Cut tail_cut(const Histogram& h, Cut cut, const Spread& spread);

/// The widest interval about the median whose rows have an explained variance: that of a Gaussian
/// of the target variance, truncated alike. Of the second moment that goes, at least half must be
/// more than that Gaussian has out there, else the excess sits in the bulk and mostly good rows
/// would go.
Cut variance_cut(const Histogram& h, Cut cut, const Spread& spread);

/// The rows counted between the bounds of two intervals of one direction: how many would change
/// sides if one took the other's place.
double rows_between(const Histogram& h, const Cut& a, const Cut& b);

/// The largest eigenvalue that sampling noise alone explains for n rows of covariance I: the
/// Marchenko-Pastur edge plus four Tracy-Widom deviations (exceeded with probability 2e-4).
/// Source: Johnstone, Ann. Statist. 29, 2001, Theorem 1.1.
double noise_edge(double n, std::int64_t d);

/// Counts with point masses capped, if a minority of the rows sits in them. No smooth density puts
/// more than about 1.3% of the rows into one bin; an outlier repeated many times does, and would
/// shift centre and scale in every direction.
std::vector<double> without_atoms(const double* counts, int size);

/// Median and robust scale of a sample: the 60% quantile of |z - median|, as a standard deviation;
/// the plain deviation if most of the sample is one value. Reorders z.
struct CentreScale {
  double centre;
  double scale;
};
CentreScale robust_scale(std::vector<double>& z);

/// The q-quantile, linear between order statistics; a NaN counts as infinity. Reorders z, which is
/// not empty.
double quantile_of(std::vector<double>& z, double q);

}  // namespace tamis::detail
