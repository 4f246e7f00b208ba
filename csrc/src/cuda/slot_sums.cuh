// Slots of a launch whose blocks do not meet, added up by another launch.
#pragma once

#include "src/cuda/rows.cuh"

namespace tamis::cuda {

inline constexpr int kAddWarps = 8;

/// A warp adds the slots of every eighth part of the blocks, in order, for 32 sums; then the parts
/// meet, in order. Only the first `count` numbers of a slot are added.
template <class T>
__global__ void __launch_bounds__(kAddWarps* kWarp)
    add_slots_kernel(BlockSums sums, std::int64_t count, T* y, unsigned* not_finite) {
  __shared__ double parts[kAddWarps][kWarp];
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const std::int64_t e = static_cast<std::int64_t>(blockIdx.x) * kWarp + lane;
  const int each = (sums.blocks + kAddWarps - 1) / kAddWarps;
  const int end = min(sums.blocks, (warp + 1) * each);
  double sum = 0.0;
  if (e < count) {
#pragma unroll 8
    for (int b = warp * each; b < end; ++b) sum += sums.slots[b * sums.size + e];
  }
  parts[warp][lane] = sum;
  __syncthreads();
  if (warp > 0 || e >= count) return;
  for (int other = 1; other < kAddWarps; ++other) sum += parts[other][lane];
  y[e] = static_cast<T>(sum);
  if (!isfinite(sum)) atomicExch(not_finite, 1u);
}

/// Enqueues it.
inline void add_slots(const BlockSums& sums, std::int64_t count, double* y, unsigned* not_finite,
                      const Call& call) {
  const std::int64_t blocks = (count + kWarp - 1) / kWarp;
  add_slots_kernel<double><<<static_cast<unsigned>(blocks), kAddWarps * kWarp, 0, call.stream>>>(
      sums, count, y, not_finite);
  call.launched();
}

}  // namespace tamis::cuda
