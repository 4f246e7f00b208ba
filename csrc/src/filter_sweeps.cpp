// The filter on many rows: rounds of one read each.
#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <utility>

#include "src/detail/filter_loop.hpp"
#include "src/detail/uniform_hash.hpp"

namespace tamis::detail {
namespace {

using StopReason = FilterResult::StopReason;

constexpr std::int64_t kSampleShare = 4;  // with a larger sample, reads are not what takes the time
constexpr int kMaxSweeps = 12;
constexpr double kNearlySettled = 2e-3;  // share of the rows that may change sides at the end

double dot(const double* a, const double* b, std::int64_t d) {
  return std::inner_product(a, a + d, b, 0.0);
}

bool small(const std::vector<double>& residuals, double top) {
  const auto leading = std::min<std::size_t>(kLeading, residuals.size());
  return std::all_of(residuals.begin(), residuals.begin() + static_cast<std::ptrdiff_t>(leading),
                     [&](double r) { return r <= kKrylovTol * top; });
}

}  // namespace

Sweep FilterPasses::sweep(const SweepTask& task) {
  Sweep out;
  const std::vector<Cut> recorded(task.cuts.begin(),
                                  task.cuts.begin() + static_cast<std::ptrdiff_t>(task.recorded));
  out.change = support(task.ball, recorded, task.budget);
  if (out.change.limited) return out;
  if (!task.cuts.empty()) {
    out.histograms = histograms(task.ball, task.cuts, false, task.scored);
    ++out.reads;
  }
  out.image = covariance(task.block, out.change.survivors.mean);
  ++out.reads;
  return out;
}

Sweep FilterPasses::move_bounds(const SweepTask& task, const std::vector<Cut>& moved,
                                const Survivors& /*before*/) {
  Sweep out;
  out.change = support(task.ball, moved, task.budget);
  if (out.change.limited) return out;
  std::vector<Cut> lines = task.cuts;
  for (std::size_t c = 0; c < lines.size(); ++c) {
    lines[c].centre = task.scored[c].centre;
    lines[c].scale = task.scored[c].scale;
  }
  final_scores(task.ball, lines);
  ++out.reads;
  return out;
}

bool FilterLoop::many_rows() const {
  return whole_ && options_.rule == FilterOptions::Rule::gaussian_tail && budget_ >= 1.0 &&
         n_ / kSampleShare >= sample_size();
}

void FilterLoop::remember(const std::vector<double>& values, const Block& vectors) {
  last_ = {values, vectors, {}, 1, {}};
  last_.vectors.resize(std::min(kDirections, vectors.count()));
  last_.values.resize(static_cast<std::size_t>(last_.vectors.count()));
}

FilterLoop::Look FilterLoop::look_at(const KrylovResult& top) {
  Look next{cuts_, 0, {}, {d_, {}}};
  const Spread spread = this->spread();
  const double threshold = eigenvalue_threshold(spread);
  for (const Cut& cut : cuts_) next.scored.push_back({cut.centre, cut.scale});
  Block suspects{d_, {}};
  Block others{d_, {}};
  for (std::int64_t c = 0; c < std::min(kDirections, top.vectors.count()); ++c) {
    Block& to = top.values[static_cast<std::size_t>(c)] > threshold ? suspects : others;
    to.numbers.insert(to.numbers.end(), top.vectors[c], top.vectors[c] + d_);
  }
  const auto tentative = [](const Cut& cut) { return cut.active(); };
  if (suspects.count() > 0) {
    for (Cut& cut : provisional(suspects, spread, next.scored)) {
      if (cut.active()) next.scored[next.chain.size()] = {cut.centre, cut.scale};
      next.chain.push_back(std::move(cut));
    }
  }
  next.recorded = static_cast<std::size_t>(
      std::find_if_not(next.chain.begin() + static_cast<std::ptrdiff_t>(cuts_.size()),
                       next.chain.end(), tentative) -
      next.chain.begin());
  if (others.count() > 0) {
    for (Cut& cut : empty_cuts(others)) {
      next.scored.push_back(scored_by(cut, spread));
      next.chain.push_back(std::move(cut));
    }
  }
  for (std::size_t c = next.recorded; c < next.chain.size(); ++c) {
    const std::vector<double>& v = next.chain[c].direction;
    next.block.numbers.insert(next.block.numbers.end(), v.begin(), v.end());
  }
  return next;
}

bool FilterLoop::examined(const Look& look, const Block& image, const std::vector<double>& values,
                          double threshold) const {
  std::vector<double> along;
  for (std::size_t c = look.recorded; c < look.chain.size(); ++c) {
    const auto at = static_cast<std::int64_t>(c - look.recorded);
    along.push_back(dot(look.block[at], image[at], d_));
  }
  std::sort(along.begin(), along.end(), std::greater<>());
  for (std::size_t i = 0; i < std::min<std::size_t>(kLeading, values.size()); ++i) {
    if (values[i] <= threshold) return true;
    if (i == along.size()) return i > 0;
    if (values[i] > (1.0 + kKrylovTol) * along[i]) return false;
  }
  return true;
}

bool FilterLoop::move_bounds(const SweepTask& task, const std::vector<Cut>& found) {
  std::vector<Cut> moved(task.cuts.begin(),
                         task.cuts.begin() + static_cast<std::ptrdiff_t>(task.recorded));
  for (std::size_t c = 0; c < moved.size(); ++c) {
    const auto may_move = [](double from, double to, const CloseRange& range) {
      return from == to || range.holds(to);
    };
    if (!may_move(moved[c].lo, found[c].lo, close_to_lo(moved[c])) ||
        !may_move(moved[c].hi, found[c].hi, close_to_hi(moved[c]))) {
      return false;
    }
    moved[c].lo = found[c].lo;
    moved[c].hi = found[c].hi;
  }
  const Sweep rest = passes_.move_bounds(task, moved, now_);
  result_.passes += rest.reads;
  if (rest.change.limited) return false;
  adopt(rest.change);
  cuts_ = std::move(moved);
  return true;
}

void FilterLoop::prune_sample() {
  if (!std::isfinite(ball_.radius2)) return;
  const std::vector<double> far = passes_.distances2(
      sample_rows(n_, sample_size(), options_.seed, kSampleStream), ball_.centre);
  if (std::all_of(far.begin(), far.end(), [&](double x) { return x <= ball_.radius2; })) return;
  apply_ball();
}

std::optional<StopReason> FilterLoop::sweeps() {
  const std::int64_t width = std::min(kBlockSize, d_);
  prune_sample();
  Look now{{}, 0, {}, orthonormalise(sample_start(origin_), {d_, {}}, true, options_.seed)};
  int products = 0;  // since a cut changed
  for (int sweep = 0; sweep < kMaxSweeps; ++sweep) {
    if (static_cast<std::int64_t>(result_.eigenvalues.size()) >= options_.max_rounds) break;
    const SweepTask task{ball_, now.chain, now.recorded, now.scored, now.block, budget_};
    Sweep found = count_pass().sweep(task);
    result_.passes += found.reads - 1;
    if (found.change.overflow) passes_.fail_on_bad_row();
    if (found.change.limited) break;
    adopt(found.change);
    if (!finite(now_)) passes_.fail_on_bad_row();
    need_finite(now_);
    RitzPairs ritz = rayleigh_ritz(now.block, found.image);
    const double top = ritz.values[0];
    result_.eigenvalues.push_back(top);
    const bool flat = top <= 1e-14 * std::max(distance2_to_origin(), 1e-290);
    const Spread spread = this->spread();
    const double threshold = eigenvalue_threshold(spread);
    std::vector<Cut> fresh = cuts_;
    double rows = 0.0;
    bool suspicious = sweep == 0 && !flat;
    for (std::size_t c = 0; c < now.chain.size(); ++c) {
      Cut cut = find(found.histograms[c], now.chain[c], spread);
      if (c < now.recorded) {
        rows += rows_between(found.histograms[c], now.chain[c], cut);
        fresh[c] = std::move(cut);
      } else if (cut.active()) {
        const auto at = static_cast<std::int64_t>(c - now.recorded);
        if (!(dot(now.block[at], found.image[at], d_) > threshold)) continue;
        suspicious = true;
        fresh.push_back(std::move(cut));
      }
    }
    ++products;
    const double limit = static_cast<double>(n_);
    bool done = false;
    if (!suspicious && rows <= kNearlySettled * limit) {
      const bool looked = flat || examined(now, found.image, ritz.values, threshold);
      done = flat || (looked && (products >= kKrylovPasses || small(ritz.residuals, top)));
      if (done && rows > kSettled * limit) done = move_bounds(task, fresh);
    }
    if (done) {
      for (std::size_t c = now.recorded; c < now.chain.size(); ++c) {
        looked_at_.push_back(now.chain[c]);
        looked_at_.back().centre = now.scored[c].centre;
        looked_at_.back().scale = now.scored[c].scale;
      }
      scored_ = sweep > 0;
      remember(ritz.values, ritz.vectors);
      if (flat) return StopReason::zero_variance;
      return top <= spread.variance_lo * noise_edge(now_.mass, d_)
                 ? StopReason::eigenvalue_explained
                 : StopReason::tails_explained;
    }
    if (suspicious || rows > kSettled * limit) {
      products = 0;
      cuts_ = std::move(fresh);
      std::erase_if(cuts_, [](const Cut& c) { return !c.active(); });
      recentre_ball();
    }
    orient(ritz.vectors);
    remember(ritz.values, ritz.vectors);
    KrylovResult best{ritz.values, ritz.vectors, ritz.residuals, 1, {}};
    const Block remainder = ritz.remainder;
    Look next = look_at(best);
    if (next.recorded > cuts_.size() && !small(ritz.residuals, top)) {
      // Something is to be cut, along directions that are not good enough yet.
      const auto apply = [&](const Block& v) {
        if (!found.image.numbers.empty()) return std::exchange(found.image, {});
        return count_pass().covariance(v, now_.mean);
      };
      best = block_krylov(apply, now.block,
                          {.wanted = std::min(kLeading, width),
                           .returned = width,
                           .tol = kKrylovTol,
                           .max_passes = kKrylovPasses,
                           .seed = options_.seed});
      orient(best.vectors);
      remember(best.values, best.vectors);
      next = look_at(best);
    }
    // Behind what is looked at: what else is known, and what the rows say is missing. So a block
    // Lanczos method goes on while the cuts still move.
    const std::int64_t looked = std::min(kDirections, best.vectors.count());
    Block more = remainder;
    more.numbers.insert(more.numbers.end(), best.vectors[looked],
                        best.vectors[best.vectors.count()]);
    more.append(best.vectors);
    more = orthonormalise(more, next.block, false, options_.seed);
    next.block.append(more);
    next.block.resize(width);
    now = std::move(next);
    cuts_.assign(now.chain.begin(), now.chain.begin() + static_cast<std::ptrdiff_t>(now.recorded));
  }
  adopt(count_pass().support(ball_, cuts_, budget_));
  need_finite(now_);
  return std::nullopt;
}

}  // namespace tamis::detail
