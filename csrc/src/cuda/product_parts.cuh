// What product_kernel is made of: the shift, projections of rows in registers, sums on their way to
// the block's slot, and totals that become the product.
#pragma once

#include "src/cuda/product_shape.cuh"
#include "src/cuda/products.cuh"

namespace tamis::cuda {

/// Numbers are summed about a shift near the mean; what is left is corrected in float64.
template <class T>
__device__ __forceinline__ T shift_of(const Product<T>& task, std::int64_t j) {
  if (task.mean == nullptr) return task.near[j];
  const T rounded = static_cast<T>(task.mean[j]);
  return isfinite(rounded) ? rounded : T(0);
}

/// Where `most` rows from `begin` on lie, and their weights, to shared memory: rows of weight zero,
/// and those that there are not (from `there` on), are the shift. Weights go to their sums too.
template <class T>
__device__ __forceinline__ void note_rows(const Product<T>& task, std::int64_t begin, int there,
                                          int most, int base, const T* shift, bool add,
                                          const T** at, T* weights, double* mass,
                                          ProductStatus* status) {
#pragma unroll 1
  for (int t = static_cast<int>(threadIdx.x); t < most; t += blockDim.x) {
    T w = T(0);
    const T* from = shift;
    if (t < there) {
      const std::int64_t number = task.rows.number(begin + t);
      w = task.rows.weight(number);
      if (!(w >= T(0)) || isinf(w)) atomicExch(&status->bad_weight, 1u);
      if (w > T(0)) from = task.rows.data + number * task.rows.stride + base;
    }
    at[t] = from;
    weights[t] = w > T(0) ? w : T(0);
    mass[t] = (add ? mass[t] : 0.0) + static_cast<double>(weights[t]);
  }
}

/// The same where factors are given: a row whose k factors are all zero is not looked at. Weights
/// say only whether a row is.
template <class T>
__device__ __forceinline__ void note_summed_rows(const DeviceRows<T>& rows,
                                                 const KnownProjections<T>& known, int k,
                                                 std::int64_t begin, int there, int most, int base,
                                                 const T* zeros, const T** at, T* weights) {
#pragma unroll 1
  for (int t = static_cast<int>(threadIdx.x); t < most; t += blockDim.x) {
    bool used = false;  // a NaN is: it shows in the sums
    if (t < there) {
#pragma unroll 1
      for (int c = 0; c < k; ++c) used = used || known.at(begin + t, c) != T(0);
    }
    at[t] = used ? rows.data + rows.number(begin + t) * rows.stride + base : zeros;
    weights[t] = used ? T(1) : T(0);
  }
}

/// This warp's part of the projections: entry r * kSlices + i for row r on column i.
template <class T, int kSlices, int kRows>
__device__ __forceinline__ void project(const T (&x)[kRows][kOwn<T>],
                                        const T (&v)[kSlices][kOwn<T>], T* parts) {
  constexpr int kAll = kRows * kSlices;
  constexpr int kAtOnce = 8;  // 16 would save one exchange in 18 and cost 8 registers
  static_assert(kAll % kAtOnce == 0 && kAtOnce % kSlices == 0);
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
  for (int first = 0; first < kAll; first += kAtOnce) {
    T sums[kAtOnce];
#pragma unroll
    for (int e = 0; e < kAtOnce; ++e) {
      const int r = (first + e) / kSlices;
      const int i = e % kSlices;
      sums[e] = x[r][0] * v[i][0];
#pragma unroll
      for (int o = 1; o < kOwn<T>; ++o) sums[e] = mul_add(x[r][o], v[i][o], sums[e]);
    }
    const T sum = transposed_sum(sums);
    if (lane < kAtOnce) parts[first + lane] = sum;
  }
}

/// threadIdx.x, read anew: what is derived from it need not wait in registers since the kernel's
/// beginning, where every one is needed for rows and sums.
__device__ __forceinline__ int thread_again() {
  int thread;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
  return thread;
}

/// Adds sums in registers, one column of every slice, to the block's slot, and clears them. Groups
/// meet in shared memory. Column c of slice s goes to entry s * slice + c if that is below `most`.
template <class T>
__device__ __forceinline__ void flush_column(T (&mine)[kOwn<T>], T* met, int c, int most, bool add,
                                             const ProductShape& shape, int base, int d,
                                             double* slot) {
  const int width = shape.width<T>();
  const int thread = thread_again();
  __syncthreads();
#pragma unroll
  for (int o = 0; o < kOwn<T>; ++o) {
    met[thread * kOwn<T> + o] = mine[o];  // in the order of groups, slices, columns
    mine[o] = T(0);
  }
  __syncthreads();
#pragma unroll 1
  for (int t = thread; t < min(width, d - base); t += blockDim.x) {
#pragma unroll 1
    for (int entry = c, s = 0; entry < most; entry += shape.slice, ++s) {
      T sum = met[s * width + t];
#pragma unroll 1
      for (int g = 1; g < shape.groups; ++g) sum += met[(g * shape.slices + s) * width + t];
      double* to = slot + static_cast<std::int64_t>(entry) * d + base + t;
      *to = add ? *to + static_cast<double>(sum) : static_cast<double>(sum);
    }
  }
}

/// Turns totals into the product, by all threads of one block.
template <class T>
__device__ __forceinline__ void finish_product(const Product<T>& task, const double* totals,
                                               double* along, ProductStatus* status) {
  const std::int64_t d = task.rows.d;
  const int k = static_cast<int>(task.k);
  const double* shifts = totals + k * d;  // without a mean: sum of w (x - shift)
  const double* z = shifts + (task.mean == nullptr ? d : 0);
  const double weight = z[k];
  if (task.mean == nullptr) {
    const int warps = static_cast<int>(blockDim.x) / kWarp;
    for (int c = static_cast<int>(threadIdx.x) / kWarp; c < k; c += warps) {
      double sum = 0.0;
      for (std::int64_t j = threadIdx.x % kWarp; j < d; j += kWarp) {
        sum = mul_add(shifts[j] / weight, task.v[j * task.element_stride + c * task.vector_stride],
                      sum);
      }
      sum = warp_sum(sum);
      if (threadIdx.x % kWarp == 0) along[c] = sum;
    }
  }
  for (std::int64_t j = threadIdx.x; task.found_mean != nullptr && j < d; j += blockDim.x) {
    task.found_mean[j] = static_cast<double>(task.near[j]) + shifts[j] / weight;
  }
  __syncthreads();
  bool finite = true;
  for (int c = 0; c < k; ++c) {
    for (std::int64_t j = threadIdx.x; j < d; j += blockDim.x) {
      const double moved = task.mean == nullptr
                               ? shifts[j] * -along[c]
                               : (static_cast<double>(shift_of(task, j)) - task.mean[j]) * z[c];
      const double y = (totals[c * d + j] + moved) / weight;
      finite = finite && isfinite(y);
      task.y[j * task.element_stride + c * task.vector_stride] = y;
    }
  }
  const bool all_finite = __syncthreads_and(finite);
  if (threadIdx.x == 0) {
    status->weight = weight;
    if (!all_finite) status->not_finite = 1;
  }
}

/// Enqueues sums about the shift of rows whose projections, or other factors, are known: each of
/// sums.blocks slots gets a column for every factor and, without a mean, one for the rows
/// themselves. `status` may be null for rows without weights.
template <class T>
void sum_known(const Product<T>& product, const ProductShape& shape,
               const KnownProjections<T>& known, const BlockSums& sums, const Call& call,
               ProductStatus* status = nullptr);

}  // namespace tamis::cuda
