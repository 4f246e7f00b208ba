#include "tamis/projection_scores.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "src/detail/matrix_check.hpp"
#include "src/detail/projection_scores_backend.hpp"
#include "src/detail/row_passes.hpp"

namespace tamis {
namespace {

template <class T>
void score_on_cpu(const detail::ProjectionTask& task, int num_threads) {
  const detail::Rows<T> rows(task.x);
  const std::int64_t d = rows.d;
  const int k = static_cast<int>(task.k);
  const int tile = detail::tile_rows<T>(d);
  const std::int64_t ahead = detail::ahead_of(rows);
  const auto& kernels = detail::row_kernels<T>();
  const auto v = detail::pack<T>(task.v, d, task.k, task.k, 1);
  const auto centre = detail::pack<T>(task.mean, d, 1, 1, 0);
  // A mean that T cannot hold is made up for along each column.
  std::vector<T> offset(static_cast<std::size_t>(k));
  for (int c = 0; c < k; ++c) {
    double sum = 0.0;
    for (std::int64_t j = 0; j < d; ++j) {
      sum += (static_cast<double>(centre[static_cast<std::size_t>(j)]) - task.mean[j]) *
             task.v[j * task.k + c];
    }
    offset[static_cast<std::size_t>(c)] = static_cast<T>(sum);
  }
  auto* scores = static_cast<T*>(task.scores.data);
  const detail::Chunks chunks(rows.count, 0);
  std::vector<char> bad(static_cast<std::size_t>(chunks.count), 0);
  detail::parallel_for(chunks.count, num_threads, [&](std::int64_t chunk) {
    std::vector<T> z(static_cast<std::size_t>(tile * k));
    std::vector<const T*> pointers(static_cast<std::size_t>(tile));
    const std::int64_t end = std::min(rows.count, (chunk + 1) * chunks.rows);
    for (std::int64_t i = chunk * chunks.rows; i < end; i += tile) {
      const int count = static_cast<int>(std::min<std::int64_t>(tile, end - i));
      for (int r = 0; r < count; ++r) pointers[static_cast<std::size_t>(r)] = rows[i + r];
      kernels.project({pointers.data(), count, d, {ahead, ahead}}, centre.data(), v.data(), k,
                      z.data());
      for (int r = 0; r < count; ++r) {
        T sum = T(0);
        for (int c = 0; c < k; ++c) {
          const T zc = z[static_cast<std::size_t>(r * k + c)] + offset[static_cast<std::size_t>(c)];
          sum += zc * zc;
        }
        scores[i + r] = sum;
        if (!std::isfinite(sum)) bad[static_cast<std::size_t>(chunk)] = 1;
      }
    }
  });
  if (std::find(bad.begin(), bad.end(), 1) != bad.end()) {
    detail::fail_on_data("projection_scores", rows);
  }
}

template <class T>
std::vector<double> mean_on_cpu(const ConstMatrixView& x, int num_threads) {
  const detail::Rows<T> rows(x);
  const auto centre = detail::near_mean<T>(rows, nullptr);
  auto mean = detail::row_moments<T>(rows, nullptr, centre.data(), num_threads).mean;
  for (const double m : mean) {
    if (!std::isfinite(m)) detail::fail_on_data("projection_scores", rows);
  }
  return mean;
}

}  // namespace

void projection_scores(ConstMatrixView x, const double* v, std::int64_t k, VectorView scores,
                       const double* mean, const Exec& exec) {
  constexpr const char* op = "projection_scores";
  detail::check_rows(op, x, 0);
  detail::check_vectors(op, k, v, v);
  detail::check_finite(op, "v", v, x.cols * k, exec);
  detail::check_finite(op, "mean", mean, x.cols, exec);
  if (scores.size != x.rows || scores.dtype != x.dtype) {
    detail::fail(op, detail::text("scores: ", x.rows, " of ", name_of(x.dtype)),
                 detail::text(scores.size, " of ", name_of(scores.dtype)));
  }
  if (detail::overlaps(x, scores.data, scores.size * size_of(scores.dtype))) {
    detail::fail(op, "scores apart from x", "overlapping memory");
  }
  if (x.rows == 0) return;
  if (scores.data == nullptr) detail::fail(op, "non-null scores", "null");
  detail::ProjectionTask task{x, mean, v, k, scores};
  if (exec.device.kind == Device::Kind::cuda) {
    cuda::projection_scores(task, exec);
    return;
  }
  std::vector<double> own;
  const bool wide = x.dtype == DType::float64;
  if (mean == nullptr) {
    own = wide ? mean_on_cpu<double>(x, exec.num_threads) : mean_on_cpu<float>(x, exec.num_threads);
    task.mean = own.data();
  }
  if (wide) {
    score_on_cpu<double>(task, exec.num_threads);
  } else {
    score_on_cpu<float>(task, exec.num_threads);
  }
}

}  // namespace tamis
