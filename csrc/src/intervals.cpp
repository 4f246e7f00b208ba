// Intervals of projections, from histograms. Past the usual 400 lines by a few: the rules share how
// a histogram is read.
#include "src/detail/intervals.hpp"

#include <algorithm>
#include <utility>

namespace tamis::detail {
namespace {

constexpr double kTailEvidence = 10.0;  // log-likelihood ratio
constexpr double kUnexplained = 2.0;    // second moment that goes, over the explained part of it
constexpr double kMinReach = 1.5;       // scales: a variance cut never goes deeper into the bulk
constexpr double kScaleLevel = 0.6;     // the robust scale is this quantile of |z - median| ...
constexpr double kScaleToSigma = 1.18818294989389;  // ... times 1 / Phi^-1(0.8)
constexpr double kScaleRelativeError = 1.04;        // times sigma / sqrt(n): its standard deviation
constexpr double kAtomBin = 0.04;  // a smooth density's fullest bin holds 0.0125 of the rows
constexpr double kAtomRows = 5.0;
constexpr double kAtomShare = 0.35;  // more than this in atoms: the data are discrete, and stay
constexpr double kTracyWidom = 4.0;
constexpr double kTie = 1e-6;  // bins: distances this close are equal
constexpr double kBelowOne =
    1.0 - 1e-12;                      // a level of 1 must not fall into an empty bin by rounding
constexpr int kCloseBins = 24;        // that a bound may move inwards without a sweep ...
constexpr double kCloseShare = 4e-3;  // ... past at most this share of Gaussian rows
constexpr double kTiny = 1e-300;

double upper_tail(double t) { return 0.5 * std::erfc(t * M_SQRT1_2); }
double density(double t) { return std::exp(-0.5 * t * t) / std::sqrt(2.0 * M_PI); }

/// Variance of a standard normal restricted to |z| <= t.
double truncated_variance(double t) {
  const double inside = std::max(1.0 - 2.0 * upper_tail(t), kTiny);
  return std::clamp(1.0 - 2.0 * t * density(t) / inside, 0.0, 1.0);
}

/// Bins in order of distance from `centre`, nearer first; of two as far but for rounding, the lower
/// one.
class Outward {
 public:
  Outward(const Histogram& h, int first, int last, double centre)
      : h_(h), first_(first), last_(last), centre_(centre) {
    left_ = first - 1;
    while (left_ < last && h.middle(left_ + 1) < centre) ++left_;
    right_ = left_ + 1;
  }
  bool next() {
    const double to_left = left_ >= first_ ? centre_ - h_.middle(left_) : kInfinity;
    const double to_right = right_ <= last_ ? h_.middle(right_) - centre_ : kInfinity;
    if (left_ < first_ && right_ > last_) return false;
    if (to_left <= to_right + kTie * h_.grid.width) {
      bin = left_--;
      distance = to_left;
    } else {
      bin = right_++;
      distance = to_right;
    }
    return true;
  }
  int bin = 0;
  double distance = 0.0;

 private:
  const Histogram& h_;
  int first_, last_;
  double centre_;
  int left_, right_;
};

/// The q-quantile of bins first .. last with these counts, linear inside its bin.
double quantile(const Histogram& h, int first, const std::vector<double>& counts, double q) {
  double total = 0.0;
  for (const double c : counts) total += c;
  const double target = q * total;
  double before = 0.0;
  std::size_t k = 0;
  while (k + 1 < counts.size() && before + counts[k] < target) before += counts[k++];
  const double inside = counts[k] > 0.0 ? (target - before) / counts[k] : 0.5;
  return h.middle(first + static_cast<int>(k)) + (inside - 0.5) * h.grid.width;
}

struct Location {
  double centre;
  double scale;  ///< an upper confidence bound of the robust scale
  double kept;   ///< rows in the bins
};

/// Median and scale of bins first .. last. `lower` and `upper` are how many clean rows are thought
/// to lie below and above: quantiles are those of the completed sample. Without this each cut would
/// shrink the scale, and the smaller scale would call for the next cut.
Location centre_and_scale(const Histogram& h, int first, int last, double lower, double upper) {
  double kept = 0.0;
  for (int b = first; b <= last; ++b) kept += h.counts[static_cast<std::size_t>(b)];
  if (!(kept > 0.0)) return {h.grid.origin, 0.0, 0.0};
  const auto counts = without_atoms(h.counts.data() + first, last - first + 1);
  double part = 0.0;
  for (const double c : counts) part += c;
  const double total = part + part / kept * (lower + upper);
  const double level = (0.5 * total - part / kept * lower) / part;
  const double centre = quantile(h, first, counts, std::clamp(level, 0.0, 1.0));
  const double target = std::min(kScaleLevel * total / part, kBelowOne) * part;
  Outward outward(h, first, last, centre);
  double before = 0.0;
  double scale = 0.0;
  while (outward.next()) {
    const double count = counts[static_cast<std::size_t>(outward.bin - first)];
    if (before + count >= target) {
      const double inside = count > 0.0 ? (target - before) / count : 0.5;
      scale = kScaleToSigma * (outward.distance + (inside - 0.5) * 0.5 * h.grid.width);
      break;
    }
    before += count;
    scale = kScaleToSigma * (outward.distance + 0.25 * h.grid.width);
  }
  if (scale < h.grid.width) {  // most rows share one value: fall back to the deviation
    double square = 0.0;
    for (int b = first; b <= last; ++b) {
      const double distance = h.middle(b) - centre;
      square += counts[static_cast<std::size_t>(b - first)] * distance * distance;
    }
    scale = std::sqrt(square / part);
  }
  return {centre, scale * (1.0 + 2.0 * kScaleRelativeError / std::sqrt(kept)), kept};
}

/// Where one side is cut: an edge, or -1. `distance(i)` is that of edge i from the centre, in
/// scales; `beyond[i]` the rows past it.
template <class Distance>
int cut_position(const Distance& distance, const std::vector<double>& beyond, double total,
                 double factor) {
  bool evidence = false;
  int best = -1;
  double largest = -kInfinity;
  for (int i = 0; i <= kBins; ++i) {
    const double rows = beyond[static_cast<std::size_t>(i)];
    const double t = distance(i);
    if (!(t >= 1.0) || !(rows > 0.0)) continue;
    const double expected = std::max(total * upper_tail(t), kTiny);
    const double surplus = rows - factor * expected;
    if (surplus > largest) {
      largest = surplus;
      best = i;
    }
    if (!evidence && surplus > 0.0) {
      evidence =
          rows * std::log(std::max(rows, kTiny) / expected) - rows + expected >= kTailEvidence;
    }
  }
  return evidence ? best : -1;
}

/// The bins inside the interval of a cut.
std::pair<int, int> bins_inside(const Histogram& h, const Cut& cut) {
  int first = 0;
  int last = kBins + 1;
  if (cut.lo > -kInfinity) {
    int i = 0;
    while (i <= kBins && h.grid.edge(i) < cut.lo) ++i;
    first = i + 1;
  }
  if (cut.hi < kInfinity) {
    int i = 0;
    while (i <= kBins && h.grid.edge(i) < cut.hi) ++i;
    last = i;
  }
  return {first, std::max(first, last)};
}

/// How far a bound `reach` scales from the centre may move towards it.
double way_in(const Cut& cut, double reach) {
  const double step = cut.grid.width / cut.scale;
  int bins = 0;
  while (bins < kCloseBins &&
         upper_tail(reach - (bins + 1) * step) - upper_tail(reach) <= kCloseShare) {
    ++bins;
  }
  return bins * cut.grid.width;
}

Cut uncut(Cut cut) {
  cut.lo = -kInfinity;
  cut.hi = kInfinity;
  return cut;
}

}  // namespace

double Histogram::middle(int bin) const {
  if (bin >= 1 && bin <= kBins) return grid.origin + grid.width * (bin - 1 - kBins / 2 + 0.5);
  const std::size_t side = bin == 0 ? 0 : 1;
  const double count = counts[side == 0 ? 0 : kBins + 1];
  const double far = count > 0.0 ? std::sqrt(square[side] / count) : grid.width * (kBins / 2);
  return side == 0 ? grid.origin - far : grid.origin + far;
}

double noise_edge(double n, std::int64_t d) {
  const double a = std::sqrt(std::max(n - 1.0, 1.0));
  const double b = std::sqrt(static_cast<double>(d));
  const double spread = (a + b) * std::cbrt(1.0 / a + 1.0 / b);
  return ((a + b) * (a + b) + kTracyWidom * spread) / std::max(n, 1.0);
}

std::vector<double> without_atoms(const double* counts, int size) {
  std::vector<double> out(counts, counts + size);
  double total = 0.0;
  for (const double c : out) total += c;
  const double cap = std::max(kAtomBin * total, kAtomRows);
  double capped = 0.0;
  for (const double c : out) capped += std::min(c, cap);
  if (capped >= (1.0 - kAtomShare) * total) {
    for (double& c : out) c = std::min(c, cap);
  }
  return out;
}

CloseRange close_to_lo(const Cut& cut) {
  if (!(cut.lo > -kInfinity)) return {};
  return {cut.lo, cut.lo + way_in(cut, (cut.centre - cut.lo) / cut.scale)};
}

CloseRange close_to_hi(const Cut& cut) {
  if (!(cut.hi < kInfinity)) return {};
  return {cut.hi - way_in(cut, (cut.hi - cut.centre) / cut.scale), cut.hi};
}

double rows_between(const Histogram& h, const Cut& a, const Cut& b) {
  const auto [first_a, last_a] = bins_inside(h, a);
  const auto [first_b, last_b] = bins_inside(h, b);
  double rows = 0.0;
  for (int bin = std::min(first_a, first_b); bin < std::max(first_a, first_b); ++bin) {
    rows += h.counts[static_cast<std::size_t>(bin)];
  }
  for (int bin = std::min(last_a, last_b) + 1; bin <= std::max(last_a, last_b); ++bin) {
    rows += h.counts[static_cast<std::size_t>(bin)];
  }
  return rows;
}

namespace {

/// Entries `below` and the next one of z in order; z is reordered. Of many numbers only those
/// between two that a few of them say lie around are looked at twice.
std::pair<double, double> neighbours(std::vector<double>& z, std::ptrdiff_t below) {
  constexpr std::ptrdiff_t kFew = 64;
  const auto size = static_cast<std::ptrdiff_t>(z.size());
  const std::ptrdiff_t next = std::min(below + 1, size - 1);
  if (size >= 8 * kFew) {
    std::array<double, kFew> few;
    for (std::ptrdiff_t i = 0; i < kFew; ++i) few[i] = z[i * size / kFew];
    std::sort(few.begin(), few.end());
    const std::ptrdiff_t at = below * kFew / size;
    const double lo = few[std::max<std::ptrdiff_t>(at - 12, 0)];
    const double hi = few[std::min<std::ptrdiff_t>(at + 12, kFew - 1)];
    std::vector<double> inside(z.size());
    std::ptrdiff_t count = 0;
    std::ptrdiff_t under = 0;
    for (const double x : z) {
      inside[count] = x;
      count += static_cast<std::ptrdiff_t>((x >= lo) & (x <= hi));
      under += static_cast<std::ptrdiff_t>(x < lo);
    }
    if (under <= below && next < under + count) {
      const auto a = inside.begin() + (below - under);
      const auto end = inside.begin() + count;
      std::nth_element(inside.begin(), a, end);
      return {*a, next > below ? *std::min_element(a + 1, end) : *a};
    }
  }
  const auto a = z.begin() + below;
  std::nth_element(z.begin(), a, z.end());
  return {*a, next > below ? *std::min_element(a + 1, z.end()) : *a};
}

}  // namespace

double quantile_of(std::vector<double>& z, double q) {
  for (double& x : z) x = std::isnan(x) ? kInfinity : x;
  const double at = q * static_cast<double>(z.size() - 1);
  const auto below = static_cast<std::ptrdiff_t>(at);
  const double t = at - static_cast<double>(below);
  const auto [a, b] = neighbours(z, below);
  if (t == 0.0) return a;
  return t < 0.5 ? a + (b - a) * t : b - (b - a) * (1.0 - t);
}

CentreScale robust_scale(std::vector<double>& z) {
  const double centre = quantile_of(z, 0.5);
  double mean = 0.0;
  for (const double x : z) mean += x;
  mean /= static_cast<double>(z.size());
  double square = 0.0;
  for (double& x : z) {
    square += (x - mean) * (x - mean);
    x = std::abs(x - centre);
  }
  const double scale = kScaleToSigma * quantile_of(z, kScaleLevel);
  return {centre, scale > 0.0 ? scale : std::sqrt(square / static_cast<double>(z.size()))};
}

Cut tail_cut(const Histogram& h, Cut cut, const Spread& spread) {
  auto [first, last] = bins_inside(h, cut);
  std::vector<double> above(kBins + 1);  // rows at or above each edge
  std::vector<double> below(kBins + 1);  // rows under it
  double sum = 0.0;
  for (int i = kBins; i >= 0; --i) {
    above[static_cast<std::size_t>(i)] = sum += h.counts[static_cast<std::size_t>(i + 1)];
  }
  sum = 0.0;
  for (int i = 0; i <= kBins; ++i) {
    below[static_cast<std::size_t>(i)] = sum += h.counts[static_cast<std::size_t>(i)];
  }
  double centre = cut.centre;
  double scale = cut.scale;
  std::vector<std::pair<int, int>> seen;
  constexpr std::size_t kMaxSteps = 20;
  while (seen.size() < kMaxSteps &&
         std::find(seen.begin(), seen.end(), std::pair(first, last)) == seen.end()) {
    seen.emplace_back(first, last);
    double kept = 0.0;
    for (int b = first; b <= last; ++b) kept += h.counts[static_cast<std::size_t>(b)];
    // Clean rows that the bounds cut off: what is expected there, at most what is there.
    double lower = 0.0;
    double upper = 0.0;
    if (first > 0) {
      const double expected = kept * upper_tail((centre - h.grid.edge(first - 1)) / scale);
      lower = std::min(expected, below[static_cast<std::size_t>(first - 1)]);
    }
    if (last <= kBins) {
      const double expected = kept * upper_tail((h.grid.edge(last) - centre) / scale);
      upper = std::min(expected, above[static_cast<std::size_t>(last)]);
    }
    const Location found = centre_and_scale(h, first, last, lower, upper);
    centre = found.centre;
    scale = std::min(std::max(found.scale, spread.scale_lo), spread.scale_hi);
    if (!(found.kept > 0.0) || !(scale > 0.0)) return uncut(std::move(cut));
    const double total = found.kept + lower + upper;
    const int right = cut_position([&](int i) { return (h.grid.edge(i) - centre) / scale; }, above,
                                   total, spread.factor);
    const int left = cut_position([&](int i) { return (centre - h.grid.edge(i)) / scale; }, below,
                                  total, spread.factor);
    first = left < 0 ? 0 : left + 1;
    last = right < 0 ? kBins + 1 : right;
  }
  cut.centre = centre;
  cut.scale = scale;
  cut.lo = first == 0 ? -kInfinity : h.grid.edge(first - 1);
  cut.hi = last == kBins + 1 ? kInfinity : h.grid.edge(last);
  return cut;
}

Cut variance_cut(const Histogram& h, Cut cut, const Spread& spread) {
  const auto [first, last] = bins_inside(h, cut);
  const Location found = centre_and_scale(h, first, last, 0.0, 0.0);
  if (!(found.kept > 0.0)) return uncut(std::move(cut));
  const double target =
      std::min(std::max(found.scale * found.scale, spread.variance_lo), spread.variance_hi);
  const double sigma = std::sqrt(std::max(target, kTiny));
  const double slack = 1.0 + 3.0 * std::sqrt(2.0 / found.kept);
  double mass_of_all = 0.0;
  double square_of_all = 0.0;
  for (Outward all(h, 0, kBins + 1, found.centre); all.next();) {
    const double count = h.counts[static_cast<std::size_t>(all.bin)];
    mass_of_all += count;
    square_of_all += count * all.distance * all.distance;
  }
  double mass = 0.0;
  double linear = 0.0;
  double square = 0.0;
  int lowest = kBins + 1;
  int highest = 0;
  struct {
    double ratio = kInfinity;
    int lowest = 0, highest = kBins + 1;
    double mass = 0.0;
  } widest, least;  // widest explained; least unexplained
  bool explained = false;
  int position = 0;
  for (Outward bins(h, 0, kBins + 1, found.centre); bins.next(); ++position) {
    const double count = h.counts[static_cast<std::size_t>(bins.bin)];
    const double offset = h.middle(bins.bin) - found.centre;
    mass += count;
    linear += count * offset;
    square += count * offset * offset;
    lowest = std::min(lowest, bins.bin);
    highest = std::max(highest, bins.bin);
    const bool all = position == kBins + 1;
    const double t = (bins.distance + 0.5 * h.grid.width) / sigma;
    if (!all && (!(t >= kMinReach) || !(mass > 0.0))) continue;
    const double mean = linear / mass;
    const double variance = square / mass - mean * mean;
    double ratio = 0.0;
    if (all) {
      ratio = variance / std::max(target * slack, kTiny);
    } else {
      const double beyond = std::max(square_of_all - square, 0.0);
      const double gaussian = mass_of_all * target * 2.0 * (t * density(t) + upper_tail(t));
      if (beyond < kUnexplained * gaussian) continue;
      ratio = variance / std::max(target * slack * truncated_variance(t), kTiny);
    }
    if (ratio <= 1.0) {
      explained = true;
      widest = {ratio, lowest, highest, mass};
    }
    if (ratio < least.ratio) least = {ratio, lowest, highest, mass};
  }
  const auto& kept = explained ? widest : least;
  cut.centre = found.centre;
  cut.scale = sigma;
  if (!(mass_of_all - kept.mass > 0.0)) return uncut(std::move(cut));
  cut.lo = kept.lowest > 0 ? h.grid.edge(kept.lowest - 1) : -kInfinity;
  cut.hi = kept.highest <= kBins ? h.grid.edge(kept.highest) : kInfinity;
  return cut;
}

}  // namespace tamis::detail
