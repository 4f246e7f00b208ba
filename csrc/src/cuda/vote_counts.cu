#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <cstdint>
#include <limits>

#include "src/cuda/check.cuh"
#include "src/detail/vote_counts_backend.hpp"

namespace tamis::cuda {
namespace {

constexpr int kWarp = 32;
constexpr int kWarpsPerBlock = 8;
constexpr unsigned kAllLanes = 0xffffffffu;

__device__ __forceinline__ double load(const double* p) { return *p; }
__device__ __forceinline__ float load(const float* p) { return *p; }
__device__ __forceinline__ float load(const __half* p) { return __half2float(*p); }
__device__ __forceinline__ float load(const __nv_bfloat16* p) { return __bfloat162float(*p); }

/// One warp a row. Counts are integers, so atomic additions in any order give the same result.
template <class T>
__global__ void vote_counts_kernel(const T* __restrict__ logits, std::int64_t rows,
                                   std::int64_t cols, std::int64_t row_stride,
                                   unsigned long long* __restrict__ counts,
                                   unsigned long long* __restrict__ first_nan) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const std::int64_t warp = static_cast<std::int64_t>(blockIdx.x) * kWarpsPerBlock +
                            static_cast<int>(threadIdx.x) / kWarp;
  const std::int64_t warps = static_cast<std::int64_t>(gridDim.x) * kWarpsPerBlock;
  for (std::int64_t row = warp; row < rows; row += warps) {
    const T* values = logits + row * row_stride;
    // A lane without a column of its own repeats column 0, which cannot win a tie it should lose.
    std::int64_t best_class = lane < cols ? lane : 0;
    auto best = load(values + best_class);
    bool nan = best != best;
    for (std::int64_t c = lane + kWarp; c < cols; c += kWarp) {
      const auto v = load(values + c);
      nan |= v != v;
      if (v > best) {  // strict: within a lane the lowest index comes first
        best = v;
        best_class = c;
      }
    }
    nan = __any_sync(kAllLanes, nan);
    for (int offset = kWarp / 2; offset > 0; offset /= 2) {
      const auto other = __shfl_down_sync(kAllLanes, best, offset);
      const std::int64_t other_class = __shfl_down_sync(kAllLanes, best_class, offset);
      if (other > best || (other == best && other_class < best_class)) {
        best = other;
        best_class = other_class;
      }
    }
    if (lane == 0) {
      if (nan) {
        atomicMin(first_nan, static_cast<unsigned long long>(row));
      } else {
        atomicAdd(counts + best_class, 1ull);
      }
    }
  }
}

/// Eight bytes of stream-ordered device memory.
class NanFlag {
 public:
  explicit NanFlag(cudaStream_t stream) : stream_(stream) {
    void* memory = nullptr;
    check(cudaMallocAsync(&memory, sizeof(unsigned long long), stream_), "vote_counts",
          "cudaMallocAsync");
    flag_ = static_cast<unsigned long long*>(memory);
  }
  ~NanFlag() { static_cast<void>(cudaFreeAsync(flag_, stream_)); }
  NanFlag(const NanFlag&) = delete;
  NanFlag& operator=(const NanFlag&) = delete;
  unsigned long long* get() const { return flag_; }

 private:
  cudaStream_t stream_;
  unsigned long long* flag_ = nullptr;
};

template <class T>
void launch(const ConstMatrixView& logits, unsigned long long* counts, unsigned long long* nan,
            cudaStream_t stream) {
  constexpr std::int64_t kMaxBlocks = 4096;
  const std::int64_t blocks = (logits.rows + kWarpsPerBlock - 1) / kWarpsPerBlock;
  vote_counts_kernel<T>
      <<<static_cast<unsigned>(std::min(blocks, kMaxBlocks)), kWarpsPerBlock * kWarp, 0, stream>>>(
          static_cast<const T*>(logits.data), logits.rows, logits.cols, logits.row_stride, counts,
          nan);
  check(cudaGetLastError(), "vote_counts", "kernel launch");
}

}  // namespace

std::int64_t vote_counts(const ConstMatrixView& logits, std::int64_t* counts, const Exec& exec) {
  constexpr const char* op = "vote_counts";
  constexpr unsigned long long kNoNan = std::numeric_limits<unsigned long long>::max();
  const DeviceGuard guard(exec, op);
  const cudaStream_t stream = stream_of(exec);
  const auto bytes = static_cast<std::size_t>(logits.cols) * sizeof(std::int64_t);
  check(cudaMemsetAsync(counts, 0, bytes, stream), op, "cudaMemsetAsync");
  if (logits.rows == 0) {
    check(cudaStreamSynchronize(stream), op, "cudaStreamSynchronize");
    return -1;
  }
  const NanFlag flag(stream);
  check(cudaMemsetAsync(flag.get(), 0xff, sizeof kNoNan, stream), op, "cudaMemsetAsync");
  auto* unsigned_counts = reinterpret_cast<unsigned long long*>(counts);
  switch (logits.dtype) {
    case DType::float64:
      launch<double>(logits, unsigned_counts, flag.get(), stream);
      break;
    case DType::float16:
      launch<__half>(logits, unsigned_counts, flag.get(), stream);
      break;
    case DType::bfloat16:
      launch<__nv_bfloat16>(logits, unsigned_counts, flag.get(), stream);
      break;
    default:
      launch<float>(logits, unsigned_counts, flag.get(), stream);
      break;
  }
  unsigned long long nan_row = kNoNan;
  check(cudaMemcpyAsync(&nan_row, flag.get(), sizeof nan_row, cudaMemcpyDeviceToHost, stream), op,
        "cudaMemcpyAsync");
  check(cudaStreamSynchronize(stream), op, "cudaStreamSynchronize");
  return nan_row == kNoNan ? -1 : static_cast<std::int64_t>(nan_row);
}

}  // namespace tamis::cuda
