// The filter on many rows: rounds on a row sample first, then sweeps over all rows that correct what
// the sample has found.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "src/detail/filter_loop.hpp"
#include "src/detail/matrix_check.hpp"
#include "src/detail/uniform_hash.hpp"

namespace tamis::detail {
namespace {

using StopReason = FilterResult::StopReason;

constexpr std::int64_t kSampleShare = 4;  // a sample of more rows than a quarter saves nothing
constexpr std::int64_t kSampleBytes = std::int64_t{64} << 20;
constexpr int kMaxSweeps = 8;

double dot(const double* a, const double* b, std::int64_t d) {
  return std::inner_product(a, a + d, b, 0.0);
}

}  // namespace

bool FilterLoop::rounds_on_sample() {
  const std::int64_t m = sample_size();
  if (!whole_ || budget_ < 1.0 || n_ / kSampleShare < m || m > kSampleBytes / 8 / d_) return false;
  const std::unique_ptr<FilterPasses> few = passes_.copy_of_sample();
  FilterLoop loop(*few, m, d_, options_);
  if (!loop.run_as_sample_of(*this)) return false;
  if (static_cast<std::int64_t>(loop.result_.eigenvalues.size()) >= options_.max_rounds) {
    return false;
  }
  passes_.set_sample_weights(few->sample_weights());
  cuts_ = std::move(loop.cuts_);
  std::erase_if(cuts_, [](const Cut& c) { return !c.active(); });
  now_ = std::move(loop.now_);
  now_.mass *= static_cast<double>(n_) / static_cast<double>(m);
  last_ = std::move(loop.last_);
  block_ = std::move(loop.block_);
  result_.eigenvalues = std::move(loop.result_.eigenvalues);
  if (options_.prune) {
    ball_.centre = now_.mean;
    measure_ball();
  }
  return true;
}

bool FilterLoop::run_as_sample_of(const FilterLoop& whole) {
  is_sample_ = true;
  options_.checkpoint = {};
  origin_ = whole.origin_;
  pair_scale2_ = whole.pair_scale2_;
  ball_.centre = origin_;
  if (budget_ < 1.0) return false;
  std::vector<std::int64_t> all(static_cast<std::size_t>(n_));
  std::iota(all.begin(), all.end(), std::int64_t{0});
  passes_.begin(origin_, all);
  few_ = sample_rows(n_, std::min(n_, kFewRows), options_.seed, kFewStream);
  try {
    if (options_.prune) measure_ball();
    const Change change = passes_.support(ball_, cuts_, budget_);
    if (!finite(change.survivors)) return false;
    adopt(change);
    const StopReason reason = rounds();
    return reason == StopReason::eigenvalue_explained || reason == StopReason::tails_explained;
  } catch (const NonFiniteError&) {
    return false;  // a sweep over all rows will say where
  }
}

std::vector<CentreScale> FilterLoop::look_at(Block& block, const std::vector<double>& values,
                                             std::vector<Cut>& chain) {
  const Spread spread = this->spread();
  const double threshold = eigenvalue_threshold(spread);
  std::vector<CentreScale> scored;
  for (const Cut& cut : chain) scored.push_back({cut.centre, cut.scale});
  Block suspects{d_, {}};
  Block others{d_, {}};
  for (std::int64_t c = 0; c < std::min(kDirections, block.count()); ++c) {
    Block& to = values[static_cast<std::size_t>(c)] > threshold ? suspects : others;
    to.numbers.insert(to.numbers.end(), block[c], block[c] + d_);
  }
  const std::size_t old = chain.size();
  if (suspects.count() > 0) {
    for (Cut& cut : provisional(suspects, spread, scored)) chain.push_back(std::move(cut));
  }
  if (others.count() > 0) {
    for (Cut& cut : empty_cuts(others)) {
      scored.push_back(scored_by(cut, spread));
      chain.push_back(std::move(cut));
    }
  }
  for (std::size_t c = old; c < chain.size(); ++c) {
    std::copy_n(chain[c].direction.data(), d_, block[static_cast<std::int64_t>(c - old)]);
  }
  return scored;
}

std::optional<StopReason> FilterLoop::sweeps() {
  Block block = block_;
  std::vector<double> values = last_.values;
  int products = 0;  // since a cut changed
  for (int sweep = 0; sweep < kMaxSweeps; ++sweep) {
    if (static_cast<std::int64_t>(result_.eigenvalues.size()) >= options_.max_rounds) break;
    std::vector<Cut> chain = cuts_;
    const std::size_t old = chain.size();
    const std::vector<CentreScale> scored = look_at(block, values, chain);
    Sweep found = count_pass().sweep({ball_, chain, old, scored, block, budget_});
    if (found.change.overflow) passes_.fail_on_bad_row();
    if (found.change.limited) break;
    adopt(found.change);
    if (!finite(now_)) passes_.fail_on_bad_row();
    need_finite(now_);
    const RitzPairs ritz = rayleigh_ritz(block, found.image);
    const double top = ritz.values[0];
    result_.eigenvalues.push_back(top);
    const Spread spread = this->spread();
    const double threshold = eigenvalue_threshold(spread);
    std::vector<Cut> suspicious;
    double rows = 0.0;
    for (std::size_t c = 0; c < chain.size(); ++c) {
      Cut cut = find(found.histograms[c], chain[c], spread);
      if (c < old) {
        rows += rows_between(found.histograms[c], chain[c], cut);
        cuts_[c] = std::move(cut);
      } else if (cut.active()) {
        const auto at = static_cast<std::int64_t>(c - old);
        if (dot(block[at], found.image[at], d_) > threshold) suspicious.push_back(std::move(cut));
      }
    }
    const bool settled = suspicious.empty() && rows <= kSettled * static_cast<double>(n_);
    ++products;
    if (settled) {
      std::copy_n(chain.begin(), old, cuts_.begin());
      const bool flat = top <= 1e-14 * std::max(distance2_to_origin(), 1e-290);
      bool converged = products >= kKrylovPasses || block.count() == d_;
      if (!converged) {
        const auto leading = std::min<std::size_t>(kLeading, ritz.residuals.size());
        converged = std::all_of(ritz.residuals.begin(), ritz.residuals.begin() + leading,
                                [&](double r) { return r <= kKrylovTol * top; });
      }
      if (flat || converged) {
        looked_at_.assign(chain.begin() + static_cast<std::ptrdiff_t>(old), chain.end());
        for (std::size_t c = old; c < chain.size(); ++c) {
          looked_at_[c - old].centre = scored[c].centre;
          looked_at_[c - old].scale = scored[c].scale;
        }
        scored_ = true;
        if (flat) return StopReason::zero_variance;
        return top <= spread.variance_lo * noise_edge(now_.mass, d_)
                   ? StopReason::eigenvalue_explained
                   : StopReason::tails_explained;
      }
    } else {
      products = 0;
      for (Cut& cut : suspicious) cuts_.push_back(std::move(cut));
      std::erase_if(cuts_, [](const Cut& c) { return !c.active(); });
      recentre_ball();
    }
    // The best that is known, and what the rows say is missing: a step of block Lanczos that goes on
    // while the cuts still move.
    const std::int64_t keep = std::min(kDirections, ritz.vectors.count());
    Block next = ritz.vectors;
    next.resize(keep);
    orient(next);
    Block more = ritz.remainder;
    more.resize(std::min(kDirections, ritz.remainder.count()));
    next.append(orthonormalise(more, next, false, options_.seed));
    block = std::move(next);
    values.assign(ritz.values.begin(), ritz.values.begin() + keep);
  }
  adopt(count_pass().support(ball_, cuts_, budget_));
  need_finite(now_);
  return std::nullopt;
}

}  // namespace tamis::detail
