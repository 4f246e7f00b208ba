// Sums that do not depend on which block runs when: every block writes its own, and they are added
// in block order. The block that finishes last does it, so a sum costs no second launch.
#pragma once

#include <cstdint>

namespace tamis::cuda {

inline constexpr int kWarp = 32;
inline constexpr unsigned kAllLanes = 0xffffffffu;

__device__ __forceinline__ float mul_add(float a, float b, float c) { return __fmaf_rn(a, b, c); }
__device__ __forceinline__ double mul_add(double a, double b, double c) {
  return __fma_rn(a, b, c);
}

/// The sum of the lanes' numbers, in every lane.
__device__ __forceinline__ double warp_sum(double x) {
#pragma unroll
  for (int half = kWarp / 2; half > 0; half /= 2) x += __shfl_xor_sync(kAllLanes, x, half);
  return x;
}

/// One step of transposed_sum: lanes whose number has the bit `half` keep the upper half of v.
template <int half, class T, int size>
__device__ __forceinline__ void exchange(T (&v)[size], unsigned lane) {
  if constexpr (half > 0) {
#pragma unroll
    for (int i = 0; i < half; ++i) {
      const T low = v[i];
      const T high = v[i + half];
      const bool upper = (lane & half) != 0;
      v[i] = (upper ? high : low) + __shfl_xor_sync(kAllLanes, upper ? low : high, half);
    }
    exchange<half / 2>(v, lane);  // no loop: every index must be known to the compiler
  }
}

/// Lane i gets the sum of all lanes' v[i % size], size being a power of two up to 16: for 16, 16
/// exchanges, where 16 separate sums would take 80.
template <class T, int size>
__device__ __forceinline__ T transposed_sum(T (&v)[size]) {
  exchange<size / 2>(v, threadIdx.x % kWarp);
#pragma unroll
  for (int half = size; half < kWarp; half *= 2) {
    v[0] += __shfl_xor_sync(kAllLanes, v[0], half);
  }
  return v[0];
}

/// The sum of all threads' numbers, in every thread. `scratch`: shared, one number a warp.
__device__ __forceinline__ double block_sum(double x, double* scratch) {
  x = warp_sum(x);
  __syncthreads();
  if (threadIdx.x % kWarp == 0) scratch[threadIdx.x / kWarp] = x;
  __syncthreads();
  double sum = 0.0;
  for (unsigned w = 0; w < blockDim.x / kWarp; ++w) sum += scratch[w];
  return sum;
}

/// Where the blocks of a launch leave their sums: blocks of one blockIdx.x share a slot.
struct BlockSums {
  double* slots;      ///< blocks * size
  double* sets;       ///< sets() * size
  double* totals;     ///< size
  unsigned* tickets;  ///< sets() + 1 of them, zero between launches
  std::int64_t size;
  int blocks;
  int set_size;  ///< blocks whose sums are added first; 1: all are added at once

  __host__ __device__ int set_count() const { return (blocks + set_size - 1) / set_size; }
  __device__ double* mine() const { return slots + blockIdx.x * size; }
};

/// Is this the last of `members` blocks to get here? All that they wrote before can then be read.
__device__ __forceinline__ bool is_last(unsigned* ticket, unsigned members) {
  __shared__ bool last;
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();
    last = atomicInc(ticket, members - 1) == members - 1;  // wraps to zero
    __threadfence();
  }
  __syncthreads();
  return last;
}

__device__ __forceinline__ void add_in_order(const double* from, int count, std::int64_t size,
                                             double* to) {
  for (std::int64_t e = threadIdx.x; e < size; e += blockDim.x) {
    double sum = 0.0;
#pragma unroll 16
    for (int b = 0; b < count; ++b) sum += from[b * size + e];
    to[e] = sum;
  }
}

/// To be called by every block once its slot is written. True in one block, which may then read the
/// totals.
__device__ __forceinline__ bool add_up(const BlockSums& sums) {
  const double* from = sums.slots;
  const int sets = sums.set_count();
  if (sums.set_size > 1) {
    const int set = static_cast<int>(blockIdx.x) / sums.set_size;
    const int first = set * sums.set_size;
    const int members = min(sums.set_size, sums.blocks - first);
    if (!is_last(sums.tickets + set, members * gridDim.y)) return false;
    add_in_order(sums.slots + first * sums.size, members, sums.size, sums.sets + set * sums.size);
    from = sums.sets;
  }
  if (!is_last(sums.tickets + sets, sets * (sums.set_size > 1 ? 1 : gridDim.y))) return false;
  add_in_order(from, sets, sums.size, sums.totals);
  __syncthreads();
  return true;
}

}  // namespace tamis::cuda
