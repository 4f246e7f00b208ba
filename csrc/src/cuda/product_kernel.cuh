// The kernel behind weighted_product.
//
// A tile of rows goes through shared memory once and is used twice: for its projections z on the
// columns of V, and for the sums of z times the row. V and the sums stay in registers: a thread
// holds kSlice columns of V along kOwn columns of X.
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

/// This warp's part of the projections of four rows: lane 8 r + i gets row r on column i.
template <class T>
__device__ __forceinline__ T project_quad(const T* rows, int across, int width,
                                          const T (&v)[kSlice][kOwn<T>]) {
  T both[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {  // two rows each: fewer registers
    T sums[kWarp / 2];
#pragma unroll
    for (int r = 0; r < kQuad / 2; ++r) {
#pragma unroll
      for (int o = 0; o < kOwn<T>; ++o) {
        const T x = rows[(half * (kQuad / 2) + r) * width + o * across];
#pragma unroll
        for (int i = 0; i < kSlice; ++i) {
          T& sum = sums[r * kSlice + i];
          sum = o == 0 ? x * v[i][o] : mul_add(x, v[i][o], sum);
        }
      }
    }
    both[half] = transposed_sum(sums);
  }
  return threadIdx.x % kWarp < kWarp / 2 ? both[0] : both[1];
}

/// Adds sums in registers, one column of every slice, to the block's slot, and clears them. Groups
/// meet in shared memory. Column c of slice s goes to entry s * kSlice + c if that is below `most`.
template <class T>
__device__ __forceinline__ void flush_column(T (&mine)[kOwn<T>], T* meet, const T* met, int c,
                                             int most, bool add, const ProductShape& shape,
                                             int base, int d, double* slot) {
  const int width = shape.width<T>();
  const int size = shape.slices * width;
  __syncthreads();
#pragma unroll
  for (int o = 0; o < kOwn<T>; ++o) {
    meet[o * shape.across] = mine[o];
    mine[o] = T(0);
  }
  __syncthreads();
#pragma unroll 1
  for (int e = static_cast<int>(threadIdx.x); e < size; e += blockDim.x) {
    const int entry = e / width * kSlice + c;
    const int j = base + e % width;
    if (entry >= most || j >= d) continue;
    T sum = met[e];
#pragma unroll 1
    for (int g = 1; g < shape.groups; ++g) sum += met[g * size + e];
    double* to = slot + static_cast<std::int64_t>(entry) * d + j;
    *to = add ? *to + static_cast<double>(sum) : static_cast<double>(sum);
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

/// With kFused one launch does it all; without, projections are given, and blocks (b, g) sum the
/// rows of slot b over the columns of group g.
template <class T, bool kFused>
__global__ void __launch_bounds__(kProductThreads, 1)
    product_kernel(Product<T> task, ProductShape shape, KnownProjections<T> known, BlockSums sums,
                   ProductStatus* status) {
  extern __shared__ __align__(16) unsigned char memory[];
  const ProductShared<T> shared(memory, shape);
  const int d = static_cast<int>(task.rows.d);
  const int across = shape.across;
  const int width = shape.width<T>();
  const int p = static_cast<int>(threadIdx.x) % across;
  const int s = static_cast<int>(threadIdx.x) / across % shape.slices;
  const int g = static_cast<int>(threadIdx.x) / (across * shape.slices);
  const int base = kFused ? 0 : static_cast<int>(blockIdx.y) * width;
  const bool counts = kFused || blockIdx.y == 0;  // sums that do not depend on the column
  const bool needs_mean = task.mean == nullptr && s == 0;

  // What all groups need comes through shared memory, so that it is read once.
  T v[kSlice][kOwn<T>] = {};
  if constexpr (kFused) {
    for (int s0 = 0; s0 < shape.slices; ++s0) {
#pragma unroll
      for (int i0 = 0; i0 < kSlice; i0 += kTogether) {
        __syncthreads();
#pragma unroll 1
        for (int e = static_cast<int>(threadIdx.x); e < kTogether * width; e += blockDim.x) {
          const int j = e / kTogether;
          const int c = s0 * kSlice + i0 + e % kTogether;
          shared.tile[e % kTogether * width + j] =
              j < d && c < shape.k
                  ? static_cast<T>(task.v[j * task.element_stride + c * task.vector_stride])
                  : T(0);
        }
        __syncthreads();
#pragma unroll
        for (int i = 0; i < kTogether; ++i) {
#pragma unroll
          for (int o = 0; o < kOwn<T>; ++o) {
            const T number = shared.tile[i * width + p + o * across];
            v[i0 + i][o] = s == s0 ? number : v[i0 + i][o];
          }
        }
      }
    }
    __syncthreads();
  }
  for (int j = static_cast<int>(threadIdx.x); j < width; j += blockDim.x) {
    const T at = base + j < d ? shift_of(task, base + j) : T(0);
    const double off =
        task.mean != nullptr && base + j < d ? static_cast<double>(at) - task.mean[base + j] : 0.0;
    shared.tile[j] = static_cast<T>(off);
#pragma unroll
    for (int r = 1; r < kQuad; ++r) shared.tile[r * width + j] = at;
  }
  __syncthreads();
  T y[kSlice][kOwn<T>] = {};
  T y_mean[kOwn<T>] = {};
  T shift[kOwn<T>];
#pragma unroll
  for (int o = 0; o < kOwn<T>; ++o) shift[o] = shared.tile[width + p + o * across];
  const auto whole_part = [&](int row, int c) {  // one projection, from the parts of all warps
    const T* part = shared.parts + (row / kQuad * shape.slices + c / kSlice) * across +
                    row % kQuad * kSlice + c % kSlice;
    T sum = part[0];
    for (int w = kWarp; w < across; w += kWarp) sum += part[w];
    return sum;
  };
  if constexpr (kFused) {  // shift - mean is projected like a row
    if (g == 0) shared.parts[s * across + p] = project_quad(shared.tile + p, across, width, v);
    __syncthreads();
    for (int c = static_cast<int>(threadIdx.x); c < shape.columns(); c += blockDim.x) {
      shared.offset[c] = whole_part(0, c);
    }
  }

  const int columns = shape.columns();
  const int my_column = static_cast<int>(threadIdx.x) % columns;  // of z: threads() is a multiple
  const int row_step = shape.threads() / columns;
  double z_sum = 0.0;
  double weight_sum = 0.0;
  bool add = known.add;
  const std::int64_t end_of_all = kFused ? task.rows.count : known.end;
  const std::int64_t begin = (kFused ? 0 : known.begin) + blockIdx.x * shape.rows_per_block;
  const std::int64_t end =
      begin + shape.rows_per_block < end_of_all ? begin + shape.rows_per_block : end_of_all;
  const int tile = shape.tile();
  const int chunk = kWeightsAtOnce / tile * tile;
  T* meet = shared.tile + (g * shape.slices + s) * width + p;
  int tiles = 0;  // since sums were last flushed
  for (std::int64_t first = begin; first < end; first += chunk) {
    __syncthreads();
#pragma unroll 1
    for (int t = static_cast<int>(threadIdx.x); t < chunk; t += blockDim.x) {
      T w = T(0);
      if (first + t < end) {
        const std::int64_t number = task.rows.number(first + t);
        w = task.rows.weight(number);
        if (!(w >= T(0)) || isinf(w)) atomicExch(&status->bad_weight, 1u);
        shared.at[t] = number * task.rows.stride;
      }
      shared.weights[t] = w > T(0) ? w : T(0);
      weight_sum += static_cast<double>(shared.weights[t]);
    }
    __syncthreads();
    const int left = static_cast<int>(end - first < chunk ? end - first : chunk);
    for (int t0 = 0; t0 < left; t0 += tile) {
      const T* weights = shared.weights + t0;
#pragma unroll 2
      for (int r = s; r < shape.rows; r += shape.slices) {
        const int row = g * shape.rows + r;
        const bool used = weights[row] > T(0);  // else it is not looked at
        const T* from = task.rows.data + (used ? shared.at[t0 + row] : 0) + base + p;
#pragma unroll
        for (int o = 0; o < kOwn<T>; ++o) {
          const int j = base + p + o * across;
          shared.tile[row * width + p + o * across] =
              used && j < d ? from[o * across] - shift[o] : T(0);
        }
      }
      if constexpr (kFused) {
        __syncthreads();
#pragma unroll 1
        for (int q = 0; q < shape.rows; q += kQuad) {
          const int row = g * shape.rows + q;
          shared.parts[(row / kQuad * shape.slices + s) * across + p] =
              project_quad(shared.tile + row * width + p, across, width, v);
        }
        __syncthreads();
      }
#pragma unroll 1
      for (int row = static_cast<int>(threadIdx.x) / columns; row < tile; row += row_step) {
        T z;
        if constexpr (kFused) {
          z = whole_part(row, my_column) + shared.offset[my_column];
        } else {
          const std::int64_t i = first + t0 + row;
          z = i < end && my_column < shape.k && weights[row] > T(0)
                  ? known.z[(i - known.begin) * shape.k + my_column]
                  : T(0);
        }
        z *= weights[row];
        shared.z[row * columns + my_column] = z;
        z_sum += static_cast<double>(z);
      }
      __syncthreads();
      // float32: a tile by itself first, so that errors grow with its rows and with the tiles.
      constexpr bool kByTile = sizeof(T) == 4;
#pragma unroll
      for (int i0 = 0; i0 < kSlice; i0 += kTogether) {
        T part[kTogether][kOwn<T>];
#pragma unroll
        for (int o = 0; o < kOwn<T>; ++o) {
#pragma unroll
          for (int i = 0; i < kTogether; ++i) part[i][o] = kByTile ? T(0) : y[i0 + i][o];
        }
#pragma unroll 1
        for (int r = 0; r < shape.rows; ++r) {
          const int row = g * shape.rows + r;
          T z[kTogether];
          load_vector(shared.z + row * columns + s * kSlice + i0, z);
#pragma unroll
          for (int o = 0; o < kOwn<T>; ++o) {
            const T x = shared.tile[row * width + p + o * across];
#pragma unroll
            for (int i = 0; i < kTogether; ++i) part[i][o] = mul_add(z[i], x, part[i][o]);
          }
        }
#pragma unroll
        for (int o = 0; o < kOwn<T>; ++o) {
#pragma unroll
          for (int i = 0; i < kTogether; ++i) {
            y[i0 + i][o] = kByTile ? y[i0 + i][o] + part[i][o] : part[i][o];
          }
        }
      }
      if (needs_mean) {
#pragma unroll
        for (int o = 0; o < kOwn<T>; ++o) {
          T part = T(0);
#pragma unroll 1
          for (int r = 0; r < shape.rows; ++r) {
            const int row = g * shape.rows + r;
            part = mul_add(weights[row], shared.tile[row * width + p + o * across], part);
          }
          y_mean[o] += part;
        }
      }
      __syncthreads();
      ++tiles;
    }
    if (first + chunk < end && (sizeof(T) == 8 || tiles < kTilesAtOnce)) continue;
    // The sums in registers go to the block's slot.
#pragma unroll
    for (int i = 0; i < kSlice; ++i) {
      flush_column(y[i], meet, shared.tile, i, shape.k, add, shape, base, d, sums.mine());
    }
    if (task.mean == nullptr) {  // only slice 0 holds them
      flush_column(y_mean, meet, shared.tile, 0, 1, add, shape, base, d,
                   sums.mine() + static_cast<std::int64_t>(shape.k) * d);
    }
    add = true;
    tiles = 0;
  }

  // behind the columns: the sums of z, then that of the weights
  double* slot =
      sums.mine() + static_cast<std::int64_t>(shape.k + (task.mean == nullptr ? 1 : 0)) * d;
  const double weight = block_sum(weight_sum, shared.sums);
  __syncthreads();
  shared.sums[threadIdx.x] = z_sum;
  __syncthreads();
  if (counts && static_cast<int>(threadIdx.x) < shape.k) {
    double sum = known.add ? slot[threadIdx.x] : 0.0;
    for (unsigned t = threadIdx.x; t < blockDim.x; t += columns) sum += shared.sums[t];
    slot[threadIdx.x] = sum;
  }
  if (counts && threadIdx.x == 0) slot[shape.k] = known.add ? slot[shape.k] + weight : weight;
  if constexpr (kFused) {
    if (add_up(sums)) finish_product(task, sums.totals, shared.sums, status);
  }
}

}  // namespace tamis::cuda
