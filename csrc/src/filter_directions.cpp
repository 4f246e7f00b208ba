// What the filter's loop looks at: scales, the ball, top directions, provisional cuts.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "src/detail/filter_loop.hpp"
#include "src/detail/uniform_hash.hpp"

namespace tamis::detail {
namespace {

using Assume = FilterOptions::Assume;

constexpr std::int64_t kPairs = 4096;  // whose distances give the scale: 1.7% error at d = 5
constexpr std::int64_t kSamplePasses = 6;
constexpr double kSampleTol = 1e-2;
constexpr double kOwnScaleFactor = 3.0;        // tail factor where the scale itself is a guess
constexpr double kHeavyVarianceRatio = 2.333;  // variance of t_3 over the squared quartile scale
constexpr double kMarkovRadius2 =
    100.0;                             // in median squared distances: keeps 99% of any clean rows
constexpr double kPairQuantile = 0.4;  // stands until (1 - eps)^2 < 0.4, eps = 0.37
constexpr double kPairNormal = -0.2533471031357997;  // Phi^-1(0.4)

}  // namespace

double FilterLoop::pair_scale2() {
  if (n_ < 2) return 0.0;
  const std::int64_t size = n_ < 100000 ? std::min(kPairs, n_ * (n_ - 1) / 2) : kPairs;
  std::vector<std::int64_t> first(static_cast<std::size_t>(size));
  std::vector<std::int64_t> second(first.size());
  for (std::size_t p = 0; p < first.size(); ++p) {
    const auto n = static_cast<double>(n_);
    first[p] = static_cast<std::int64_t>(uniform_hash(options_.seed, kPairFirstStream, p) * n);
    second[p] =
        static_cast<std::int64_t>(uniform_hash(options_.seed, kPairSecondStream, p) * (n - 1.0));
    second[p] += second[p] >= first[p] ? 1 : 0;
  }
  std::vector<double> half = passes_.pair_distances2(first, second);
  for (double& h : half) h *= 0.5;
  const auto d = static_cast<double>(d_);
  const double root = 1.0 - 2.0 / (9.0 * d) + kPairNormal * std::sqrt(2.0 / (9.0 * d));
  return quantile_of(half, kPairQuantile) / (d * root * root * root);
}

double FilterLoop::atom_share() {
  Block v{d_, gaussian_block(d_, 1, options_.seed, kAtomStream)};
  const double length = std::max(std::sqrt(std::inner_product(v[0], v[0] + d_, v[0], 0.0)), 1e-300);
  for (double& x : v.numbers) x /= length;
  if (along_atoms_.empty()) along_atoms_ = passes_.project_sample(v);
  const double* z = along_atoms_.data();
  const std::vector<double> weights = passes_.sample_weights();
  const Histogram h = sample_histogram(lay_grid(v[0], z, weights, d_), z, weights);
  double total = 0.0;
  for (const double c : h.counts) total += c;
  if (!(total > 0.0)) return 0.0;
  double capped = 0.0;
  for (const double c : without_atoms(h.counts.data(), kBins + 2)) capped += c;
  return 1.0 - capped / total;
}

const Spread& FilterLoop::spread() {
  if (!spread_) spread_ = measured_spread();
  return *spread_;
}

Spread FilterLoop::measured_spread() {
  const double edge = noise_edge(now_.mass, d_);
  const double fitted = 1.0 + static_cast<double>(d_) / std::max(now_.mass, 1.0);
  if (options_.assume == Assume::identity) return {1.0, std::sqrt(edge), 1.0, fitted, 2.0};
  const double average = now_.trace / static_cast<double>(d_);
  const double loose = tail_family_ ? 1.0 : kHeavyVarianceRatio;
  double s2 = pair_scale2_ > 0.0 ? std::min(average, loose * pair_scale2_) : average;
  s2 /= 1.0 - atom_share();
  const double s = std::sqrt(s2);
  if (options_.assume == Assume::scale) return {s, s * std::sqrt(edge), s2, s2 * fitted, 2.0};
  return {0.0, kInfinity, s2, kInfinity, kOwnScaleFactor};
}

void FilterLoop::measure_ball() {
  std::vector<double> distance2 = passes_.distances2(few_, ball_.centre);
  const auto count = static_cast<double>(distance2.size());
  const double middle = quantile_of(distance2, 0.5);
  if (!(middle > 0.0)) return;
  if (tail_family_ && options_.assume != Assume::none) {
    const double s2 = options_.assume == Assume::identity ? 1.0 : pair_scale2_;
    const double log_n = std::log(100.0 * static_cast<double>(n_));
    ball_.radius2 = middle + 2.0 * std::sqrt(middle * s2 * log_n) + 2.0 * s2 * log_n;
    const auto outside = static_cast<double>(std::count_if(
        distance2.begin(), distance2.end(), [&](double x) { return x > ball_.radius2; }));
    if (outside / count <= share_ + 3.0 * std::sqrt(share_ / count)) return;
    // else so many rows are far out that the tails cannot be Gaussian
  }
  ball_.radius2 = kMarkovRadius2 * middle;
}

void FilterLoop::recentre_ball() {
  if (!std::isfinite(ball_.radius2)) return;
  ball_.centre = now_.mean;
  measure_ball();
}

Block FilterLoop::sample_start(const std::vector<double>& mean) {
  const std::int64_t width = std::min(kBlockSize, d_);
  Block start{d_, gaussian_block(d_, width, options_.seed, kFilterStartStream)};
  const std::vector<double> weights = passes_.sample_weights();
  const double mass = std::accumulate(weights.begin(), weights.end(), 0.0);
  if (static_cast<std::int64_t>(weights.size()) < 2 * width || !(mass > 0.0)) return start;
  const auto apply = [&](const Block& v) { return passes_.sample_covariance(v, mean); };
  return block_krylov(apply, start,
                      KrylovOptions{.wanted = std::min(kDirections, width),
                                    .returned = width,
                                    .tol = kSampleTol,
                                    .max_passes = kSamplePasses,
                                    .seed = options_.seed})
      .vectors;
}

KrylovResult FilterLoop::top_directions() {
  const std::int64_t width = std::min(kBlockSize, d_);
  const auto apply = [&](const Block& v) { return count_pass().covariance(v, now_.mean); };
  auto found = block_krylov(apply, sample_start(now_.mean),
                            KrylovOptions{.wanted = std::min(kLeading, width),
                                          .returned = std::min(kDirections, width),
                                          .tol = kKrylovTol,
                                          .max_passes = kKrylovPasses,
                                          .seed = options_.seed});
  orient(found.vectors);  // a mirrored histogram could decide differently
  return found;
}

Cut FilterLoop::lay_grid(const double* direction, const double* z,
                         const std::vector<double>& weights, std::int64_t d) {
  std::vector<double> alive;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] > 0.5 && std::isfinite(z[i])) alive.push_back(z[i]);
  }
  if (alive.empty()) alive.assign(1, 0.0);
  auto [centre, scale] = robust_scale(alive);
  if (!(scale > 0.0)) scale = 1.0;
  Cut cut;
  cut.direction.assign(direction, direction + d);
  cut.centre = centre;
  cut.scale = scale;
  cut.grid = {centre, scale / kBinsPerScale};
  return cut;
}

std::vector<Cut> FilterLoop::empty_cuts(const Block& directions) {
  const std::vector<double> z = passes_.project_sample(directions);
  const std::vector<double> weights = passes_.sample_weights();
  std::vector<Cut> out;
  for (std::int64_t c = 0; c < directions.count(); ++c) {
    const double* projections = z.data() + static_cast<std::size_t>(c) * weights.size();
    out.push_back(lay_grid(directions[c], projections, weights, d_));
  }
  return out;
}

double FilterLoop::eigenvalue_threshold(const Spread& spread) const {
  // Of an unknown covariance no variance is too large by itself: look at the tails.
  if (options_.assume == Assume::none && tail_family_) return 0.0;
  return spread.variance_lo * noise_edge(now_.mass, d_);
}

Histogram FilterLoop::sample_histogram(const Cut& cut, const double* z,
                                       const std::vector<double>& weights) {
  Histogram h;
  h.grid = cut.grid;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (!(weights[i] > 0.0) || !std::isfinite(z[i])) continue;
    const int bin = h.grid.bin(z[i]);
    h.counts[static_cast<std::size_t>(bin)] += weights[i];
    if (bin == 0 || bin == kBins + 1) {
      const double offset = z[i] - h.grid.origin;
      h.square[bin == 0 ? 0 : 1] += weights[i] * offset * offset;
    }
  }
  return h;
}

Cut FilterLoop::find(const Histogram& h, const Cut& cut, const Spread& spread) const {
  return tail_family_ ? tail_cut(h, cut, spread) : variance_cut(h, cut, spread);
}

std::vector<Cut> FilterLoop::provisional(const Block& candidates, const Spread& spread,
                                         std::vector<CentreScale>& scored) {
  const auto count = static_cast<std::size_t>(candidates.count());
  const std::vector<double> z = passes_.project_sample(candidates);
  std::vector<double> alive = passes_.sample_weights();
  const std::size_t size = alive.size();
  std::vector<Cut> cuts;
  std::vector<std::size_t> left(count);
  std::iota(left.begin(), left.end(), std::size_t{0});
  for (std::size_t c = 0; c < count; ++c) {
    cuts.push_back(
        lay_grid(candidates[static_cast<std::int64_t>(c)], z.data() + c * size, alive, d_));
  }
  for (double& w : alive) w = w > 0.5 ? 1.0 : 0.0;
  std::vector<Cut> ordered;
  while (!left.empty() && std::find(alive.begin(), alive.end(), 1.0) != alive.end()) {
    std::size_t best = left.front();
    Cut chosen;
    double reach = -kInfinity;
    for (const std::size_t c : left) {
      const Cut found =
          find(sample_histogram(cuts[c], z.data() + c * size, alive), cuts[c], spread);
      const double reaches = found.active() ? found.reach() : -1.0;
      if (reaches > reach) {
        reach = reaches;
        best = c;
        chosen = found;
      }
    }
    if (!chosen.active()) break;
    for (std::size_t i = 0; i < size; ++i) {
      if (!chosen.keeps(z[best * size + i])) alive[i] = 0.0;
    }
    scored.push_back(scored_by(cuts[best], spread));
    ordered.push_back(std::move(chosen));
    left.erase(std::find(left.begin(), left.end(), best));
  }
  for (const std::size_t c : left) {
    scored.push_back(scored_by(cuts[c], spread));
    ordered.push_back(cuts[c]);
  }
  return ordered;
}

CentreScale FilterLoop::scored_by(const Cut& grid, const Spread& spread) const {
  double centre = 0.0;
  for (std::size_t j = 0; j < origin_.size(); ++j) {
    centre += (now_.mean[j] - origin_[j]) * grid.direction[j];
  }
  const double scale = std::min(std::max(grid.scale, spread.scale_lo), spread.scale_hi);
  return {centre, scale > 0.0 ? scale : 1.0};
}

}  // namespace tamis::detail
