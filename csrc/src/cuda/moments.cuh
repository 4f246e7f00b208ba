// Mean, trace of the covariance and mass of weighted rows, in one pass.
#pragma once

#include <algorithm>

#include "src/cuda/rows.cuh"

namespace tamis::cuda {

/// How a block is laid over rows and columns.
struct MomentShape {
  static constexpr int kThreads = 256;
  static constexpr int kOwn = 4;   ///< columns of a thread, `across` apart
  static constexpr int kRows = 8;  ///< summed in x's type
  int across;                      ///< threads side by side, whole warps
  int column_blocks;
  int row_blocks;
  std::int64_t rows_per_block;

  template <class T>
  MomentShape(std::int64_t n, std::int64_t d, T) {
    across = kWarp;
    while (across < kThreads && across * kOwn < d) across *= 2;
    column_blocks = static_cast<int>((d + across * kOwn - 1) / (across * kOwn));
    const std::int64_t tile = kThreads / across * kRows;
    const std::int64_t tiles = (n + tile - 1) / tile;
    row_blocks = block_count(n * d * static_cast<std::int64_t>(sizeof(T)), 18 * size(d), tiles);
    rows_per_block = (tiles + row_blocks - 1) / row_blocks * tile;
    row_blocks = static_cast<int>((n + rows_per_block - 1) / rows_per_block);
  }
  /// Numbers in a slot: sums of w (x - centre), of w |x - centre|^2 by column block, of w.
  std::int64_t size(std::int64_t d) const { return d + column_blocks + 1; }
};

template <class T>
__global__ void __launch_bounds__(MomentShape::kThreads)
    moment_kernel(DeviceRows<T> rows, const T* __restrict__ centre, MomentShape shape,
                  BlockSums sums) {
  constexpr int kOwn = MomentShape::kOwn;
  __shared__ double scratch[MomentShape::kThreads];
  const int p = static_cast<int>(threadIdx.x) % shape.across;
  const int lane = static_cast<int>(threadIdx.x) / shape.across;
  const int lanes = MomentShape::kThreads / shape.across;
  const std::int64_t base = static_cast<std::int64_t>(blockIdx.y) * shape.across * kOwn + p;
  const std::int64_t begin = blockIdx.x * shape.rows_per_block;
  const std::int64_t end = min(begin + shape.rows_per_block, rows.count);
  T about[kOwn];
  double total[kOwn];
#pragma unroll
  for (int o = 0; o < kOwn; ++o) {
    const std::int64_t j = base + o * shape.across;
    about[o] = j < rows.d ? centre[j] : T(0);
    total[o] = 0.0;
  }
  double square = 0.0;
  double mass = 0.0;
  for (std::int64_t first = begin + lane; first < end; first += lanes * MomentShape::kRows) {
    T part[kOwn] = {};
    T part_square = T(0);
#pragma unroll 2
    for (int r = 0; r < MomentShape::kRows; ++r) {
      const std::int64_t i = first + r * lanes;
      const std::int64_t number = i < end ? rows.number(i) : 0;
      const T w = i < end ? rows.weight(number) : T(0);
      const bool used = w > T(0);
      const T* x = rows.data + number * rows.stride;
      if (p == 0 && used) mass += static_cast<double>(w);
#pragma unroll
      for (int o = 0; o < kOwn; ++o) {
        const std::int64_t j = base + o * shape.across;
        if (used && j < rows.d) {
          const T moved = x[j] - about[o];
          const T weighted = w * moved;
          part[o] += weighted;
          part_square = mul_add(weighted, moved, part_square);
        }
      }
    }
#pragma unroll
    for (int o = 0; o < kOwn; ++o) total[o] += static_cast<double>(part[o]);
    square += static_cast<double>(part_square);
  }
  double* slot = sums.mine();
#pragma unroll
  for (int o = 0; o < kOwn; ++o) {
    __syncthreads();
    scratch[threadIdx.x] = total[o];
    __syncthreads();
    const std::int64_t j = base + o * shape.across;
    if (lane == 0 && j < rows.d) {
      double sum = 0.0;
      for (int l = 0; l < lanes; ++l) sum += scratch[l * shape.across + p];
      slot[j] = sum;
    }
  }
  square = block_sum(square, scratch);
  mass = block_sum(mass, scratch);
  if (threadIdx.x == 0) {
    slot[rows.d + blockIdx.y] = square;
    if (blockIdx.y == 0) slot[rows.d + gridDim.y] = mass;
  }
  add_up(sums);
}

/// centre + sum of w (x - centre) / mass.
template <class T>
__global__ void mean_kernel(BlockSums sums, std::int64_t d, const T* centre, double* mean) {
  const std::int64_t j = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (j < d) mean[j] = static_cast<double>(centre[j]) + sums.totals[j] / sums.totals[sums.size - 1];
}

/// Enqueues the sums about `centre` (d numbers); they are then at the returned totals.
template <class T>
BlockSums row_moments(const DeviceRows<T>& rows, const T* centre, Workspace& workspace,
                      const Call& call) {
  const MomentShape shape(rows.count, rows.d, T{});
  const BlockSums sums = workspace.block_sums(shape.row_blocks, shape.size(rows.d), call);
  const dim3 grid(static_cast<unsigned>(shape.row_blocks),
                  static_cast<unsigned>(shape.column_blocks));
  moment_kernel<T><<<grid, MomentShape::kThreads, 0, call.stream>>>(rows, centre, shape, sums);
  call.launched();
  return sums;
}

/// The mean of the rows, in device memory.
template <class T>
DeviceBuffer<double> mean_of(const DeviceRows<T>& rows, Workspace& workspace, const Call& call) {
  constexpr unsigned kThreads = 256;
  const DeviceBuffer<T> near = near_mean(rows, call);
  const BlockSums sums = row_moments(rows, near.get(), workspace, call);
  DeviceBuffer<double> mean(static_cast<std::size_t>(rows.d), call);
  mean_kernel<T>
      <<<static_cast<unsigned>((rows.d + kThreads - 1) / kThreads), kThreads, 0, call.stream>>>(
          sums, rows.d, near.get(), mean.get());
  call.launched();
  return mean;
}

}  // namespace tamis::cuda
