// Directions from the caller's float64 to x's type, and the pass that projects rows on them.
#pragma once

#include "src/cuda/many_directions.cuh"
#include "src/cuda/row_pass.cuh"

namespace tamis::cuda {

/// k directions about a centre, in device memory, as the pass for so many reads them.
template <class T>
struct Packed {
  int count;
  DeviceBuffer<T> v;
  DeviceBuffer<T> centre;  ///< d
  DeviceBuffer<T> offset;  ///< k: (centre - mean) . v, what rounding the mean has moved

  /// float64 has fewer sums in a warp's registers: one read of X for more than 4.
  static constexpr int kFew = sizeof(T) == 4 ? kDirectionsTogether : kDirectionsTogether / 2;
  bool many() const { return count > kFew; }
};

/// Block c packs direction c, or the zeros behind the last one. `mean` null: `near` is the centre,
/// and nothing is made up for. `columns`: d and the zeros behind; 0: one direction after the other.
template <class T>
__global__ void pack_kernel(const double* v, std::int64_t d, std::int64_t k,
                            std::int64_t element_stride, std::int64_t vector_stride,
                            const double* mean, const T* near, std::int64_t columns, T* out,
                            T* centre, T* offset) {
  __shared__ double scratch[kWarp];
  const auto c = static_cast<std::int64_t>(blockIdx.x);
  double sum = 0.0;
  for (std::int64_t j = threadIdx.x; j < max(d, columns); j += blockDim.x) {
    const bool inside = j < d && c < k;
    const double number = inside ? v[j * element_stride + c * vector_stride] : 0.0;
    out[columns == 0 ? c * d + j : DirectionTiling<T>::place(j, c, columns)] =
        static_cast<T>(number);
    if (!inside) continue;
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
  if (threadIdx.x == 0 && c < k) offset[c] = static_cast<T>(sum);
}

template <class T>
Packed<T> pack(const double* v, std::int64_t d, std::int64_t k, std::int64_t element_stride,
               std::int64_t vector_stride, const double* mean, const T* near, const Call& call) {
  using Tiling = DirectionTiling<T>;
  constexpr int kThreads = 256;
  Packed<T> packed{static_cast<int>(k), {}, {}, {}};
  const std::int64_t size = packed.many() ? Tiling::size(d, k) : k * d;
  const std::int64_t columns = packed.many() ? Tiling::padded(d) : 0;
  packed.v = DeviceBuffer<T>(static_cast<std::size_t>(size), call);
  packed.centre = DeviceBuffer<T>(static_cast<std::size_t>(d), call);
  packed.offset = DeviceBuffer<T>(static_cast<std::size_t>(k), call);
  const std::int64_t blocks = packed.many() ? size / columns : k;
  pack_kernel<T><<<static_cast<unsigned>(blocks), kThreads, 0, call.stream>>>(
      v, d, k, element_stride, vector_stride, mean, near, columns, packed.v.get(),
      packed.centre.get(), packed.offset.get());
  call.launched();
  return packed;
}

/// Enqueues a pass for a visitor that keeps no projections.
template <class T, class Visitor>
void visit_rows(const DeviceRows<T>& rows, const Packed<T>& packed, const Visitor& visitor,
                const Call& call) {
  if (packed.many()) {
    visit_rows(rows, ManyDirections<T>{packed.centre.get(), packed.v.get(), packed.count}, visitor,
               call);
  } else {
    visit_rows(rows, RowMeasures<T>{packed.centre.get(), packed.v.get(), packed.count},
               row_blocks(rows), visitor, call);
  }
}

}  // namespace tamis::cuda
