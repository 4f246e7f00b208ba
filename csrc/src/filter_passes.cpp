// The passes of iterative_filter on the CPU. One class, past the usual 400 lines: every pass is a
// few lines on the same members.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "src/detail/covariance_apply_backend.hpp"
#include "src/detail/histogram_counts.hpp"
#include "src/detail/iterative_filter_backend.hpp"
#include "src/detail/row_passes.hpp"
#include "src/detail/row_weights.hpp"

namespace tamis {
namespace {

using detail::Aligned;
using detail::Block;
using detail::Change;
using detail::Chunks;
using detail::Cut;
using detail::Histogram;
using detail::Rows;
using detail::RowTile;

constexpr const char* kOp = "iterative_filter";
constexpr double kOutsideBall = 1e6;    // severity of a row just outside
constexpr std::size_t kMaxClose = 512;  // listed in a chunk: memory does not grow with n

/// Directions, packed for the kernels, with what is done to each projection.
template <class T>
struct Packed {
  int count;
  Aligned<T> v;

  Packed(const std::vector<Cut>& cuts, std::int64_t d) : Packed(cuts, cuts.size(), {d, {}}, d) {}
  /// The first cuts, then a block.
  Packed(const std::vector<Cut>& cuts, std::size_t first, const Block& block, std::int64_t d)
      : count(static_cast<int>(first) + static_cast<int>(block.count())) {
    v.assign(static_cast<std::size_t>(detail::padded<T>(d) * count), T(0));
    for (int c = 0; c < count; ++c) {
      const auto cut = static_cast<std::size_t>(c);
      const double* from =
          cut < first ? cuts[cut].direction.data() : block[c - static_cast<std::int64_t>(first)];
      std::transform(from, from + d, v.begin() + c * detail::padded<T>(d),
                     [](double x) { return static_cast<T>(x); });
    }
  }
};

template <class T>
Aligned<T> padded_copy(const std::vector<double>& from) {
  return detail::pack<T>(from.data(), static_cast<std::int64_t>(from.size()), 1, 1, 0);
}

/// A projection close to a bound of a recorded cut.
template <class T>
struct Close {
  std::uint32_t row;  ///< of its chunk
  std::uint32_t cut;
  T z;
};

template <class T>
class CpuPasses final : public detail::FilterPasses {
 public:
  CpuPasses(const ConstMatrixView& x, const VectorView& weights, const VectorView& scores,
            int num_threads)
      : x_(x),
        rows_(x),
        weights_(static_cast<T*>(weights.data)),
        scores_(static_cast<T*>(scores.data)),
        num_threads_(num_threads),
        beside_(weights_, scores_, x.rows, num_threads) {}

  std::vector<double> coordinate_medians(const std::vector<std::int64_t>& chosen) override {
    constexpr std::int64_t kColumns = 64;  // gathered at once, so that rows are read in runs
    const auto count = static_cast<std::int64_t>(chosen.size());
    const std::int64_t pitch = count + 8;  // not 8 KB: columns would fall on the same cache sets
    std::vector<double> out(static_cast<std::size_t>(rows_.d));
    detail::parallel_for((rows_.d + kColumns - 1) / kColumns, num_threads_, [&](std::int64_t part) {
      const std::int64_t first = part * kColumns;
      const std::int64_t width = std::min(kColumns, rows_.d - first);
      std::vector<double> values(static_cast<std::size_t>(width * pitch));
      for (std::int64_t i = 0; i < count; ++i) {
        const T* x = rows_[chosen[static_cast<std::size_t>(i)]] + first;
        for (std::int64_t j = 0; j < width; ++j) {
          values[static_cast<std::size_t>(j * pitch + i)] = static_cast<double>(x[j]);
        }
      }
      for (std::int64_t j = 0; j < width; ++j) {
        const auto from = values.begin() + j * pitch;
        std::vector<double> column(from, from + count);
        out[static_cast<std::size_t>(first + j)] =
            static_cast<double>(static_cast<T>(detail::quantile_of(column, 0.5)));
      }
    });
    return out;
  }

  std::vector<double> distances2(const std::vector<std::int64_t>& chosen,
                                 const std::vector<double>& centre) override {
    const auto c = padded_copy<T>(centre);
    std::vector<double> out(chosen.size());
    const Rows<T> some(x_, chosen.data(), static_cast<std::int64_t>(chosen.size()));
    over_tiles(some, [&](std::int64_t first, const RowTile<T>& tile, Scratch& /*scratch*/) {
      T square[detail::kFlush];
      kernels_.distances2(tile, c.data(), square);
      std::copy_n(square, tile.count, out.begin() + first);
    });
    return out;
  }

  std::vector<double> pair_distances2(const std::vector<std::int64_t>& first,
                                      const std::vector<std::int64_t>& second) override {
    std::vector<double> out(first.size());
    constexpr std::int64_t kPairs = 256;
    const auto count = static_cast<std::int64_t>(first.size());
    detail::parallel_for((count + kPairs - 1) / kPairs, num_threads_, [&](std::int64_t part) {
      Aligned<T> centre(static_cast<std::size_t>(detail::padded<T>(rows_.d)), T(0));
      for (std::int64_t p = part * kPairs; p < std::min(count, (part + 1) * kPairs); ++p) {
        std::copy_n(rows_[second[static_cast<std::size_t>(p)]], rows_.d, centre.begin());
        out[static_cast<std::size_t>(p)] =
            distance2(rows_[first[static_cast<std::size_t>(p)]], centre.data());
      }
    });
    return out;
  }

  void begin(const std::vector<double>& origin, const std::vector<std::int64_t>& sample) override {
    origin_ = padded_copy<T>(origin);
    centre_ = origin_;
    sample_ = sample;
    std::fill_n(weights_, x_.rows, T(1));
    std::fill_n(scores_, x_.rows, T(0));
  }

  std::vector<double> sample_weights() override {
    std::vector<double> out(sample_.size());
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<double>(weights_[sample_[i]]);
    return out;
  }

  std::vector<double> project_sample(const Block& directions) override {
    const auto m = static_cast<int>(directions.count());
    const auto v = detail::pack<T>(directions.numbers.data(), rows_.d, m, 1, rows_.d);
    const Rows<T> some(x_, sample_.data(), static_cast<std::int64_t>(sample_.size()));
    std::vector<double> out(sample_.size() * static_cast<std::size_t>(m));
    over_tiles(some, [&](std::int64_t first, const RowTile<T>& tile, Scratch& scratch) {
      kernels_.project(tile, origin_.data(), v.data(), m, scratch.z(tile.count * m));
      for (int r = 0; r < tile.count; ++r) {
        for (int c = 0; c < m; ++c) {
          out[static_cast<std::size_t>(c) * sample_.size() + static_cast<std::size_t>(first + r)] =
              static_cast<double>(scratch.projections[static_cast<std::size_t>(r * m + c)]);
        }
      }
    });
    return out;
  }

  Block sample_covariance(const Block& v, const std::vector<double>& mean) override {
    return product(v, mean, sample_.data(), static_cast<std::int64_t>(sample_.size()));
  }
  Block covariance(const Block& v, const std::vector<double>& mean) override {
    return product(v, mean, nullptr, 0);
  }

  detail::Sweep sweep(const detail::SweepTask& task) override {
    centre_ = padded_copy<T>(task.ball.centre);
    close_.clear();
    const auto old = static_cast<int>(task.recorded);
    const auto k = static_cast<int>(task.block.count());
    const std::int64_t stride = detail::padded<T>(rows_.d);
    // What is looked at stands first in the block, so cut j has projection j.
    const Packed<T> packed(task.cuts, task.recorded, task.block, rows_.d);
    std::vector<T> offset;  // (origin - centre) . v: projections for sums are about the centre
    for (int c = 0; c < k; ++c) {
      double sum = 0.0;
      for (std::size_t j = 0; j < static_cast<std::size_t>(rows_.d); ++j) {
        sum +=
            (static_cast<double>(origin_[j]) - static_cast<double>(centre_[j])) * task.block[c][j];
      }
      offset.push_back(static_cast<T>(sum));
    }
    const Chunks chunks(x_.rows, (k + 1) * stride * 8);
    struct Part {
      Change change;
      detail::MomentSums sums;  ///< shift: of k columns, then of the rows themselves
      std::vector<double> squares;
      std::vector<Close<T>> close;
    };
    std::vector<Part> parts(static_cast<std::size_t>(chunks.count));
    detail::HistogramCounts counts;
    detail::parallel_for(chunks.count, num_threads_, [&](std::int64_t chunk) {
      Part& part = parts[static_cast<std::size_t>(chunk)];
      part.sums.shift.assign(static_cast<std::size_t>((k + 1) * stride), 0.0);
      detail::HistogramCounter<T> counter(counts, task.cuts, part.squares);
      sweep_chunk(task, packed, offset, old, k, chunk * chunks.rows,
                  std::min(x_.rows, (chunk + 1) * chunks.rows), part.change, part.sums, counter,
                  part.close);
    });
    detail::Sweep out;
    std::vector<std::vector<double>> squares;
    std::vector<detail::MomentSums> sums;
    std::vector<double> image(static_cast<std::size_t>(k * stride), 0.0);
    close_rows_ = chunks.rows;
    too_many_close_ = task.recorded > 64;  // cuts have no bit in Verdict::close from there on
    for (Part& part : parts) {
      out.change.add(part.change);
      too_many_close_ = too_many_close_ || part.close.size() >= kMaxClose;
      close_.push_back(std::move(part.close));
      squares.push_back(std::move(part.squares));
      for (std::size_t j = 0; j < image.size(); ++j) image[j] += part.sums.shift[j];
      part.sums.shift.erase(part.sums.shift.begin(), part.sums.shift.begin() + k * stride);
      sums.push_back(std::move(part.sums));
    }
    auto moments = detail::add_moments(sums, widened(centre_).data(), rows_.d);
    const double mass = moments.mass;
    out.change.limited = over_budget(mass, task.budget);
    out.histograms = counts.histograms(task.cuts, squares);
    out.image = Block{rows_.d, std::vector<double>(task.block.numbers.size())};
    for (int c = 0; c < k; ++c) {
      double along = 0.0;  // (mean - centre) . v
      const auto shift = [&](std::int64_t j) {
        const auto at = static_cast<std::size_t>(j);
        return moments.mean[at] - static_cast<double>(centre_[at]);
      };
      for (std::int64_t j = 0; j < rows_.d; ++j) along += shift(j) * task.block[c][j];
      for (std::int64_t j = 0; j < rows_.d; ++j) {
        out.image[c][j] = image[static_cast<std::size_t>(c * stride + j)] / mass - shift(j) * along;
      }
    }
    out.change.survivors = {std::move(moments.mean), moments.trace, mass};
    return out;
  }

  detail::Sweep move_bounds(const detail::SweepTask& task, const std::vector<Cut>& moved,
                            const detail::Survivors& before) override {
    if (too_many_close_) return FilterPasses::move_bounds(task, moved, before);
    const Packed<T> packed(moved, rows_.d);
    const auto m = static_cast<std::size_t>(packed.count);
    detail::Sweep out;
    out.reads = 0;
    // About the centre of the ball.
    detail::MomentSums sums;
    sums.shift.assign(before.mean.begin(), before.mean.end());
    sums.square = before.trace;
    for (std::size_t j = 0; j < sums.shift.size(); ++j) {
      sums.shift[j] -= static_cast<double>(centre_[j]);
      sums.square += sums.shift[j] * sums.shift[j];
      sums.shift[j] *= before.mass;
    }
    sums.square *= before.mass;
    sums.mass = before.mass;
    std::vector<T> z(m);
    std::vector<std::int64_t> changed;
    const auto between = [](double z, double a, double b) {
      return z >= std::min(a, b) && z < std::max(a, b);
    };
    std::int64_t last = -1;
    const auto visit = [&](std::int64_t i, std::uint32_t cut, T projection) {
      const Cut& was = task.cuts[cut];
      const auto along = static_cast<double>(projection);
      const bool crossed =
          between(along, was.lo, moved[cut].lo) || between(along, was.hi, moved[cut].hi);
      if (!crossed || i == last) return;
      last = i;
      const T* row = rows_[i];
      kernels_.project({&row, 1, rows_.d}, origin_.data(), packed.v.data(), packed.count, z.data());
      bool inside = true;
      for (std::size_t j = 0; j < m; ++j) {
        inside = inside && moved[j].keeps(static_cast<double>(z[j]));
      }
      if (inside == (weights_[i] > T(0.5))) return;
      changed.push_back(i);
      const double sign = inside ? 1.0 : -1.0;
      sums.mass += sign;
      for (std::size_t j = 0; j < sums.shift.size(); ++j) {
        const double x = static_cast<double>(row[j]) - static_cast<double>(centre_[j]);
        sums.shift[j] += sign * x;
        sums.square += sign * x * x;
      }
    };
    for (std::size_t chunk = 0; chunk < close_.size(); ++chunk) {
      const std::int64_t first = static_cast<std::int64_t>(chunk) * close_rows_;
      for (const Close<T>& at : close_[chunk]) visit(first + at.row, at.cut, at.z);
    }
    out.change.limited = over_budget(sums.mass, task.budget);
    if (out.change.limited) return out;
    auto moments = detail::add_moments({std::move(sums)}, widened(centre_).data(), rows_.d);
    out.change.survivors = {std::move(moments.mean), moments.trace, moments.mass};
    for (const std::int64_t i : changed) set_weight(i, !(weights_[i] > T(0.5)), out.change);
    return out;
  }

  detail::Survivors survivors() override {
    auto m = detail::row_moments(rows_, weights_, centre_.data(), num_threads_);
    return {std::move(m.mean), m.trace, m.mass};
  }

  void fail_on_bad_row() override {
    try {
      detail::fail_on_data(kOp, rows_);
    } catch (const NonFiniteError& error) {
      if (error.row() >= 0) throw;
    }
  }

  Change support(const detail::Ball& ball, const std::vector<Cut>& cuts, double budget) override {
    centre_ = padded_copy<T>(ball.centre);
    const bool bounded = std::isfinite(ball.radius2);
    const Packed<T> packed(cuts, rows_.d);
    const int m = packed.count;
    const Chunks chunks = chunks_for_sums();
    const std::int64_t ahead = detail::ahead_of(rows_);
    std::vector<detail::MomentSums> sums(static_cast<std::size_t>(chunks.count));
    std::vector<Change> changes(sums.size());
    detail::parallel_for(chunks.count, num_threads_, [&](std::int64_t c) {
      auto& sum = sums[static_cast<std::size_t>(c)];
      auto& change = changes[static_cast<std::size_t>(c)];
      Scratch scratch(rows_.d);
      sum.shift.assign(static_cast<std::size_t>(detail::padded<T>(rows_.d)), 0.0);
      Aligned<T> y(sum.shift.size(), T(0));
      const T* kept[detail::kFlush];
      T ones[detail::kFlush];
      std::fill_n(ones, detail::kFlush, T(1));
      T square[detail::kFlush];
      const std::int64_t end = std::min(x_.rows, (c + 1) * chunks.rows);
      for (std::int64_t block = c * chunks.rows; block < end; block += detail::kFlush) {
        const std::int64_t stop = std::min(end, block + detail::kFlush);
        for (std::int64_t i = block; i < stop; i += scratch.tile) {
          RowTile<T> tile = scratch.rows(rows_, i, stop);
          T* z = scratch.z(tile.count * m);
          tile.ahead = {ahead, m > 0 ? 0 : ahead};
          kernels_.distances2(tile, centre_.data(), square);
          tile.ahead = {0, ahead};
          if (m > 0) kernels_.project(tile, origin_.data(), packed.v.data(), m, z);
          int left = 0;
          for (int r = 0; r < tile.count; ++r) {
            const double distance = static_cast<double>(square[r]);
            change.overflow = change.overflow || !std::isfinite(distance);
            const double far = bounded ? distance / ball.radius2 : 0.0;
            bool inside = far <= 1.0;
            double severity = inside ? 0.0 : kOutsideBall * far;
            for (int j = 0; j < m; ++j) {
              const Cut& cut = cuts[static_cast<std::size_t>(j)];
              if (!cut.active()) continue;
              const auto zj = static_cast<double>(z[r * m + j]);
              inside = inside && cut.keeps(zj);
              severity = std::max(severity, std::abs(zj - cut.centre) / cut.scale);
            }
            if (inside) {
              kept[left++] = tile.rows[r];
              sum.square += distance;
              sum.mass += 1.0;
            }
            note(i + r, inside, severity, change);
          }
          kernels_.accumulate({kept, left, rows_.d}, centre_.data(), ones, 1, y.data());
        }
        kernels_.move_sums(y.data(), static_cast<std::int64_t>(y.size()), sum.shift.data());
      }
    });
    Change total;
    for (const Change& c : changes) total.add(c);
    auto m0 = detail::add_moments(sums, widened(centre_).data(), rows_.d);
    total.survivors = {std::move(m0.mean), m0.trace, m0.mass};
    const double excess = (static_cast<double>(x_.rows) - m0.mass) - budget;
    total.limited = excess > detail::kBudgetSlack;
    if (total.limited) {
      beside_.give_back(excess);
      total.moved = total.returned = 0.0;
      for (std::int64_t i = 0; i < x_.rows; ++i) {
        const double before = std::signbit(scores_[i]) ? 1.0 : 0.0;
        const double change = static_cast<double>(weights_[i]) - before;
        total.moved += std::abs(change);
        total.returned += std::max(change, 0.0);
      }
      total.survivors = survivors();
    }
    return total;
  }

  std::vector<Histogram> histograms(const detail::Ball& ball, const std::vector<Cut>& cuts,
                                    bool weighted,
                                    const std::vector<detail::CentreScale>& scored) override {
    const auto centre = padded_copy<T>(ball.centre);
    const bool bounded = std::isfinite(ball.radius2);
    const Packed<T> packed(cuts, rows_.d);
    const int m = packed.count;
    const std::uint64_t one = detail::units(1.0);
    const Chunks chunks(x_.rows, 0);
    const std::vector<Line> about = lines(scored);
    std::vector<std::vector<double>> squares(static_cast<std::size_t>(chunks.count));
    detail::HistogramCounts counts;
    detail::parallel_for(chunks.count, num_threads_, [&](std::int64_t chunk) {
      detail::HistogramCounter<T> counter(counts, cuts, squares[static_cast<std::size_t>(chunk)]);
      Scratch scratch(rows_.d);
      T distance[detail::kFlush];
      const std::int64_t end = std::min(x_.rows, (chunk + 1) * chunks.rows);
      for (std::int64_t i = chunk * chunks.rows; i < end; i += scratch.tile) {
        const RowTile<T> tile = scratch.rows(rows_, i, end);
        T* z = scratch.z(tile.count * m);
        project_and_measure(tile, packed, bounded ? centre.data() : nullptr, z, distance);
        for (int r = 0; r < tile.count; ++r) {
          const T* zr = z + r * m;
          if (!scored.empty()) {
            const double least = bounded ? radial(ball, distance[r]) : 0.0;
            write_score(i + r, zr, about, Worst{}, least);
          }
          if (bounded && !(static_cast<double>(distance[r]) <= ball.radius2)) continue;
          const std::uint64_t amount =
              weighted ? detail::units(static_cast<double>(weights_[i + r])) : one;
          if (amount != 0) counter.charge(zr, amount);
        }
      }
    });
    return counts.histograms(cuts, squares);
  }

  double standardised(const std::vector<Cut>& cuts) override {
    score({}, cuts, Sum{});
    double top = 0.0;
    for (std::int64_t i = 0; i < x_.rows; ++i) {
      if (weights_[i] > T(0)) top = std::max(top, static_cast<double>(scores_[i]));
    }
    return top;
  }

  void final_scores(const detail::Ball& ball, const std::vector<Cut>& cuts) override {
    score(ball, cuts, Worst{});
  }

  // ---- weights and scores only -----------------------------------------------------------------

  std::vector<double> tau_masses(double top) override { return beside_.tau_masses(top); }
  double tau_bound(std::int64_t count) override { return beside_.tau_bound(count); }
  Change reweigh(const detail::Reweighting& how, double budget) override {
    Change total = beside_.reweigh(how, budget);
    total.survivors = survivors();
    return total;
  }

 private:
  void sweep_chunk(const detail::SweepTask& task, const Packed<T>& packed,
                   const std::vector<T>& offset, int old, int k, std::int64_t begin,
                   std::int64_t end, Change& change, detail::MomentSums& sums,
                   detail::HistogramCounter<T>& counter, std::vector<Close<T>>& close) {
    const bool bounded = std::isfinite(task.ball.radius2);
    const bool scored = !task.scored.empty();
    const auto cuts = static_cast<int>(task.cuts.size());
    const Aligned<detail::CutLanes> lanes = side_by_side(task);
    const std::size_t slots = lanes.size() * detail::kLanes;
    const std::int64_t ahead = detail::ahead_of(rows_);
    const int width = old + k;
    const double radius2 = task.ball.radius2;
    // In registers: what is written to weights and scores could be these.
    double mass = 0.0;
    double squares = 0.0;
    std::int64_t moved = 0;
    std::int64_t returned = 0;
    bool overflow = false;
    Scratch scratch(rows_.d);
    Aligned<T> y(sums.shift.size(), T(0));
    std::vector<T> a(static_cast<std::size_t>(scratch.tile * k));
    std::vector<std::int32_t> bins(static_cast<std::size_t>(scratch.tile) * slots);
    const T* kept[detail::kFlush];
    T square[detail::kFlush];
    detail::Verdict verdicts[detail::kFlush];
    for (std::int64_t block = begin; block < end; block += detail::kFlush) {
      const std::int64_t stop = std::min(end, block + detail::kFlush);
      for (std::int64_t i = block; i < stop; i += scratch.tile) {
        RowTile<T> tile = scratch.rows(rows_, i, stop);
        T* z = scratch.z(tile.count * width + detail::kLanes);
        tile.ahead = {ahead, ahead};
        kernels_.measure(tile, origin_.data(), packed.v.data(), width, z, centre_.data(), square);
        kernels_.judge(z, width, tile.count, lanes.data(), cuts, bins.data(), verdicts);
        int left = 0;
        for (int r = 0; r < tile.count; ++r) {
          const T* zr = z + r * width;
          const double distance = static_cast<double>(square[r]);
          overflow |= !std::isfinite(distance);
          const bool near = !bounded || distance <= radius2;
          if (scored) {
            const double least = near ? 0.0 : radial(task.ball, square[r]);
            set_score(i + r, std::max(least, verdicts[r].worst));
          }
          if (near) counter.charge(zr, bins.data() + r * slots, verdicts[r].excluding);
          const bool inside = near && verdicts[r].excluding >= old;
          const bool before = weights_[i + r] > T(0.5);
          moved += before != inside;
          returned += inside && !before;
          weights_[i + r] = inside ? T(1) : T(0);
          if (near && verdicts[r].close != 0)
            list_close(i + r - begin, zr, verdicts[r].close, close);
          if (!inside) continue;
          T* ar = a.data() + static_cast<std::ptrdiff_t>(left * k);
          for (int c = 0; c < k; ++c) ar[c] = zr[old + c] + offset[static_cast<std::size_t>(c)];
          kept[left++] = tile.rows[r];
          squares += distance;
          mass += 1.0;
        }
        kernels_.accumulate_and_add({kept, left, rows_.d}, centre_.data(), a.data(), k, y.data());
      }
      kernels_.move_sums(y.data(), static_cast<std::int64_t>(y.size()), sums.shift.data());
    }
    sums.square = squares;
    sums.mass = mass;
    change.moved = static_cast<double>(moved);
    change.returned = static_cast<double>(returned);
    change.overflow = overflow;
  }

  static void list_close(std::int64_t i, const T* z, std::uint64_t mask,
                         std::vector<Close<T>>& to) {
    for (; mask != 0 && to.size() < kMaxClose; mask &= mask - 1) {
      const auto cut = static_cast<std::uint32_t>(std::countr_zero(mask));
      to.push_back({static_cast<std::uint32_t>(i), cut, z[cut]});
    }
  }

  static Aligned<detail::CutLanes> side_by_side(const detail::SweepTask& task) {
    static_assert(2 * detail::kHalfBins == detail::kBins);
    const std::size_t m = task.cuts.size();
    const std::vector<Line> about = lines(task.scored);
    Aligned<detail::CutLanes> out((m + detail::kLanes - 1) / detail::kLanes);
    for (std::size_t j = 0; j < out.size() * detail::kLanes; ++j) {
      detail::CutLanes& group = out[j / detail::kLanes];
      const std::size_t i = j % detail::kLanes;
      const Cut cut = j < m ? task.cuts[j] : Cut{};
      const Line line = j < about.size() ? about[j] : Line{0.0, 0.0};
      group.used[i] = j < m ? -1 : 0;
      group.lo[i] = cut.lo;
      group.hi[i] = cut.hi;
      const bool recorded = j < task.recorded;
      const detail::CloseRange lo = recorded ? detail::close_to_lo(cut) : detail::CloseRange{};
      const detail::CloseRange hi = recorded ? detail::close_to_hi(cut) : detail::CloseRange{};
      group.lo_from[i] = lo.from;
      group.lo_to[i] = lo.to;
      group.hi_from[i] = hi.from;
      group.hi_to[i] = hi.to;
      group.origin[i] = cut.grid.origin;
      group.width[i] = cut.grid.width;
      group.centre[i] = line.centre;
      group.inverse[i] = line.inverse;
    }
    return out;
  }

  /// What a task needs for a tile of rows.
  struct Scratch {
    explicit Scratch(std::int64_t d)
        : tile(detail::tile_rows<T>(d)), pointers(static_cast<std::size_t>(tile)) {}
    T* z(int count) {
      if (projections.size() < static_cast<std::size_t>(count))
        projections.resize(static_cast<std::size_t>(count));
      return projections.data();
    }
    RowTile<T> rows(const Rows<T>& from, std::int64_t first, std::int64_t end) {
      const int count = static_cast<int>(std::min<std::int64_t>(tile, end - first));
      for (int r = 0; r < count; ++r) pointers[static_cast<std::size_t>(r)] = from[first + r];
      return {pointers.data(), count, from.d};
    }
    int tile;
    std::vector<const T*> pointers;
    std::vector<T> projections;
  };

  Chunks chunks_for_sums() const { return Chunks(x_.rows, detail::padded<T>(rows_.d) * 8); }

  template <class Visit>
  void over_tiles(const Rows<T>& rows, const Visit& visit) {
    const Chunks chunks(rows.count, 0);
    detail::parallel_for(chunks.count, num_threads_, [&](std::int64_t c) {
      Scratch scratch(rows.d);
      const std::int64_t end = std::min(rows.count, (c + 1) * chunks.rows);
      for (std::int64_t i = c * chunks.rows; i < end; i += scratch.tile) {
        visit(i, scratch.rows(rows, i, end), scratch);
      }
    });
  }

  /// Projections and, about a centre unless it is null, squared distances; memory is asked for
  /// during both.
  void project_and_measure(RowTile<T> tile, const Packed<T>& packed, const T* centre, T* z,
                           T* distance) const {
    const std::int64_t ahead = detail::ahead_of(rows_);
    tile.ahead = {ahead, ahead};
    if (centre != nullptr) {
      tile.ahead = {ahead, 0};
      kernels_.distances2(tile, centre, distance);
      tile.ahead = {0, ahead};
    }
    kernels_.project(tile, origin_.data(), packed.v.data(), packed.count, z);
  }

  bool over_budget(double mass, double budget) const {
    return (static_cast<double>(x_.rows) - mass) - budget > detail::kBudgetSlack;
  }

  double distance2(const T* row, const T* centre) const {
    T out;
    kernels_.distances2({&row, 1, rows_.d}, centre, &out);
    return static_cast<double>(out);
  }

  std::vector<double> widened(const Aligned<T>& from) const {
    return {from.begin(), from.begin() + rows_.d};
  }

  Block product(const Block& v, const std::vector<double>& mean, const std::int64_t* index,
                std::int64_t count) const {
    Block y{v.d, std::vector<double>(v.numbers.size())};
    const ConstVectorView weights{weights_, x_.rows, x_.dtype};
    cpu::covariance_apply({kOp, x_, weights, mean.data(), v.numbers.data(), y.numbers.data(),
                           v.count(), 1, v.d, index, count},
                          num_threads_);
    return y;
  }

  /// Sets a row's weight to 0 or 1. Its score becomes its severity, and the sign of it says whether
  /// the row was in before: wanted again only if the budget turns out to be exceeded.
  void note(std::int64_t i, bool inside, double severity, Change& change) {
    constexpr double kLargest = std::numeric_limits<T>::max();
    const T size = severity <= kLargest ? static_cast<T>(severity) : std::numeric_limits<T>::max();
    scores_[i] = weights_[i] > T(0.5) ? -size : size;
    set_weight(i, inside, change);
  }

  void set_weight(std::int64_t i, bool inside, Change& change) {
    const double before = static_cast<double>(weights_[i]);
    const double after = inside ? 1.0 : 0.0;
    change.moved += std::abs(after - before);
    change.returned += std::max(after - before, 0.0);
    weights_[i] = static_cast<T>(after);
  }

  /// What a projection is scored by. Multiplied by: a division takes five times as long.
  struct Line {
    double centre, inverse;
  };
  static std::vector<Line> lines(const std::vector<detail::CentreScale>& scored) {
    std::vector<Line> out;
    for (const detail::CentreScale& by : scored) {
      out.push_back({by.centre, std::min(1.0 / by.scale, std::numeric_limits<double>::max())});
    }
    return out;
  }

  struct Sum {
    double operator()(double sum, double z2) const { return sum + z2; }
  };
  struct Worst {
    double operator()(double worst, double z2) const { return std::max(worst, z2); }
  };

  /// scores[i] = all ((z_j - centre_j) / scale_j)^2 combined; the largest number of T where a
  /// projection overflowed.
  template <class Combine>
  void write_score(std::int64_t i, const T* z, const std::vector<Line>& about,
                   const Combine& combine, double least) {
    double total = least;
    double check = 0.0;
    for (std::size_t j = 0; j < about.size(); ++j) {
      const double t = (static_cast<double>(z[j]) - about[j].centre) * about[j].inverse;
      check += t;  // max() would hide a NaN
      total = combine(total, t * t);
    }
    set_score(i, std::isfinite(check) ? total : detail::kInfinity);
  }

  void set_score(std::int64_t i, double score) {
    constexpr T kLargest = std::numeric_limits<T>::max();
    scores_[i] = score <= static_cast<double>(kLargest) ? static_cast<T>(score) : kLargest;
  }

  /// What the ball says of a row: nothing inside it.
  static double radial(const detail::Ball& ball, T distance2) {
    const double far = static_cast<double>(distance2) / ball.radius2;
    return far <= 1.0 ? 0.0 : ball.score * far;
  }

  template <class Combine>
  void score(const detail::Ball& ball, const std::vector<Cut>& cuts, const Combine& combine) {
    const Packed<T> packed(cuts, rows_.d);
    const int m = packed.count;
    const bool bounded = std::isfinite(ball.radius2);
    const auto centre = padded_copy<T>(ball.centre);
    std::vector<detail::CentreScale> by;
    for (const Cut& cut : cuts) by.push_back({cut.centre, cut.scale});
    const std::vector<Line> about = lines(by);
    over_tiles(rows_, [&](std::int64_t first, const RowTile<T>& tile, Scratch& scratch) {
      T* z = scratch.z(tile.count * m);
      T distance[detail::kFlush];
      project_and_measure(tile, packed, bounded ? centre.data() : nullptr, z, distance);
      for (int r = 0; r < tile.count; ++r) {
        const double least = bounded ? radial(ball, distance[r]) : 0.0;
        write_score(first + r, z + r * m, about, combine, least);
      }
    });
  }

  ConstMatrixView x_;
  Rows<T> rows_;
  T* weights_;
  T* scores_;
  int num_threads_;
  detail::RowWeights<T> beside_;  ///< the same two
  const detail::RowKernels<T>& kernels_ = detail::row_kernels<T>();
  Aligned<T> origin_;  ///< of all projections, for the whole run
  Aligned<T> centre_;  ///< of the ball: distances and sums are about it
  std::vector<std::int64_t> sample_;
  std::vector<std::vector<Close<T>>> close_;  ///< what the last sweep found close to a bound
  std::int64_t close_rows_ = 0;               ///< of a chunk of it
  bool too_many_close_ = false;               ///< to list them all
};

}  // namespace

std::unique_ptr<detail::FilterPasses> cpu::filter_passes(const ConstMatrixView& x,
                                                         const VectorView& weights,
                                                         const VectorView& scores,
                                                         int num_threads) {
  if (x.dtype == DType::float64) {
    return std::make_unique<CpuPasses<double>>(x, weights, scores, num_threads);
  }
  return std::make_unique<CpuPasses<float>>(x, weights, scores, num_threads);
}

}  // namespace tamis
