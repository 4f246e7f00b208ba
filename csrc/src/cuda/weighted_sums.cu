#include <algorithm>

#include "src/cuda/product_kernel.cuh"
#include "src/cuda/slot_sums.cuh"
#include "src/detail/weighted_sums_backend.hpp"

namespace tamis::cuda {
namespace {

/// Sums for up to kProductColumns rows of u, from row `first` on.
template <class T>
void sum_rows(const detail::WeightedSumsTask& task, std::int64_t first, unsigned* not_finite,
              Workspace& workspace, const Call& call) {
  const std::int64_t n = task.x.rows;
  const std::int64_t d = task.x.cols;
  const std::int64_t k = std::min<std::int64_t>(kProductColumns, task.u.rows - first);
  Product<T> product{DeviceRows<T>(task.x, nullptr), nullptr, nullptr, nullptr, nullptr, k, 1, d};
  ProductShape shape =
      product_shape<T>(std::min(across_for<T>(d), kKnownAcross), static_cast<int>(k), false);
  const std::int64_t bytes = n * d * static_cast<std::int64_t>(sizeof(T));
  const std::int64_t tiles = (n + shape.tile() - 1) / shape.tile();
  split_rows(shape, n, block_count(bytes, 18 * k * d, tiles));
  const BlockSums sums = workspace.block_sums(blocks_of(shape, n), k * d, call);
  const std::int64_t width = shape.width<T>();
  const dim3 grid(static_cast<unsigned>(sums.blocks),
                  static_cast<unsigned>((d + width - 1) / width));
  const KnownProjections<T> known{static_cast<const T*>(task.u.data) + first * task.u.row_stride,
                                  0,
                                  n,
                                  false,
                                  1,
                                  task.u.row_stride};
  launch_product<T, ProductWork::sums>(product, shape, known, sums, grid, nullptr, call);
  add_slots(sums, sums.size, task.y + first * d, not_finite, call);
}

template <class T>
void run(const detail::WeightedSumsTask& task, const Call& call) {
  Workspace workspace;
  DeviceBuffer<unsigned> not_finite(1, call);
  not_finite.zero(1, call);
  for (std::int64_t first = 0; first < task.u.rows; first += kProductColumns) {
    sum_rows<T>(task, first, not_finite.get(), workspace, call);
  }
  if (not_finite.numbers(call)[0] == 0) return;
  const auto weights_of = [&](std::int64_t c) {
    const auto* row = static_cast<const T*>(task.u.data) + c * task.u.row_stride;
    return numbers_at(row, task.x.rows, call);
  };
  const DeviceBuffer<T> used(detail::used_rows<T>(task, weights_of), call);
  fail_on_bad_row(DeviceRows<T>(task.x, used.get()), call);
  detail::fail_on_overflow(task);
}

}  // namespace

void weighted_sums(const detail::WeightedSumsTask& task, const Exec& exec) {
  const DeviceGuard guard(exec, task.op);
  const Call call(task.op, exec);
  if (task.x.dtype == DType::float64) {
    run<double>(task, call);
  } else {
    run<float>(task, call);
  }
}

}  // namespace tamis::cuda
