#include "tamis/weighted_sums.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "src/detail/matrix_check.hpp"
#include "src/detail/row_passes.hpp"
#include "src/detail/weighted_sums_backend.hpp"

namespace tamis {
namespace {

using detail::Aligned;
using detail::WeightedSumsTask;

template <class T>
class Pass {
 public:
  explicit Pass(const WeightedSumsTask& task)
      : task_(task),
        rows_(task.x),
        u_(static_cast<const T*>(task.u.data)),
        vectors_(task.u.rows),
        stride_(detail::padded<T>(task.x.cols)),
        zeros_(static_cast<std::size_t>(stride_), T(0)) {}

  void run(int num_threads) {
    const std::int64_t size = vectors_ * stride_;
    const detail::Chunks chunks(rows_.count, size * 8);
    Aligned<double> total(static_cast<std::size_t>(size), 0.0);
    const auto end_of = [&](std::int64_t c) {
      return std::min(rows_.count, (c + 1) * chunks.rows);
    };
    const auto add = [&](const Aligned<double>& sums) {
      for (std::size_t e = 0; e < total.size(); ++e) total[e] += sums[e];
    };
    if (num_threads == 0) num_threads = default_num_threads();
    if (num_threads == 1 || chunks.count == 1) {
      Scratch scratch(*this);
      if (chunks.rows == detail::kFlush || chunks.count == 1) {
        // Adding to the total what another thread would add to zeros first gives the same bits.
        for (std::int64_t c = 0; c < chunks.count; ++c) {
          sum_chunk(c * chunks.rows, end_of(c), scratch, total.data());
        }
      } else {
        Aligned<double> sums;
        for (std::int64_t c = 0; c < chunks.count; ++c) {
          sums.assign(total.size(), 0.0);
          sum_chunk(c * chunks.rows, end_of(c), scratch, sums.data());
          add(sums);
        }
      }
    } else {
      std::vector<Aligned<double>> sums(static_cast<std::size_t>(chunks.count));
      detail::parallel_for(chunks.count, num_threads, [&](std::int64_t c) {
        Scratch scratch(*this);
        auto& own = sums[static_cast<std::size_t>(c)];
        own.assign(total.size(), 0.0);
        sum_chunk(c * chunks.rows, end_of(c), scratch, own.data());
      });
      for (const auto& own : sums) add(own);
    }
    finish(total);
  }

 private:
  struct Scratch {
    explicit Scratch(const Pass& pass)
        : y(static_cast<std::size_t>(pass.vectors_ * pass.stride_), T(0)),
          a(static_cast<std::size_t>(pass.vectors_ * detail::kFlush)) {}
    Aligned<T> y;      ///< sums of a block of rows
    std::vector<T> a;  ///< its weights, row by row
  };

  void sum_chunk(std::int64_t begin, std::int64_t end, Scratch& scratch, double* total) const {
    const auto& kernels = detail::row_kernels<T>();
    const int k = static_cast<int>(vectors_);
    // Sums are loaded and stored once a tile; rows read once need not stay in the first cache.
    const bool large = detail::is_large(rows_);
    const int tile = large ? detail::tile_rows<T>(rows_.d) : detail::kFlush;
    const std::int64_t ahead = large ? detail::ahead_of(rows_) : 0;
    const T* rows[detail::kFlush];
    for (std::int64_t block = begin; block < end; block += detail::kFlush) {
      int count = 0;
      for (std::int64_t i = block; i < std::min(end, block + detail::kFlush); ++i) {
        T* a = scratch.a.data() + static_cast<std::ptrdiff_t>(count) * k;
        bool used = false;
        for (int c = 0; c < k; ++c) {
          a[c] = u_[c * task_.u.row_stride + i];
          used = used || a[c] != T(0);  // a NaN is used: it shows in the sums
        }
        rows[count] = rows_[i];
        count += used ? 1 : 0;
      }
      for (int t = 0; t < count; t += tile) {
        kernels.accumulate({rows + t, std::min(tile, count - t), rows_.d, {ahead, ahead}},
                           zeros_.data(), scratch.a.data() + static_cast<std::ptrdiff_t>(t) * k, k,
                           scratch.y.data());
      }
      kernels.move_sums(scratch.y.data(), vectors_ * stride_, total);
    }
  }

  void finish(const Aligned<double>& total) const {
    bool finite = true;
    for (std::int64_t c = 0; c < vectors_; ++c) {
      for (std::int64_t j = 0; j < rows_.d; ++j) {
        const double sum = total[static_cast<std::size_t>(c * stride_ + j)];
        finite = finite && std::isfinite(sum);
        task_.y[c * rows_.d + j] = sum;
      }
    }
    if (!finite) explain();
  }

  /// No weight that is not finite leaves all sums finite, so nobody need have looked before.
  [[noreturn]] void explain() const {
    std::vector<T> used(static_cast<std::size_t>(rows_.count), T(0));
    for (std::int64_t c = 0; c < vectors_; ++c) {
      const T* weights = u_ + c * task_.u.row_stride;
      for (std::int64_t i = 0; i < rows_.count; ++i) {
        detail::check_weight(task_, weights[i], c, i);
        if (weights[i] != T(0)) used[static_cast<std::size_t>(i)] = T(1);
      }
    }
    detail::fail_on_bad_row(task_.op, rows_, used.data());
    detail::fail_on_overflow(task_);
  }

  const WeightedSumsTask& task_;
  detail::Rows<T> rows_;
  const T* u_;
  std::int64_t vectors_;  ///< of weights
  std::int64_t stride_;
  Aligned<T> zeros_;
};

}  // namespace

void cpu::weighted_sums(const WeightedSumsTask& task, int num_threads) {
  if (task.x.dtype == DType::float64) {
    Pass<double>(task).run(num_threads);
  } else {
    Pass<float>(task).run(num_threads);
  }
}

void weighted_sums(ConstMatrixView x, ConstMatrixView u, double* y, const Exec& exec) {
  constexpr const char* op = "weighted_sums";
  detail::check_rows(op, x, 1);
  if (u.dtype != x.dtype)
    detail::fail(op, detail::text("u of ", name_of(x.dtype)), name_of(u.dtype));
  if (u.rows < 1 || u.rows > detail::kMaxVectors || u.cols != x.rows) {
    detail::fail(op,
                 detail::text("u of shape (j, ", x.rows, ") with 1 <= j <= ", detail::kMaxVectors),
                 detail::text("(", u.rows, ", ", u.cols, ")"));
  }
  if (u.rows > 1 && u.row_stride < u.cols) {
    detail::fail(op, detail::text("u.row_stride >= ", u.cols), detail::text(u.row_stride));
  }
  if (u.data == nullptr || y == nullptr) detail::fail(op, "non-null u and y", "null");
  const std::int64_t bytes = u.rows * x.cols * 8;
  if (detail::overlaps(x, y, bytes) || detail::overlaps(u, y, bytes)) {
    detail::fail(op, "y apart from x and u", "overlapping memory");
  }
  const WeightedSumsTask task{op, x, u, y};
  if (exec.device.kind == Device::Kind::cuda) {
    cuda::weighted_sums(task, exec);
  } else {
    cpu::weighted_sums(task, exec.num_threads);
  }
}

}  // namespace tamis
