#include "src/detail/filter_loop.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "src/detail/matrix_check.hpp"
#include "src/detail/uniform_hash.hpp"

namespace tamis::detail {
namespace {

using Rule = FilterOptions::Rule;
using Assume = FilterOptions::Assume;

using StopReason = FilterResult::StopReason;

constexpr const char* kOp = "iterative_filter";
constexpr int kMaxReadmissions = 6;     // after that rows only leave, so the filter ends
constexpr double kSameDirection = 0.9;  // cosine
constexpr double kAutoShare = 0.3;
constexpr double kAutoStep = 0.02;

double dot(const double* a, const double* b, std::int64_t d) {
  return std::inner_product(a, a + d, b, 0.0);
}

/// The least r with weighted mean of tau at most `target` under weights w (1 - tau / top)^r.
/// Repeating the multiplicative step r times along the same directions is one step with that power,
/// so a single far row does not cost a round. Source: Dong, Hopkins and Li 2019, section 4.
double smallest_power(const std::vector<double>& masses, double top, double target) {
  const auto mean_after = [&](double r) {
    double weight = 0.0;
    double sum = 0.0;
    for (std::size_t b = 0; b < masses.size(); ++b) {
      if (masses[b] == 0.0) continue;
      const double share = std::exp2((static_cast<double>(b) - kTauBins + 0.5) / kOctaveBins);
      const double w = masses[b] * std::pow(1.0 - share, r);
      weight += w;
      sum += w * top * share;
    }
    return weight > 0.0 ? sum / weight : 0.0;
  };
  double low = 0.0;
  double high = 1.0;
  while (mean_after(high) > target && high < 0x1p60) {
    low = high;
    high *= 2.0;
  }
  for (int step = 0; step < 40; ++step) {
    const double middle = 0.5 * (low + high);
    (mean_after(middle) > target ? low : high) = middle;
  }
  return std::max(high, 1.0);
}

}  // namespace

FilterLoop::FilterLoop(FilterPasses& passes, std::int64_t n, std::int64_t d,
                       const FilterOptions& options)
    : passes_(passes),
      n_(n),
      d_(d),
      options_(options),
      share_(options.automatic ? kAutoShare : options.contamination),
      hard_(options.rule == Rule::gaussian_tail || options.rule == Rule::bounded_covariance),
      whole_(hard_ && options.readmit),
      tail_family_(options.rule == Rule::gaussian_tail ||
                   (options.rule != Rule::bounded_covariance && options.assume != Assume::none)),
      most_removed_(options.automatic ? 0.5
                                      : std::min(options.max_removed * options.contamination, 0.5)),
      budget_(std::min(std::floor(most_removed_ * static_cast<double>(n)),
                       static_cast<double>((n - 1) / 2))) {}

FilterResult FilterLoop::run() {
  start();
  // On the border a row is as unlikely as one of n Gaussian numbers this far out.
  ball_.score = 2.0 * std::log(100.0 * static_cast<double>(n_));
  if (options_.prune && budget_ >= 1.0) measure_ball();
  if (many_rows()) {
    if (const auto reason = sweeps()) return result(*reason);
    return result(rounds());
  }
  if (std::isfinite(ball_.radius2)) {
    apply_ball();
  } else {
    adopt(count_pass().survivors());
    if (!finite(now_)) passes_.fail_on_bad_row();
    need_finite(now_);
  }
  if (budget_ < 1.0) {
    return result(options_.automatic || options_.contamination > 0.0
                      ? StopReason::too_few_rows
                      : StopReason::no_contamination);
  }
  return result(rounds());
}

FilterPasses& FilterLoop::count_pass() {
  if (options_.checkpoint) options_.checkpoint();
  ++result_.passes;
  return passes_;
}

void FilterLoop::start() {
  few_ = sample_rows(n_, std::min(n_, kFewRows), options_.seed, kFewStream);
  origin_ = passes_.coordinate_medians(few_);
  ball_.centre = origin_;
  passes_.begin(origin_, sample_rows(n_, sample_size(), options_.seed, kSampleStream));
  pair_scale2_ = pair_scale2();
}

void FilterLoop::apply_ball() {
  const Change change = count_pass().support(ball_, {}, budget_);
  if (change.overflow) passes_.fail_on_bad_row();
  adopt(change);
  need_finite(now_);
}

bool FilterLoop::finite(const Survivors& s) {
  double sum = s.trace;
  for (const double m : s.mean) sum += m;
  return std::isfinite(sum);
}

void FilterLoop::need_finite(const Survivors& s) {
  if (finite(s)) return;
  throw NonFiniteError(text("[", kOp,
                            "] X: expected values whose squares can be summed: rescale the "
                            "data, or let prune drop gross outliers"),
                       -1);
}

void FilterLoop::adopt(const Change& change) {
  adopt(change.survivors);
  limited_ = change.limited;
}

bool FilterLoop::changed(const Change& change) const {
  return change.moved > kSettled * static_cast<double>(n_);
}

StopReason FilterLoop::rounds() {
  int readmissions = 0;
  bool fresh = now_.mass < static_cast<double>(n_);
  for (auto round = static_cast<std::int64_t>(result_.eigenvalues.size());
       round < options_.max_rounds; ++round) {
    last_ = top_directions();
    const double top = last_.values[0];
    result_.eigenvalues.push_back(top);
    if (top <= 1e-14 * std::max(distance2_to_origin(), 1e-290)) return StopReason::zero_variance;
    bool moved = false;
    std::vector<Cut> suspicious = examine(moved);
    if (!suspicious.empty() || moved) {
      scored_ = false;
      if (whole_) {
        std::erase_if(cuts_, [](const Cut& c) { return !c.active(); });
        recentre_ball();
      }
      const Change change = remove(std::move(suspicious));
      adopt(change);
      if (changed(change)) {
        fresh = true;
        if (whole_ && change.returned > kSettled * static_cast<double>(n_)) {
          whole_ = ++readmissions < kMaxReadmissions;
        }
        if (!limited_ || whole_) continue;
      }
    }
    if (options_.readmit && !hard_ && fresh && readmissions < kMaxReadmissions) {
      ++readmissions;
      fresh = false;
      scored_ = false;
      if (readmit() && !limited_) continue;
    }
    if (limited_) return StopReason::removal_limit;
    const double explained = spread().variance_lo * noise_edge(now_.mass, d_);
    return top <= explained ? StopReason::eigenvalue_explained : StopReason::tails_explained;
  }
  return StopReason::max_rounds;
}

double FilterLoop::distance2_to_origin() const {
  double sum = 0.0;
  for (std::size_t j = 0; j < origin_.size(); ++j) {
    sum += (now_.mean[j] - origin_[j]) * (now_.mean[j] - origin_[j]);
  }
  return sum;
}

std::vector<Cut> FilterLoop::examine(bool& moved) {
  const Spread spread = this->spread();
  const double threshold = eigenvalue_threshold(spread);
  Block candidates{d_, {}};
  for (std::int64_t c = 0; c < last_.vectors.count(); ++c) {
    if (!(last_.values[static_cast<std::size_t>(c)] > threshold)) continue;
    candidates.numbers.insert(candidates.numbers.end(), last_.vectors[c], last_.vectors[c] + d_);
  }
  scored_ = false;
  if (candidates.count() == 0 && !(whole_ && !cuts_.empty())) return {};
  std::vector<Cut> chain = whole_ ? cuts_ : std::vector<Cut>{};
  const std::size_t old = chain.size();
  std::vector<CentreScale> scored;
  for (const Cut& cut : chain) scored.push_back({cut.centre, cut.scale});
  if (candidates.count() > 0) {
    for (Cut& cut : provisional(candidates, spread, scored)) chain.push_back(std::move(cut));
  }
  // If this round turns out to be the last, its scores are final: no further pass.
  scored_ = chain.size() == cuts_.size() + static_cast<std::size_t>(last_.vectors.count());
  if (!scored_) scored.clear();
  const auto counted = count_pass().histograms(ball_, chain, !whole_, scored);
  std::vector<Cut> suspicious;
  double rows = 0.0;
  for (std::size_t c = 0; c < chain.size(); ++c) {
    Cut found = find(counted[c], chain[c], spread);
    if (c < old) {
      rows += rows_between(counted[c], chain[c], found);
      chain[c] = std::move(found);
    } else if (found.active()) {
      suspicious.push_back(std::move(found));
    }
  }
  moved = rows > kSettled * static_cast<double>(n_);
  if (old > 0 && (moved || !suspicious.empty())) {
    std::move(chain.begin(), chain.begin() + static_cast<std::ptrdiff_t>(old), cuts_.begin());
  }
  return suspicious;
}

Change FilterLoop::remove(std::vector<Cut> suspicious) {
  if (hard_) {
    for (Cut& cut : suspicious) cuts_.push_back(std::move(cut));
    return count_pass().support(ball_, cuts_, budget_);
  }
  const double top = count_pass().standardised(suspicious);
  Reweighting how{options_.rule};
  how.top = top > 0.0 ? top : 1.0;
  if (options_.rule == Rule::fixed_fraction) {
    const double step = options_.automatic ? kAutoStep : 0.25 * options_.contamination;
    const auto count = static_cast<std::int64_t>(step * static_cast<double>(n_));
    how.bound = passes_.tau_bound(std::max<std::int64_t>(count, 1));
  } else {
    how.power = smallest_power(passes_.tau_masses(how.top), how.top,
                               static_cast<double>(suspicious.size()));
    how.seed = options_.seed;
    how.stream =
        kDropStream + static_cast<std::uint64_t>(options_.rule == Rule::randomized ? ++draws_ : 0);
  }
  for (Cut& cut : suspicious) {  // of parallel directions the first saw the most outliers
    const bool is_new = std::all_of(cuts_.begin(), cuts_.end(), [&](const Cut& old) {
      return std::abs(dot(cut.direction.data(), old.direction.data(), d_)) < kSameDirection;
    });
    if (is_new) cuts_.push_back(std::move(cut));
  }
  return passes_.reweigh(how, budget_);
}

bool FilterLoop::readmit() {
  const Spread spread = this->spread();
  recentre_ball();
  if (!cuts_.empty()) {
    const auto counted = count_pass().histograms(ball_, cuts_, false, {});
    for (std::size_t c = 0; c < cuts_.size(); ++c) cuts_[c] = find(counted[c], cuts_[c], spread);
    std::erase_if(cuts_, [](const Cut& c) { return !c.active(); });
  }
  const Change change = count_pass().support(ball_, cuts_, budget_);
  adopt(change);
  return changed(change);
}

std::vector<Cut> FilterLoop::last_as_cuts() {
  if (scored_ && !looked_at_.empty()) return looked_at_;
  if (last_.vectors.count() == 0) return {};
  const Spread spread = this->spread();
  std::vector<Cut> out = empty_cuts(last_.vectors);
  for (Cut& cut : out) {
    const CentreScale by = scored_by(cut, spread);
    cut.centre = by.centre;
    cut.scale = by.scale;
  }
  return out;
}

FilterResult FilterLoop::result(StopReason reason) {
  std::erase_if(cuts_, [](const Cut& c) { return !c.active(); });
  std::vector<Cut> all = cuts_;
  for (Cut& cut : last_as_cuts()) all.push_back(std::move(cut));
  if (!scored_ && (!all.empty() || std::isfinite(ball_.radius2))) {
    count_pass().final_scores(ball_, all);
  }
  result_.ball_center = ball_.centre;
  result_.ball_radius = std::sqrt(ball_.radius2);
  result_.ball_scale = std::sqrt(ball_.radius2 / ball_.score);
  const std::size_t m = all.size();
  result_.directions.resize(static_cast<std::size_t>(d_) * m);
  for (std::size_t c = 0; c < m; ++c) {
    for (std::size_t j = 0; j < static_cast<std::size_t>(d_); ++j) {
      result_.directions[j * m + c] = all[c].direction[j];
    }
    result_.centers.push_back(all[c].centre + dot(all[c].direction.data(), origin_.data(), d_));
    result_.scales.push_back(all[c].scale);
  }
  result_.cuts = static_cast<std::int64_t>(cuts_.size());
  result_.mean = now_.mean;
  result_.rounds = static_cast<std::int64_t>(result_.eigenvalues.size());
  result_.stop_reason = reason;
  result_.contamination = 1.0 - now_.mass / static_cast<double>(n_);
  return std::move(result_);
}

}  // namespace tamis::detail
