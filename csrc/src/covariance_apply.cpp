#include "tamis/covariance_apply.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "src/detail/covariance_apply_backend.hpp"
#include "src/detail/matrix_check.hpp"
#include "src/detail/row_passes.hpp"

namespace tamis {
namespace {

using detail::Aligned;
using detail::CovarianceTask;

/// What one chunk of rows adds up to, about the shift.
struct Sums {
  Aligned<double> y;      ///< columns of padded(d): sum of w z (x - shift)
  std::vector<double> z;  ///< k: sum of w z
  double weight = 0.0;
};

template <class T>
class Pass {
 public:
  explicit Pass(const CovarianceTask& task)
      : task_(task),
        rows_(task.index == nullptr ? detail::Rows<T>(task.x)
                                    : detail::Rows<T>(task.x, task.index, task.count)),
        weights_(static_cast<const T*>(task.weights.data)),
        stride_(detail::padded<T>(task.x.cols)),
        // An unknown mean takes one more column: the sum of the rows.
        columns_(task.k + (task.mean == nullptr ? 1 : 0)),
        shift_(static_cast<std::size_t>(stride_), T(0)),
        v_(detail::pack<T>(task.v, task.x.cols, task.k, task.element_stride, task.vector_stride)),
        offset_(static_cast<std::size_t>(task.k), T(0)) {
    choose_shift();
  }

  void run(int num_threads) {
    const detail::Chunks chunks(rows_.count, columns_ * stride_ * 8);
    std::vector<Sums> sums(static_cast<std::size_t>(chunks.count));
    detail::parallel_for(chunks.count, num_threads, [&](std::int64_t c) {
      sum_chunk(c * chunks.rows, std::min(rows_.count, (c + 1) * chunks.rows),
                sums[static_cast<std::size_t>(c)]);
    });
    Sums total = std::move(sums[0]);
    for (std::size_t c = 1; c < sums.size(); ++c) {
      for (std::size_t j = 0; j < total.y.size(); ++j) total.y[j] += sums[c].y[j];
      for (std::size_t j = 0; j < total.z.size(); ++j) total.z[j] += sums[c].z[j];
      total.weight += sums[c].weight;
    }
    finish(total);
  }

 private:
  T weight(std::int64_t i) const { return weights_ == nullptr ? T(1) : weights_[rows_.number(i)]; }

  /// Numbers are summed about `shift`, which need only be near the mean: what is left is corrected
  /// exactly in float64. So float32 data with a large mean lose nothing.
  void choose_shift() {
    const std::int64_t d = task_.x.cols;
    if (task_.mean != nullptr) {
      for (std::int64_t j = 0; j < d; ++j) {
        const T rounded = static_cast<T>(task_.mean[j]);
        shift_[static_cast<std::size_t>(j)] = std::isfinite(rounded) ? rounded : T(0);
      }
      for (std::int64_t c = 0; c < task_.k; ++c) {
        double sum = 0.0;
        for (std::int64_t j = 0; j < d; ++j) {
          sum += (static_cast<double>(shift_[static_cast<std::size_t>(j)]) - task_.mean[j]) *
                 static_cast<double>(v_[static_cast<std::size_t>(c * stride_ + j)]);
        }
        offset_[static_cast<std::size_t>(c)] = static_cast<T>(sum);
      }
      return;
    }
    shift_ = detail::near_mean(rows_, weights_);
  }

  void sum_chunk(std::int64_t begin, std::int64_t end, Sums& out) const {
    const auto& kernels = detail::row_kernels<T>();
    const std::int64_t d = task_.x.cols;
    const int k = static_cast<int>(task_.k);
    const int columns = static_cast<int>(columns_);
    const detail::Reading reading = detail::reading_of(rows_, k, columns);
    const int tile = reading.tile;
    out.y.assign(static_cast<std::size_t>(columns_ * stride_), 0.0);
    out.z.assign(static_cast<std::size_t>(k), 0.0);
    Aligned<T> y(out.y.size(), T(0));
    std::vector<T> z(static_cast<std::size_t>(tile * k));
    std::vector<T> a(static_cast<std::size_t>(tile * columns));
    const T* rows[detail::kFlush];
    T w[detail::kFlush];
    for (std::int64_t block = begin; block < end; block += detail::kFlush) {
      int count = 0;
      for (std::int64_t i = block; i < std::min(end, block + detail::kFlush); ++i) {
        const T wi = weight(i);
        if (!(wi > T(0))) continue;
        rows[count] = rows_[i];
        w[count++] = wi;
        out.weight += static_cast<double>(wi);
      }
      if (count == 0) continue;
      for (int t = 0; t < count; t += tile) {
        detail::RowTile<T> part{rows + t, std::min(tile, count - t), d, reading.products,
                                reading.one_by_one};
        kernels.project(part, shift_.data(), v_.data(), k, z.data());
        for (int r = 0; r < part.count; ++r) {
          for (int c = 0; c < k; ++c) {
            const T zc =
                z[static_cast<std::size_t>(r * k + c)] + offset_[static_cast<std::size_t>(c)];
            const T wz = w[t + r] * zc;
            a[static_cast<std::size_t>(r * columns + c)] = wz;
            out.z[static_cast<std::size_t>(c)] += static_cast<double>(wz);
          }
          if (columns > k) a[static_cast<std::size_t>(r * columns + k)] = w[t + r];
        }
        part.ahead = reading.sums;
        kernels.accumulate(part, shift_.data(), a.data(), columns, y.data());
      }
      kernels.move_sums(y.data(), columns_ * stride_, out.y.data());
    }
  }

  void finish(const Sums& total) const {
    const std::int64_t d = task_.x.cols;
    const auto entry = [&](std::int64_t c, std::int64_t j) {
      return total.y[static_cast<std::size_t>(c * stride_ + j)];
    };
    bool finite = true;
    if (task_.found_mean != nullptr) {
      for (std::int64_t j = 0; j < d; ++j) {
        task_.found_mean[j] = static_cast<double>(shift_[static_cast<std::size_t>(j)]) +
                              entry(task_.k, j) / total.weight;
      }
    }
    for (std::int64_t c = 0; c < task_.k; ++c) {
      double along = 0.0;  // (mean - shift) . v
      if (task_.mean == nullptr) {
        for (std::int64_t j = 0; j < d; ++j) {
          along += entry(task_.k, j) / total.weight *
                   task_.v[j * task_.element_stride + c * task_.vector_stride];
        }
      }
      for (std::int64_t j = 0; j < d; ++j) {
        double sum = entry(c, j);
        if (task_.mean == nullptr) {
          sum -= entry(task_.k, j) * along;
        } else {
          sum += (static_cast<double>(shift_[static_cast<std::size_t>(j)]) - task_.mean[j]) *
                 total.z[static_cast<std::size_t>(c)];
        }
        sum /= total.weight;
        finite = finite && std::isfinite(sum);
        task_.y[j * task_.element_stride + c * task_.vector_stride] = sum;
      }
    }
    if (!finite) detail::fail_on_data(task_.op, rows_, weights_);
  }

  const CovarianceTask& task_;
  detail::Rows<T> rows_;
  const T* weights_;
  std::int64_t stride_;
  std::int64_t columns_;
  Aligned<T> shift_;
  Aligned<T> v_;
  std::vector<T> offset_;  ///< (shift - mean) . v_c
};

}  // namespace

void cpu::covariance_apply(const CovarianceTask& task, int num_threads) {
  if (task.x.dtype == DType::float64) {
    Pass<double>(task).run(num_threads);
  } else {
    Pass<float>(task).run(num_threads);
  }
}

void covariance_apply(ConstMatrixView x, const double* v, std::int64_t k, double* y,
                      ConstVectorView weights, const double* mean, const Exec& exec) {
  constexpr const char* op = "covariance_apply";
  detail::check_rows(op, x, 1);
  detail::check_vectors(op, k, v, y);
  detail::check_weights(op, x, weights, exec);
  detail::check_finite(op, "v", v, x.cols * k, exec);
  detail::check_finite(op, "mean", mean, x.cols, exec);
  if (detail::overlaps(x, y, x.cols * k * 8))
    detail::fail(op, "y apart from x", "overlapping memory");
  const CovarianceTask task{op, x, weights, mean, v, y, k, k, 1};
  if (exec.device.kind == Device::Kind::cuda) {
    cuda::covariance_apply(task, exec);
  } else {
    cpu::covariance_apply(task, exec.num_threads);
  }
}

}  // namespace tamis
