#include "tamis/weighted_sums.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "src/detail/chunk_sums.hpp"
#include "src/detail/matrix_check.hpp"
#include "src/detail/row_passes.hpp"
#include "src/detail/weighted_sums_backend.hpp"

namespace tamis {
namespace {

using detail::Aligned;
using detail::WeightedSumsTask;

/// Rows of a tile, read once, need not stay in the first-level cache, as those of tile_rows must:
/// sums are loaded and stored once a tile, so more rows are better. The next tile is asked for
/// meanwhile where half of the second-level cache holds it.
constexpr int kTile = 32;
constexpr std::int64_t kTileBytes = 512 << 10;

template <class T>
class Pass {
 public:
  explicit Pass(const WeightedSumsTask& task)
      : task_(task),
        rows_(task.x),
        u_(static_cast<const T*>(task.u.data)),
        vectors_(task.u.rows),
        stride_(detail::padded<T>(task.x.cols)),
        zeros_(static_cast<std::size_t>(stride_), T(0)),
        ahead_(task.x.cols * static_cast<std::int64_t>(sizeof(T)) > kTileBytes / kTile
                   ? 0
                   : kTile * rows_.stride) {}

  void run(int num_threads) {
    const std::int64_t size = vectors_ * stride_;
    const detail::Chunks chunks(rows_.count, size * 8);
    const auto total = detail::sum_chunks(
        chunks, rows_.count, size, num_threads, [this] { return Scratch(*this); },
        [this](std::int64_t begin, std::int64_t end, Scratch& scratch, double* sums) {
          sum_chunk(begin, end, scratch, sums);
        });
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
      for (int t = 0; t < count; t += kTile) {
        kernels.accumulate({rows + t, std::min(kTile, count - t), rows_.d, {ahead_, ahead_}},
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
    if (finite) return;
    const auto used =
        detail::used_rows<T>(task_, [&](std::int64_t c) { return u_ + c * task_.u.row_stride; });
    detail::fail_on_bad_row(task_.op, rows_, used.data());
    detail::fail_on_overflow(task_);
  }

  const WeightedSumsTask& task_;
  detail::Rows<T> rows_;
  const T* u_;
  std::int64_t vectors_;  ///< of weights
  std::int64_t stride_;
  Aligned<T> zeros_;
  std::int64_t ahead_;
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
