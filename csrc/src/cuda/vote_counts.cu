#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "src/cuda/device_buffer.cuh"
#include "src/detail/check.hpp"
#include "src/detail/vote_counts_backend.hpp"

namespace tamis::cuda {
namespace {

constexpr const char* kOp = "vote_counts";
constexpr int kWarp = 32;
constexpr int kWarpsPerBlock = 8;
constexpr int kThreads = kWarp * kWarpsPerBlock;
constexpr int kAtOnce = 4;  // loads of a thread that are under way together: they hide the memory
constexpr int kBlocksPerProcessor = 8;           // 2048 threads, all that a multiprocessor holds
constexpr std::int64_t kMaxBlockClasses = 4096;  // 16 KiB of counters a block
constexpr unsigned kAllLanes = 0xffffffffu;

__device__ __forceinline__ double number(double x) { return x; }
__device__ __forceinline__ float number(float x) { return x; }
__device__ __forceinline__ float number(__half x) { return __half2float(x); }
__device__ __forceinline__ float number(__nv_bfloat16 x) { return __bfloat162float(x); }

template <class T>
using Number = decltype(number(T()));

/// The largest logit seen, its class, and whether a NaN was among them. Begins as -Inf at class 0,
/// which is what a row of nothing but -Inf votes for.
template <class N>
struct Best {
  N value = -std::numeric_limits<N>::infinity();
  std::int32_t column = 0;
  bool nan = false;

  /// Columns come in increasing order, so that a tie stays with the lowest.
  __device__ __forceinline__ void see(N v, std::int32_t c) {
    nan |= v != v;
    if (v > value) {
      value = v;
      column = c;
    }
  }
  /// In lane 0 of every `lanes` lanes: the best of them, and the NaN of any.
  template <int lanes>
  __device__ __forceinline__ void reduce() {
    // -1 is smaller than any class and takes the NaN along.
    if (nan) column = -1;
#pragma unroll
    for (int offset = lanes / 2; offset > 0; offset /= 2) {
      const N other = __shfl_down_sync(kAllLanes, value, offset, lanes);
      const std::int32_t other_column = __shfl_down_sync(kAllLanes, column, offset, lanes);
      if (column < 0 || other_column < 0) {
        column = -1;
      } else if (other > value || (other == value && other_column < column)) {
        value = other;
        column = other_column;
      }
    }
  }
};

struct Rows {
  std::int64_t count, stride;
  std::int32_t classes;
};

/// Where votes go: counters of the block, flushed once at its end, or those of the result, where
/// the classes are too many. Counts are integers: additions in any order give the same result.
struct Votes {
  unsigned* block;  ///< in shared memory; 32 bits last for 2^32 rows a block; null: none
  unsigned long long* counts;
  unsigned long long* first_nan;

  __device__ void begin(std::int32_t classes) const {
    if (block == nullptr) return;
    for (int c = static_cast<int>(threadIdx.x); c < classes; c += kThreads) block[c] = 0;
    __syncthreads();
  }
  __device__ __forceinline__ void add(std::int64_t row, std::int32_t column) const {
    if (column < 0) {
      atomicMin(first_nan, static_cast<unsigned long long>(row));
    } else if (block != nullptr) {
      atomicAdd(block + column, 1u);
    } else {
      atomicAdd(counts + column, 1ull);
    }
  }
  __device__ void end(std::int32_t classes) const {
    if (block == nullptr) return;
    __syncthreads();
    for (int c = static_cast<int>(threadIdx.x); c < classes; c += kThreads) {
      if (block[c] != 0) atomicAdd(counts + c, static_cast<unsigned long long>(block[c]));
    }
  }
};

__device__ __forceinline__ std::int64_t warp_number() {
  return static_cast<std::int64_t>(blockIdx.x) * kWarpsPerBlock +
         static_cast<int>(threadIdx.x) / kWarp;
}

/// Rows of at most `lanes` logits: that many lanes a row, so that a warp reads several, and each
/// lane has the logits of kAtOnce rows under way.
template <class T, int lanes>
__global__ void __launch_bounds__(kThreads)
    vote_counts_narrow(const T* __restrict__ logits, Rows rows,
                       unsigned long long* __restrict__ counts,
                       unsigned long long* __restrict__ first_nan) {
  __shared__ unsigned block_counts[lanes];
  const Votes votes{block_counts, counts, first_nan};
  votes.begin(rows.classes);
  constexpr int kTogether = kWarp / lanes;
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  const int group = static_cast<int>(threadIdx.x) % kWarp / lanes;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kWarpsPerBlock;
  for (std::int64_t tile = warp_number(); tile * kTogether * kAtOnce < rows.count; tile += step) {
    const std::int64_t first = tile * kTogether * kAtOnce + group;
    T loaded[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const std::int64_t row = first + i * kTogether;
      if (row < rows.count && lane < rows.classes) loaded[i] = logits[row * rows.stride + lane];
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const std::int64_t row = first + i * kTogether;
      Best<Number<T>> best;
      if (row < rows.count && lane < rows.classes) best.see(number(loaded[i]), lane);
      best.template reduce<lanes>();
      if (lane == 0 && row < rows.count) votes.add(row, best.column);
    }
  }
  votes.end(rows.classes);
}

/// Wider rows: a warp each, in 16-byte loads between the first and the last such boundary.
template <class T>
__global__ void __launch_bounds__(kThreads)
    vote_counts_wide(const T* __restrict__ logits, Rows rows, bool in_shared,
                     unsigned long long* __restrict__ counts,
                     unsigned long long* __restrict__ first_nan) {
  extern __shared__ unsigned shared_counts[];
  const Votes votes{in_shared ? shared_counts : nullptr, counts, first_nan};
  votes.begin(rows.classes);
  constexpr int kEach = 16 / static_cast<int>(sizeof(T));
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kWarpsPerBlock;
  for (std::int64_t row = warp_number(); row < rows.count; row += step) {
    const T* values = logits + row * rows.stride;
    const auto past =
        static_cast<int>(reinterpret_cast<std::uintptr_t>(values) / sizeof(T) % kEach);
    const std::int32_t head = (kEach - past) % kEach;  // fewer than a warp, and than a wide row
    const std::int32_t vectors = (rows.classes - head) / kEach;
    const auto* body = reinterpret_cast<const uint4*>(values + head);
    Best<Number<T>> best;
    if (lane < head) best.see(number(values[lane]), lane);
    for (std::int32_t begin = lane; begin < vectors; begin += kWarp * kAtOnce) {
      uint4 loaded[kAtOnce];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        if (begin + i * kWarp < vectors) loaded[i] = body[begin + i * kWarp];
      }
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const std::int32_t at = begin + i * kWarp;
        if (at < vectors) {
          T some[kEach];
          static_assert(sizeof some == sizeof loaded[i]);
          memcpy(some, &loaded[i], sizeof some);
#pragma unroll
          for (int j = 0; j < kEach; ++j) best.see(number(some[j]), head + at * kEach + j);
        }
      }
    }
    const std::int32_t tail = head + vectors * kEach + lane;
    if (tail < rows.classes) best.see(number(values[tail]), tail);
    best.template reduce<kWarp>();
    if (lane == 0) votes.add(row, best.column);
  }
  votes.end(rows.classes);
}

template <class T>
void launch(const ConstMatrixView& logits, unsigned long long* counts, unsigned long long* nan,
            const Call& call) {
  int processors = 0;
  int device = 0;
  call.check(cudaGetDevice(&device), "cudaGetDevice");
  call.check(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device),
             "cudaDeviceGetAttribute");
  const Rows rows{logits.rows, logits.row_stride, static_cast<std::int32_t>(logits.cols)};
  const auto* data = static_cast<const T*>(logits.data);
  const auto blocks = [&](std::int64_t rows_per_warp) {
    const std::int64_t each = rows_per_warp * kWarpsPerBlock;
    const std::int64_t most = std::int64_t{kBlocksPerProcessor} * processors;
    return static_cast<unsigned>(std::min((rows.count + each - 1) / each, most));
  };
  const auto narrow = [&]<int lanes>(std::integral_constant<int, lanes>) {
    vote_counts_narrow<T, lanes>
        <<<blocks(kWarp / lanes * kAtOnce), kThreads, 0, call.stream>>>(data, rows, counts, nan);
  };
  if (rows.classes > kWarp) {
    const bool in_shared = rows.classes <= kMaxBlockClasses;
    const auto shared = in_shared ? static_cast<std::size_t>(rows.classes) * sizeof(unsigned) : 0;
    vote_counts_wide<T>
        <<<blocks(1), kThreads, shared, call.stream>>>(data, rows, in_shared, counts, nan);
  } else if (rows.classes > 16) {
    narrow(std::integral_constant<int, 32>{});
  } else if (rows.classes > 8) {
    narrow(std::integral_constant<int, 16>{});
  } else if (rows.classes > 4) {
    narrow(std::integral_constant<int, 8>{});
  } else if (rows.classes > 2) {
    narrow(std::integral_constant<int, 4>{});
  } else if (rows.classes > 1) {
    narrow(std::integral_constant<int, 2>{});
  } else {
    narrow(std::integral_constant<int, 1>{});
  }
  call.launched();
}

/// Enqueues the count; the first row with a NaN, or all ones, goes to *nan.
void enqueue(const ConstMatrixView& logits, std::int64_t* counts, unsigned long long* nan,
             const Call& call) {
  if (logits.cols > std::numeric_limits<std::int32_t>::max()) {
    detail::fail(kOp, "at most 2^31 - 1 classes on CUDA", detail::text(logits.cols));
  }
  const auto bytes = static_cast<std::size_t>(logits.cols) * sizeof(std::int64_t);
  call.check(cudaMemsetAsync(counts, 0, bytes, call.stream), "cudaMemsetAsync");
  call.check(cudaMemsetAsync(nan, 0xff, sizeof *nan, call.stream), "cudaMemsetAsync");
  if (logits.rows == 0) return;
  auto* unsigned_counts = reinterpret_cast<unsigned long long*>(counts);
  switch (logits.dtype) {
    case DType::float64:
      return launch<double>(logits, unsigned_counts, nan, call);
    case DType::float16:
      return launch<__half>(logits, unsigned_counts, nan, call);
    case DType::bfloat16:
      return launch<__nv_bfloat16>(logits, unsigned_counts, nan, call);
    default:
      return launch<float>(logits, unsigned_counts, nan, call);
  }
}

}  // namespace

std::int64_t vote_counts(const ConstMatrixView& logits, std::int64_t* counts, const Exec& exec) {
  const DeviceGuard guard(exec, kOp);
  const Call call(kOp, exec);
  const DeviceBuffer<unsigned long long> nan(1, call);
  enqueue(logits, counts, nan.get(), call);
  return static_cast<std::int64_t>(nan.numbers(call)[0]);  // all ones is -1
}

void vote_counts_deferred(const ConstMatrixView& logits, std::int64_t* result, const Exec& exec) {
  const DeviceGuard guard(exec, kOp);
  auto* nan = reinterpret_cast<unsigned long long*>(result + logits.cols);
  enqueue(logits, result, nan, Call(kOp, exec));
}

}  // namespace tamis::cuda
