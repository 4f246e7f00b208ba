#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <cstdint>

#include "src/cuda/check.cuh"
#include "src/detail/gaussian_noise_backend.hpp"
#include "tamis/normal.hpp"

namespace tamis::cuda {
namespace {

constexpr int kThreads = 256;
/// Samples a thread writes for its elements of x, which it reads once: x then adds 1/24, about 4%,
/// to the bytes that the output needs.
constexpr int kSamples = 24;

/// A switch at run time: x is read once a thread, and a kernel per type of x would only cost
/// compile time.
__device__ __forceinline__ float load(const ConstVectorView& x, std::int64_t e) {
  switch (x.dtype) {
    case DType::float16:
      return __half2float(static_cast<const __half*>(x.data)[e]);
    case DType::bfloat16:
      return __bfloat162float(static_cast<const __nv_bfloat16*>(x.data)[e]);
    default:
      return static_cast<const float*>(x.data)[e];
  }
}
__device__ __forceinline__ void convert(float v, float& out) { out = v; }
__device__ __forceinline__ void convert(float v, __half& out) { out = __float2half_rn(v); }
__device__ __forceinline__ void convert(float v, __nv_bfloat16& out) {
  out = __float2bfloat16_rn(v);
}

/// What one 16-byte store writes: 4 floats or 8 halves.
template <class Out>
struct Pack {
  static constexpr int size = 16 / sizeof(Out);
  Out v[size];
};

__device__ __forceinline__ std::uint32_t bits(float v) { return __float_as_uint(v); }
__device__ __forceinline__ std::uint32_t bits(__half v) { return __half_as_ushort(v); }
__device__ __forceinline__ std::uint32_t bits(__nv_bfloat16 v) { return __bfloat16_as_ushort(v); }

/// The 32-bit word k of a pack. An intrinsic stores the words: nvcc merges a plain assignment with
/// the stores of the ragged end, and then writes each element by itself.
template <int k, class Out>
__device__ __forceinline__ std::uint32_t word(const Pack<Out>& pack) {
  if constexpr (sizeof(Out) == 4) {
    return bits(pack.v[k]);
  } else {
    return bits(pack.v[2 * k]) | bits(pack.v[2 * k + 1]) << 16;
  }
}

/// Thread (column c, sample group g) writes elements [c * size, (c + 1) * size) of its samples.
template <class Out, bool kAffine>
__global__ void __launch_bounds__(kThreads)
    gaussian_noise_kernel(ConstVectorView x, Out* __restrict__ out, std::int64_t rows,
                          std::int64_t row_stride, float sigma, NoiseKey key, std::uint32_t start,
                          ChannelAffine affine, std::int64_t channel_size) {
  constexpr int kPack = Pack<Out>::size;
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const std::int64_t e = column * kPack;
  if (e >= x.size) return;
  const int count = static_cast<int>(x.size - e < kPack ? x.size - e : kPack);
  float value[kPack];
#pragma unroll
  for (int k = 0; k < kPack; ++k) value[k] = k < count ? load(x, e + k) : 0.0f;
  float scale[kPack], offset[kPack];  // registers, and none without an affine
  if constexpr (kAffine) {
    std::int64_t channel = e / channel_size;
    std::int64_t next = (channel + 1) * channel_size;
#pragma unroll
    for (int k = 0; k < kPack; ++k) {
      if (e + k == next) {
        ++channel;
        next += channel_size;
      }
      scale[k] = k < count ? affine.scale[channel] : 0.0f;
      offset[k] = k < count ? affine.offset[channel] : 0.0f;
    }
  }

  const std::uint32_t image =
      key.image_at == nullptr ? key.image : static_cast<std::uint32_t>(*key.image_at);
  const std::int64_t groups = (rows + kSamples - 1) / kSamples;
  for (std::int64_t group = blockIdx.y; group < groups; group += gridDim.y) {
    const std::int64_t last =
        group * kSamples + kSamples < rows ? group * kSamples + kSamples : rows;
    for (std::int64_t row = group * kSamples; row < last; ++row) {
      Pack<Out> pack;
#pragma unroll
      for (int b = 0; b < kPack / 4; ++b) {
        const Normal4 z = normal4(key.seed, static_cast<std::uint32_t>(e / 4 + b),
                                  start + static_cast<std::uint32_t>(row), image, key.stream);
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          const int i = 4 * b + k;
          float noisy = __fmaf_rn(sigma, z.z[k], value[i]);
          if constexpr (kAffine) noisy = __fmaf_rn(noisy, scale[i], offset[i]);
          convert(noisy, pack.v[i]);
        }
      }
      Out* target = out + row * row_stride + e;
      if (count == kPack && reinterpret_cast<std::uintptr_t>(target) % 16 == 0) {
        __stwb(reinterpret_cast<uint4*>(target),
               make_uint4(word<0>(pack), word<1>(pack), word<2>(pack), word<3>(pack)));
      } else {  // a ragged end, or rows that do not start on 16 bytes
#pragma unroll
        for (int k = 0; k < kPack; ++k) {
          if (k < count) target[k] = pack.v[k];
        }
      }
    }
  }
}

template <class Out>
void launch(const detail::GaussianNoiseTask& task, const Exec& exec) {
  constexpr std::int64_t kElementsPerBlock = kThreads * Pack<Out>::size;
  constexpr std::int64_t kMaxGridY = 65535;
  const std::int64_t groups = (task.out.rows + kSamples - 1) / kSamples;
  const dim3 grid(
      static_cast<unsigned>((task.out.cols + kElementsPerBlock - 1) / kElementsPerBlock),
      static_cast<unsigned>(std::min(groups, kMaxGridY)));
  const auto kernel = task.affine.scale == nullptr ? gaussian_noise_kernel<Out, false>
                                                   : gaussian_noise_kernel<Out, true>;
  kernel<<<grid, kThreads, 0, stream_of(exec)>>>(
      task.x, static_cast<Out*>(task.out.data), task.out.rows, task.out.row_stride, task.sigma,
      task.key, task.start, task.affine, task.channel_size);
  check(cudaGetLastError(), "gaussian_noise", "kernel launch");
}

}  // namespace

void gaussian_noise(const detail::GaussianNoiseTask& task, const Exec& exec) {
  const DeviceGuard guard(exec, "gaussian_noise");
  switch (task.out.dtype) {
    case DType::float16:
      return launch<__half>(task, exec);
    case DType::bfloat16:
      return launch<__nv_bfloat16>(task, exec);
    default:
      return launch<float>(task, exec);
  }
}

}  // namespace tamis::cuda
