#include "tamis/filter_stream.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>

#include "src/detail/filter_loop.hpp"
#include "src/detail/matrix_check.hpp"

namespace tamis {

using detail::Block;
using detail::Cut;
using detail::Histogram;
using detail::kSettled;

namespace {

constexpr const char* kOp = "filter_stream";

/// Weights and scores beside some rows.
struct Beside {
  std::vector<std::byte> weights, scores;

  explicit Beside(const ConstMatrixView& x)
      : weights(static_cast<std::size_t>(x.rows * size_of(x.dtype))), scores(weights.size()) {}
  VectorView weight_view(const ConstMatrixView& x) { return {weights.data(), x.rows, x.dtype}; }
  VectorView score_view(const ConstMatrixView& x) { return {scores.data(), x.rows, x.dtype}; }
};

}  // namespace

struct FilterStream::State {
  FilterOptions options;
  int num_threads;
  // the sample
  DType dtype = DType::float32;
  std::int64_t d = 0;
  std::unique_ptr<Beside> beside;
  std::unique_ptr<detail::FilterPasses> sample;
  std::unique_ptr<detail::FilterLoop> loop;
  // the present pass
  Block block;             ///< candidate directions
  std::vector<Cut> chain;  ///< recorded cuts, then candidates
  std::size_t recorded = 0;
  std::vector<Histogram> histograms;
  Block image;  ///< covariance of the kept rows about `centre` times block, times mass
  std::vector<double> centre;
  std::vector<double> shift;  ///< sum of x - centre over kept rows
  double square = 0.0;        ///< sum of |x - centre|^2
  double mass = 0.0;
  double rows = 0.0;
  // the last one
  std::vector<double> mean;
  double kept = 0.0;
  double seen = 0.0;
  std::int64_t passes = 0;
  bool limited = false;

  void need_fit() const {
    if (loop == nullptr) throw std::logic_error("[filter_stream] expected fit() first");
  }

  void check(const ConstMatrixView& chunk) const {
    need_fit();
    detail::check_rows(kOp, chunk, 0);
    if (chunk.cols != d || chunk.dtype != dtype) {
      detail::fail(kOp, detail::text("chunks of ", d, " columns of ", name_of(dtype)),
                   detail::text(chunk.cols, " of ", name_of(chunk.dtype)));
    }
  }

  void begin_pass() {
    chain = loop->cuts();
    recorded = chain.size();
    if (block.count() > 0) {
      for (Cut& cut : loop->empty_cuts(block)) chain.push_back(std::move(cut));
    }
    histograms.assign(chain.size(), Histogram{});
    for (std::size_t c = 0; c < chain.size(); ++c) histograms[c].grid = chain[c].grid;
    image = Block{d, std::vector<double>(block.numbers.size(), 0.0)};
    centre = mean;
    shift.assign(static_cast<std::size_t>(d), 0.0);
    square = mass = rows = 0.0;
  }

  /// The passes over one chunk, its rows weighted by the present intervals.
  std::pair<std::unique_ptr<detail::FilterPasses>, detail::Change> sieve(
      const ConstMatrixView& chunk, Beside& own) const {
    auto rows_of =
        cpu::filter_passes(chunk, own.weight_view(chunk), own.score_view(chunk), num_threads);
    rows_of->begin(loop->origin(), {});
    const std::vector<Cut> cuts(chain.begin(),
                                chain.begin() + static_cast<std::ptrdiff_t>(recorded));
    detail::Change change = rows_of->support(loop->ball(), cuts, static_cast<double>(chunk.rows));
    if (change.overflow) rows_of->fail_on_bad_row();
    return {std::move(rows_of), std::move(change)};
  }

  void absorb(const ConstMatrixView& chunk) {
    Beside own(chunk);
    auto [rows_of, change] = sieve(chunk, own);
    const auto& s = change.survivors;
    if (!chain.empty()) {
      const auto counted = rows_of->histograms(loop->ball(), chain, false, {});
      for (std::size_t c = 0; c < chain.size(); ++c) {
        for (std::size_t b = 0; b < counted[c].counts.size(); ++b) {
          histograms[c].counts[b] += counted[c].counts[b];
        }
        histograms[c].square[0] += counted[c].square[0];
        histograms[c].square[1] += counted[c].square[1];
      }
    }
    rows += static_cast<double>(chunk.rows);
    if (!(s.mass > 0.0)) return;
    double moved2 = 0.0;
    for (std::size_t j = 0; j < centre.size(); ++j) {
      const double moved = s.mean[j] - centre[j];
      shift[j] += s.mass * moved;
      moved2 += moved * moved;
    }
    square += s.mass * (s.trace + moved2);
    mass += s.mass;
    if (block.count() == 0) return;
    const Block part = rows_of->covariance(block, centre);
    for (std::size_t j = 0; j < part.numbers.size(); ++j)
      image.numbers[j] += s.mass * part.numbers[j];
  }

  /// Mean and trace of the kept rows, and the block's image about that mean.
  detail::Survivors close() {
    detail::Survivors now;
    now.mass = mass;
    now.mean = centre;
    double moved2 = 0.0;
    for (std::size_t j = 0; j < centre.size(); ++j) {
      const double moved = shift[j] / mass;
      now.mean[j] += moved;
      moved2 += moved * moved;
    }
    now.trace = std::max(square / mass - moved2, 0.0);
    for (std::int64_t c = 0; c < image.count(); ++c) {
      double along = 0.0;
      for (std::int64_t j = 0; j < d; ++j)
        along += shift[static_cast<std::size_t>(j)] / mass * block[c][j];
      for (std::int64_t j = 0; j < d; ++j) {
        image[c][j] = image[c][j] / mass - shift[static_cast<std::size_t>(j)] / mass * along;
      }
    }
    return now;
  }

  bool finish() {
    if (!(mass > 0.0)) {
      throw std::invalid_argument("[filter_stream] expected a pass with rows that stay, got none");
    }
    const detail::Survivors now = close();
    loop->adopt(now);
    const auto spread = loop->spread();
    const double threshold = loop->eigenvalue_threshold(spread);
    std::vector<Cut> next;
    bool found_new = false;
    for (std::size_t c = 0; c < chain.size(); ++c) {
      Cut found = loop->find(histograms[c], chain[c], spread);
      if (!found.active()) continue;
      if (c >= recorded) {
        const auto i = static_cast<std::int64_t>(c - recorded);
        double value = 0.0;
        for (std::int64_t j = 0; j < d; ++j) value += block[i][j] * image[i][j];
        if (!(value > threshold)) continue;
        found_new = true;
      }
      next.push_back(std::move(found));
    }
    const double before = kept;
    mean = now.mean;
    kept = mass;
    seen = rows;
    limited = seen - kept > most_removed() * seen;
    const bool settled = passes > 0 && std::abs(kept - before) <= kSettled * seen && !found_new;
    ++passes;
    if (settled || limited) return true;
    loop->cuts() = std::move(next);
    block = detail::orthonormalise(image, Block{d, {}}, false, options.seed);
    begin_pass();
    return block.count() == 0 && loop->cuts().empty();
  }

  double most_removed() const { return loop->most_removed(); }
};

FilterStream::FilterStream(const FilterOptions& options, int num_threads)
    : state_(std::make_unique<State>()) {
  state_->options = options;
  state_->num_threads = num_threads;
}
FilterStream::~FilterStream() = default;
FilterStream::FilterStream(FilterStream&&) noexcept = default;
FilterStream& FilterStream::operator=(FilterStream&&) noexcept = default;

FilterResult FilterStream::fit(ConstMatrixView sample) {
  State& s = *state_;
  detail::check_rows(kOp, sample, 1);
  auto beside = std::make_unique<Beside>(sample);
  auto passes = cpu::filter_passes(sample, beside->weight_view(sample), beside->score_view(sample),
                                   s.num_threads);
  auto loop = std::make_unique<detail::FilterLoop>(*passes, sample.rows, sample.cols, s.options);
  FilterResult result = loop->run();
  s.dtype = sample.dtype;
  s.d = sample.cols;
  s.beside = std::move(beside);
  s.sample = std::move(passes);
  s.loop = std::move(loop);
  s.block = s.loop->last_directions();
  s.block.d = s.d;
  s.mean = result.mean;
  s.seen = static_cast<double>(sample.rows);
  s.kept = s.seen * (1.0 - result.contamination);
  s.passes = 0;
  s.limited = result.stop_reason == FilterResult::StopReason::removal_limit;
  s.begin_pass();
  return result;
}

void FilterStream::keep(ConstMatrixView chunk, std::uint8_t* keep) {
  const State& s = *state_;
  s.check(chunk);
  if (chunk.rows == 0) return;
  Beside own(chunk);
  static_cast<void>(s.sieve(chunk, own));
  for (std::int64_t i = 0; i < chunk.rows; ++i) {
    keep[i] = chunk.dtype == DType::float64
                  ? reinterpret_cast<const double*>(own.weights.data())[i] > 0.0
                  : reinterpret_cast<const float*>(own.weights.data())[i] > 0.0f;
  }
}

void FilterStream::absorb(ConstMatrixView chunk) {
  state_->check(chunk);
  if (chunk.rows > 0) state_->absorb(chunk);
}

bool FilterStream::finish_pass() {
  state_->need_fit();
  return state_->finish();
}

const std::vector<double>& FilterStream::mean() const { return state_->mean; }
double FilterStream::kept() const { return state_->kept; }
double FilterStream::seen() const { return state_->seen; }
std::int64_t FilterStream::passes() const { return state_->passes; }
bool FilterStream::limited() const { return state_->limited; }

}  // namespace tamis
