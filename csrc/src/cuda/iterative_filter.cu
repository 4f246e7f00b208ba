#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <utility>

#include "src/cuda/filter_setup.cuh"
#include "src/cuda/filter_visitors.cuh"
#include "src/cuda/filter_weights.cuh"
#include "src/cuda/moments.cuh"
#include "src/cuda/products.cuh"
#include "src/detail/iterative_filter_backend.hpp"
#include "src/detail/row_passes.hpp"
#include "src/detail/row_weights.hpp"

namespace tamis::cuda {
namespace {

using detail::Block;
using detail::Change;
using detail::Cut;
using detail::Histogram;

constexpr const char* kOp = "iterative_filter";

/// Rows, weights and scores stay on the device. A pass is one launch and one wait.
template <class T>
class CudaPasses final : public detail::FilterPasses {
 public:
  CudaPasses(const ConstMatrixView& x, const VectorView& weights, const VectorView& scores,
             const Exec& exec)
      : guard_(exec, kOp),
        call_(kOp, exec),
        x_(x),
        weights_(static_cast<T*>(weights.data)),
        scores_(static_cast<T*>(scores.data)),
        few_(x, weights_, scores_, call_) {}

  // ---- a few rows, once ----------------------------------------------------------------------

  std::vector<double> coordinate_medians(const std::vector<std::int64_t>& chosen) override {
    return few_.medians(chosen);
  }
  std::vector<double> distances2(const std::vector<std::int64_t>& chosen,
                                 const std::vector<double>& centre) override {
    return few_.distances2(chosen, narrowed(centre));
  }
  std::vector<double> pair_distances2(const std::vector<std::int64_t>& first,
                                      const std::vector<std::int64_t>& second) override {
    return few_.pair_distances2(first, second);
  }
  void begin(const std::vector<double>& origin, const std::vector<std::int64_t>& sample) override {
    const std::vector<T> about = narrowed(origin);
    few_.begin(about);
    centre_ = DeviceBuffer<T>(about, call_);
    host_centre_ = widened(about);
    sample_ = DeviceBuffer<std::int64_t>(sample, call_);
    sample_weights_.assign(sample.size(), 1.0);
  }

  // ---- the sample ----------------------------------------------------------------------------

  std::vector<double> sample_weights() override { return sample_weights_; }

  std::vector<double> project_sample(const Block& directions) override {
    // The same directions are asked for again and again: that along which repeated rows are looked
    // for, and the top ones, for provisional cuts and for the last scores.
    if (directions.numbers == older_.directions) std::swap(older_, newer_);
    if (directions.numbers == newer_.directions) return newer_.z;
    upload_directions(directions);
    const std::int64_t count = static_cast<std::int64_t>(sample_.size());
    const auto m = static_cast<int>(directions.count());
    const DeviceBuffer<T> out(static_cast<std::size_t>(count * m), call_);
    const auto blocks = static_cast<int>(RowTiling<T>::tiles(count));
    visit_rows(sampled(nullptr), measures(m, nullptr, blocks), blocks,
               ProjectVisitor<T>{out.get(), count}, call_);
    older_ = std::exchange(newer_, Projections{directions.numbers, widened(out.numbers(call_))});
    return newer_.z;
  }

  Block sample_covariance(const Block& v, const std::vector<double>& mean) override {
    return product(sampled(weights_), v, mean);
  }
  Block covariance(const Block& v, const std::vector<double>& mean) override {
    return product(rows(), v, mean);
  }

  // ---- passes over all rows ------------------------------------------------------------------

  detail::Survivors survivors() override {
    few_.need_weights();
    const BlockSums sums = row_moments(rows(), centre_.get(), workspace_, call_);
    const std::vector<double> totals = numbers_at(sums.totals, sums.size, call_);
    detail::MomentSums all;
    all.shift.assign(totals.begin(), totals.begin() + x_.cols);
    for (auto square = totals.begin() + x_.cols; square + 1 < totals.end(); ++square) {
      all.square += *square;
    }
    all.mass = totals.back();
    return moments_of(std::move(all));
  }

  void fail_on_bad_row() override { cuda::fail_on_bad_row(DeviceRows<T>(x_, nullptr), call_); }

  Change support(const detail::Ball& ball, const std::vector<Cut>& cuts, double budget) override {
    few_.need_weights();
    const std::vector<T> centre = narrowed(ball.centre);
    centre_.upload(centre.data(), centre.size(), call_);
    host_centre_ = widened(centre);
    std::vector<Cut> active;
    for (const Cut& cut : cuts) {
      if (cut.active()) active.push_back(cut);
    }
    upload_cuts(active);
    const auto m = static_cast<int>(active.size());
    const std::int64_t d = x_.cols;
    const std::int64_t size = d + SupportVisitor<T>::kExtra;
    const int blocks = blocks_for(18 * size);
    const BlockSums sums = workspace_.block_sums(blocks, size, call_, sample().count);
    int across = kWarp;
    while (across < kRowThreads && across < d) across *= 2;
    const DeviceRows<T> all(x_, nullptr);
    visit_rows(all, measures(m, centre_.get(), blocks), blocks,
               SupportVisitor<T>{all, centre_.get(), cuts_.get(), m, across, BallNumbers(ball),
                                 weights_, scores_, kLargest, sample(), sums},
               call_);
    const std::vector<double> totals = numbers_at(sums.totals, size + sample().count, call_);
    sample_weights_.assign(totals.begin() + size, totals.end());
    detail::MomentSums left;
    left.shift.assign(totals.begin(), totals.begin() + d);
    const double* extra = totals.data() + d;
    left.square = extra[0];
    left.mass = extra[1];
    Change change{extra[2], extra[3], false, extra[4] > 0.0, {}};
    const double excess = (static_cast<double>(x_.rows) - left.mass) - budget;
    change.limited = excess > detail::kBudgetSlack;
    if (!change.limited) {
      change.survivors = moments_of(std::move(left));
      return change;
    }
    const RowMass<T> lost{RowMass<T>::Kind::lost, weights_, scores_, {}};
    set_weights(lost, true,
                select(
                    x_.rows, lost, [&](double) { return excess - detail::kBudgetSlack; }, call_),
                change);
    change.survivors = survivors();
    return change;
  }

  std::vector<Histogram> histograms(const detail::Ball& ball, const std::vector<Cut>& cuts,
                                    bool weighted,
                                    const std::vector<detail::CentreScale>& scored) override {
    few_.need_weights();
    upload_cuts(cuts, scored);
    const auto m = static_cast<int>(cuts.size());
    const T* centre = upload_centre(ball);
    const std::int64_t bins = static_cast<std::int64_t>(m) * kSlots;
    constexpr int kWarps = HistogramVisitor<T>::kWarps;
    const std::int64_t size = std::int64_t{2} * kWarps * m;
    const int blocks = blocks_for(18 * size);
    const BlockSums sums = workspace_.block_sums(blocks, size, call_, bins);
    auto* counts = reinterpret_cast<Count*>(sums.totals + size);
    call_.check(
        cudaMemsetAsync(counts, 0, static_cast<std::size_t>(bins) * sizeof(Count), call_.stream),
        "cudaMemsetAsync");
    visit_rows(DeviceRows<T>(x_, nullptr), measures(m, centre, blocks), blocks,
               HistogramVisitor<T>{cuts_.get(), m, BallNumbers(ball), weighted ? weights_ : nullptr,
                                   ScoreWriter<T>{scored.empty() ? nullptr : scores_, kLargest,
                                                  BallNumbers(ball), false},
                                   counts, sums},
               call_);
    const std::vector<double> found = numbers_at(sums.totals, size + bins, call_);
    std::vector<Histogram> out(cuts.size());
    for (std::size_t c = 0; c < out.size(); ++c) {
      out[c].grid = cuts[c].grid;
      for (std::size_t b = 0; b < kSlots; ++b) {
        const auto count =
            std::bit_cast<Count>(found[static_cast<std::size_t>(size) + c * kSlots + b]);
        out[c].counts[b] = static_cast<double>(count) / detail::kOne;
      }
      for (std::size_t w = 0; w < kWarps; ++w) {
        for (std::size_t side = 0; side < 2; ++side) {
          out[c].square[side] += found[(w * out.size() + c) * 2 + side];
        }
      }
    }
    return out;
  }

  double standardised(const std::vector<Cut>& cuts) override { return score({}, cuts, true); }
  void final_scores(const detail::Ball& ball, const std::vector<Cut>& cuts) override {
    score(ball, cuts, false);
  }

  // ---- weights and scores only ---------------------------------------------------------------

  std::vector<double> tau_masses(double top) override {
    counts_.reserve(detail::kTauBins, call_);
    counts_.zero(detail::kTauBins, call_);
    tau_kernel<T><<<weight_blocks(), kWeightThreads, 0, call_.stream>>>(
        x_.rows, RowMass<T>{RowMass<T>::Kind::alive, weights_, scores_, {}}, top, counts_.get());
    call_.launched();
    std::vector<double> out;
    for (const Count mass : numbers_at(counts_.get(), detail::kTauBins, call_)) {
      out.push_back(static_cast<double>(mass) / detail::kOne);
    }
    return out;
  }

  double tau_bound(std::int64_t count) override {
    const RowMass<T> alive{RowMass<T>::Kind::alive, weights_, scores_, {}};
    const Threshold bound = select(
        x_.rows, alive,
        [&](double all) { return all - std::min(static_cast<double>(count), all) + 0.5; }, call_,
        false);
    if constexpr (sizeof(T) == 4) {
      return static_cast<double>(std::bit_cast<float>(static_cast<std::uint32_t>(bound.key)));
    } else {
      return std::bit_cast<double>(bound.key);
    }
  }

  Change reweigh(const detail::Reweighting& how, double budget) override {
    const RowMass<T> dropped{RowMass<T>::Kind::dropped, weights_, scores_, how};
    const BlockSums sums = workspace_.block_sums(static_cast<int>(weight_blocks()), 1, call_);
    new_mass_kernel<T>
        <<<weight_blocks(), kWeightThreads, 0, call_.stream>>>(x_.rows, dropped, sums);
    call_.launched();
    const double mass = numbers_at(sums.totals, 1, call_)[0];
    Change change;
    const double excess = (static_cast<double>(x_.rows) - mass) - budget;
    change.limited = excess > detail::kBudgetSlack;
    Threshold threshold;
    if (change.limited) {
      threshold =
          select(x_.rows, dropped, [&](double) { return excess - detail::kBudgetSlack; }, call_);
    }
    set_weights(dropped, change.limited, threshold, change);
    change.survivors = survivors();
    return change;
  }

 private:
  static constexpr T kLargest = std::numeric_limits<T>::max();
  static constexpr int kWeightThreads = 256;

  static std::vector<T> narrowed(const std::vector<double>& from) {
    std::vector<T> out(from.size());
    std::transform(from.begin(), from.end(), out.begin(),
                   [](double x) { return static_cast<T>(x); });
    return out;
  }
  static std::vector<double> widened(const std::vector<T>& from) {
    return {from.begin(), from.end()};
  }

  DeviceRows<T> rows() const { return DeviceRows<T>(x_, weights_); }
  DeviceRows<T> sampled(const T* weights) const {
    return DeviceRows<T>(x_, weights, sample_.get(), static_cast<std::int64_t>(sample_.size()));
  }
  Sample sample() const { return {sample_.get(), static_cast<std::int64_t>(sample_.size())}; }
  unsigned weight_blocks() const {
    return static_cast<unsigned>(
        std::clamp<std::int64_t>(x_.rows / (4 * kWeightThreads), 1, kMaxBlocks));
  }
  int blocks_for(std::int64_t bytes_each) const {
    return block_count(x_.rows * x_.cols * static_cast<std::int64_t>(sizeof(T)), bytes_each,
                       RowTiling<T>::tiles(x_.rows));
  }

  void upload_directions(const Block& directions) {
    const std::vector<T> v = narrowed(directions.numbers);
    directions_.reserve(v.size(), call_);
    directions_.upload(v.data(), v.size(), call_);
  }
  /// The centre of a ball, or null if it is unbounded.
  const T* upload_centre(const detail::Ball& ball) {
    if (!BallNumbers(ball).bounded()) return nullptr;
    const std::vector<T> centre = narrowed(ball.centre);
    ball_centre_.reserve(centre.size(), call_);
    ball_centre_.upload(centre.data(), centre.size(), call_);
    return ball_centre_.get();
  }
  /// `scored`: by what each cut scores; empty: by its own centre and scale.
  void upload_cuts(const std::vector<Cut>& cuts,
                   const std::vector<detail::CentreScale>& scored = {}) {
    Block directions{x_.cols, {}};
    std::vector<CutNumbers> numbers;
    for (std::size_t c = 0; c < cuts.size(); ++c) {
      const Cut& cut = cuts[c];
      directions.numbers.insert(directions.numbers.end(), cut.direction.begin(),
                                cut.direction.end());
      numbers.emplace_back(cut,
                           scored.empty() ? detail::CentreScale{cut.centre, cut.scale} : scored[c]);
    }
    upload_directions(directions);
    cuts_.reserve(numbers.size(), call_);
    cuts_.upload(numbers.data(), numbers.size(), call_);
  }
  RowMeasures<T> measures(int count, const T* centre, int blocks) {
    scratch_.reserve(static_cast<std::size_t>(blocks * RowTiling<T>::scratch_size(count)), call_);
    return {few_.origin(), directions_.get(), count, centre, scratch_.get()};
  }

  Block product(const DeviceRows<T>& of, const Block& v, const std::vector<double>& mean) {
    few_.need_weights();
    ProductStatus status{};
    Block y = product_(of, v, mean, status, workspace_, call_);
    if (status.not_finite != 0) fail_on_data(of, call_);
    return y;
  }

  detail::Survivors moments_of(detail::MomentSums sums) const {
    auto moments = detail::add_moments({std::move(sums)}, host_centre_.data(), x_.cols);
    return {std::move(moments.mean), moments.trace, moments.mass};
  }

  void set_weights(const RowMass<T>& masses, bool limited, const Threshold& threshold,
                   Change& change) {
    const BlockSums sums =
        workspace_.block_sums(static_cast<int>(weight_blocks()), 2, call_, sample().count);
    set_weights_kernel<T><<<weight_blocks(), kWeightThreads, 0, call_.stream>>>(
        x_.rows, masses, limited, threshold, sample(), sums);
    call_.launched();
    const std::vector<double> totals = numbers_at(sums.totals, 2 + sample().count, call_);
    change.moved = totals[0];
    change.returned = totals[1];
    sample_weights_.assign(totals.begin() + 2, totals.end());
  }

  double score(const detail::Ball& ball, const std::vector<Cut>& cuts, bool sums) {
    few_.need_weights();
    upload_cuts(cuts);
    const auto m = static_cast<int>(cuts.size());
    const T* centre = upload_centre(ball);
    counts_.reserve(1, call_);
    counts_.zero(1, call_);
    const int blocks = blocks_for(1);
    visit_rows(
        DeviceRows<T>(x_, nullptr), measures(m, centre, blocks), blocks,
        ScoreVisitor<T>{cuts_.get(), m, ScoreWriter<T>{scores_, kLargest, BallNumbers(ball), sums},
                        weights_, counts_.get()},
        call_);
    return std::bit_cast<double>(numbers_at(counts_.get(), 1, call_)[0]);
  }

  DeviceGuard guard_;  ///< until all memory has been given back
  Call call_;
  ConstMatrixView x_;
  T* weights_;
  T* scores_;
  FewRows<T> few_;          ///< and the origin of all projections, for the whole run
  DeviceBuffer<T> centre_;  ///< of the ball: distances and sums are about it
  std::vector<double> host_centre_;
  DeviceBuffer<std::int64_t> sample_;
  std::vector<double> sample_weights_;  ///< as they are now
  struct Projections {
    std::vector<double> directions, z;
  };
  Projections newer_, older_;  ///< of the sample
  // What a pass needs, kept for the next one.
  DeviceBuffer<T> ball_centre_;
  DeviceBuffer<T> directions_;
  DeviceBuffer<CutNumbers> cuts_;
  DeviceBuffer<T> scratch_;
  DeviceBuffer<Count> counts_;
  BlockProduct<T> product_;
  Workspace workspace_;
};

}  // namespace

std::unique_ptr<detail::FilterPasses> filter_passes(const ConstMatrixView& x,
                                                    const VectorView& weights,
                                                    const VectorView& scores, const Exec& exec) {
  if (x.dtype == DType::float64) {
    return std::make_unique<CudaPasses<double>>(x, weights, scores, exec);
  }
  return std::make_unique<CudaPasses<float>>(x, weights, scores, exec);
}

}  // namespace tamis::cuda
