// Directions from the caller's float64 to x's type, as the row pass reads them.
#pragma once

#include "src/cuda/rows.cuh"

namespace tamis::cuda {

/// k directions about a centre, in device memory.
template <class T>
struct Packed {
  DeviceBuffer<T> v;       ///< one after the other
  DeviceBuffer<T> centre;  ///< d
  DeviceBuffer<T> offset;  ///< k: (centre - mean) . v, what rounding the mean has moved
};

/// Block c packs direction c. `mean` null: `near` is the centre, and nothing is made up for.
template <class T>
__global__ void pack_kernel(const double* v, std::int64_t d, std::int64_t element_stride,
                            std::int64_t vector_stride, const double* mean, const T* near, T* out,
                            T* centre, T* offset) {
  __shared__ double scratch[kWarp];
  const auto c = static_cast<std::int64_t>(blockIdx.x);
  double sum = 0.0;
  for (std::int64_t j = threadIdx.x; j < d; j += blockDim.x) {
    const double number = v[j * element_stride + c * vector_stride];
    out[c * d + j] = static_cast<T>(number);
    T at = T(0);
    if (mean == nullptr) {
      at = near[j];
    } else {
      const T rounded = static_cast<T>(mean[j]);
      at = isfinite(rounded) ? rounded : T(0);
      sum = mul_add(static_cast<double>(at) - mean[j], number, sum);
    }
    if (c == 0) centre[j] = at;
  }
  sum = block_sum(sum, scratch);
  if (threadIdx.x == 0) offset[c] = static_cast<T>(sum);
}

template <class T>
Packed<T> pack(const double* v, std::int64_t d, std::int64_t k, std::int64_t element_stride,
               std::int64_t vector_stride, const double* mean, const T* near, const Call& call) {
  constexpr int kThreads = 256;
  Packed<T> packed{DeviceBuffer<T>(static_cast<std::size_t>(k * d), call),
                   DeviceBuffer<T>(static_cast<std::size_t>(d), call),
                   DeviceBuffer<T>(static_cast<std::size_t>(k), call)};
  pack_kernel<T><<<static_cast<unsigned>(k), kThreads, 0, call.stream>>>(
      v, d, element_stride, vector_stride, mean, near, packed.v.get(), packed.centre.get(),
      packed.offset.get());
  call.launched();
  return packed;
}

}  // namespace tamis::cuda
