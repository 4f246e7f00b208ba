// The kernel behind weighted_product and weighted_sums.
//
// A few rows are read into registers once and used twice: for their projections z on the columns of
// V, and for the sums of z times the row. V and the sums stay in registers too: a thread holds
// kSlice columns of V along kOwn columns of X. Threads that hold other columns of V along the same
// columns of X share the reading of rows through shared memory.
#pragma once

#include "src/cuda/product_parts.cuh"

namespace tamis::cuda {

/// What one launch does. Without its own projections, blocks (b, g) sum the rows of slot b over the
/// columns of group g.
enum class ProductWork {
  all,     ///< projections, sums, totals and the product
  second,  ///< projections are given
  sums,    ///< factors of rows are given: no centre, no weights, nothing but sums in slots
};

/// The variants of the kernel.
template <class T, ProductWork kWorkDone, int kSlices, int kRowsHeld, int kMostThreads,
          bool kVectors>
struct ProductVariant {
  using Number = T;
  static constexpr bool kFused = kWorkDone == ProductWork::all;
  static constexpr bool kPlain = kWorkDone == ProductWork::sums;
  static constexpr int kSlice = kSlices;
  static constexpr int kRows = kRowsHeld;
  static constexpr int kThreads = kMostThreads;
  static constexpr bool kVector = kVectors;
};

template <class Variant>
__global__ void __launch_bounds__(Variant::kThreads, 1)
    product_kernel(Product<typename Variant::Number> task, ProductShape shape,
                   KnownProjections<typename Variant::Number> known, BlockSums sums,
                   ProductStatus* status) {
  using T = typename Variant::Number;
  constexpr bool kFused = Variant::kFused;
  constexpr bool kPlain = Variant::kPlain;
  constexpr bool kVector = Variant::kVector;
  constexpr int kSlice = Variant::kSlice;
  constexpr int kRows = Variant::kRows;
  extern __shared__ __align__(16) unsigned char memory[];
  const ProductShared<T> shared(memory, shape);
  const int d = static_cast<int>(task.rows.d);
  const int across = shape.across;
  const int width = shape.width<T>();
  const int p = static_cast<int>(threadIdx.x) % across;
  const int s = static_cast<int>(threadIdx.x) / across % shape.slices;
  constexpr bool kOneGroup = kRows == kFewRows;  // of more threads than product_shape wishes
  const int g = kOneGroup ? 0 : static_cast<int>(threadIdx.x) / (across * shape.slices);
  const int base = kFused ? 0 : static_cast<int>(blockIdx.y) * width;
  const bool counts = kFused || blockIdx.y == 0;  // sums that do not depend on the column
  const bool needs_mean = !kPlain && task.mean == nullptr && s == 0;

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
            const T number = shared.tile[i * width + p * kOwn<T> + o];
            v[i0 + i][o] = s == s0 ? number : v[i0 + i][o];
          }
        }
      }
    }
    __syncthreads();
  }
  for (int j = static_cast<int>(threadIdx.x); j < width; j += blockDim.x) {
    const T at = !kPlain && base + j < d ? shift_of(task, base + j) : T(0);
    const double off =
        task.mean != nullptr && base + j < d ? static_cast<double>(at) - task.mean[base + j] : 0.0;
    shared.shift[j] = at;
    shared.tile[j] = static_cast<T>(off);
  }
  __syncthreads();
  T y[kSlice][kOwn<T>] = {};
  T y_mean[kOwn<T>] = {};
  // Of this group and slice: the parts of all its warps, and z for this warp.
  constexpr int kAll = kRows * kSlice;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  T* my_parts = shared.parts + warp * kAll;
  T* my_z = shared.z + warp * kAll;
  const auto whole = [&](int e) {
    const T* part = my_parts - p / kWarp * kAll + e;
    T sum = part[0];
#pragma unroll 1
    for (int w = 1; w < shape.warps(); ++w) sum += part[w * kAll];
    return sum;
  };
  if constexpr (kFused) {  // shift - mean is projected like a row
    T x[kRows][kOwn<T>] = {};
#pragma unroll
    for (int o = 0; o < kOwn<T>; ++o) {
      x[0][o] = shared.tile[p * kOwn<T> + o];
    }
    project<T, kSlice, kRows>(x, v, my_parts);
    __syncthreads();
    if (g == 0 && p < kSlice) shared.offset[s * kSlice + p] = whole(p);
    __syncthreads();
  }

  const int own = min(d - base - p * kOwn<T>, kOwn<T>);  // columns of this thread that there are
  const int column = own > 0 ? p * kOwn<T> : 0;          // without any it reads the first ones
  T z_sum = T(0);  // it only makes up for the rounding of the mean
  bool add = known.add;
  const std::int64_t begin = (kFused ? 0 : known.begin) + blockIdx.x * shape.rows_per_block;
  const std::int64_t to_end = (kFused ? task.rows.count : known.end) - begin;
  const int count = static_cast<int>(min(to_end, shape.rows_per_block));  // of this block
  const int tile = kOneGroup ? kRows : shape.groups * kRows;
  const int chunk = kWeightsAtOnce / tile * tile;
  int tiles = 0;  // since sums were last flushed
  for (int first = 0; first < count; first += chunk) {
    __syncthreads();
    if constexpr (kPlain) {
      note_summed_rows(task.rows, known, shape.k, begin + first, count - first, chunk, base,
                       shared.shift, shared.at, shared.weights);
    } else {
      note_rows(task, begin + first, count - first, chunk, base, shared.shift, first > 0, shared.at,
                shared.weights, shared.mass, status);
    }
    __syncthreads();
    const int left = min(count - first, chunk);
#pragma unroll 1
    for (int t0 = 0; t0 < left; t0 += tile) {
      const T* weights = shared.weights + t0 + g * kRows;
      const T* const* at = shared.at + t0 + g * kRows;
      T x[kRows][kOwn<T>];
      const auto read = [&](const T* from, T(&row)[kOwn<T>]) {
        if constexpr (kVector) {
          load_vector(from + column, row);
        } else {
#pragma unroll
          for (int o = 0; o < kOwn<T>; ++o) row[o] = o < own ? from[column + o] : T(0);
        }
      };
      const auto centre = [&](T(&row)[kOwn<T>]) {
        if constexpr (kPlain) return;
        T shift[kOwn<T>];
        load_vector(shared.shift + column, shift);
#pragma unroll
        for (int o = 0; o < kOwn<T>; ++o) row[o] -= shift[o];
      };
      if (shape.slices == 1) {
#pragma unroll
        for (int r = 0; r < kRows; ++r) read(at[r], x[r]);
#pragma unroll
        for (int r = 0; r < kRows; ++r) centre(x[r]);
      } else {  // a slice reads some, for all
        T* rows = shared.tile + g * kRows * width;
#pragma unroll 4
        for (int r = s; r < kRows; r += shape.slices) {
          T row[kOwn<T>];
          read(at[r], row);
          centre(row);
          T* to = rows + r * width + p * kOwn<T>;
#pragma unroll
          for (int o = 0; o < kOwn<T>; ++o) to[o] = row[o];
        }
        __syncthreads();
#pragma unroll
        for (int r = 0; r < kRows; ++r) load_vector(rows + r * width + p * kOwn<T>, x[r]);
      }
      if constexpr (kFused) {
        my_parts = shared.parts + warp * kAll + tiles % 2 * ProductShared<T>::parts_size(shape);
        project<T, kSlice, kRows>(x, v, my_parts);
        __syncthreads();  // the only one: the next tile's parts go elsewhere
      } else if (shape.slices > 1) {
        __syncthreads();  // rows were read
      }
#pragma unroll
      for (int e0 = 0; e0 < kAll; e0 += kWarp) {
        const int e = e0 + lane;
        if (kAll % kWarp != 0 && e >= kAll) break;
        const int c = s * kSlice + e % kSlice;
        const T w = weights[e / kSlice];
        T z;
        if constexpr (kFused) {
          z = whole(e) + shared.offset[c];
        } else {
          const int row = first + t0 + g * kRows + e / kSlice;
          z = c < shape.k && w > T(0) ? known.at(begin + row, c) : T(0);
        }
        z *= w;
        my_z[e] = z;
        z_sum += z;
      }
      __syncwarp();
      // float32: a tile by itself first, so that errors grow with its rows and with the tiles.
      constexpr bool kByTile = sizeof(T) == 4;
#pragma unroll
      for (int i0 = 0; i0 < kSlice; i0 += kTogether) {
        T part[kTogether][kOwn<T>];
#pragma unroll
        for (int i = 0; i < kTogether; ++i) {
#pragma unroll
          for (int o = 0; o < kOwn<T>; ++o) part[i][o] = kByTile ? T(0) : y[i0 + i][o];
        }
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
          T z[kTogether];
          load_pair(my_z + r * kSlice + i0, z);
#pragma unroll
          for (int o = 0; o < kOwn<T>; ++o) {
#pragma unroll
            for (int i = 0; i < kTogether; ++i) part[i][o] = mul_add(z[i], x[r][o], part[i][o]);
          }
        }
#pragma unroll
        for (int i = 0; i < kTogether; ++i) {
#pragma unroll
          for (int o = 0; o < kOwn<T>; ++o) {
            y[i0 + i][o] = kByTile ? y[i0 + i][o] + part[i][o] : part[i][o];
          }
        }
      }
      if (needs_mean) {
        T part[kOwn<T>] = {};
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
          const T w = weights[r];
#pragma unroll
          for (int o = 0; o < kOwn<T>; ++o) part[o] = mul_add(w, x[r][o], part[o]);
        }
#pragma unroll
        for (int o = 0; o < kOwn<T>; ++o) y_mean[o] += part[o];
      }
      ++tiles;
      __syncwarp();  // z was read
    }
    if (first + chunk < count && (sizeof(T) == 8 || tiles * kRows < kRowsAtOnce)) continue;
    // The sums in registers go to the block's slot.
#pragma unroll
    for (int i = 0; i < kSlice; ++i) {
      flush_column(y[i], shared.tile, i, shape.k, add, shape, base, d, sums.mine());
    }
    if (!kPlain && task.mean == nullptr) {  // only slice 0 holds them
      flush_column(y_mean, shared.tile, 0, 1, add, shape, base, d,
                   sums.mine() + static_cast<std::int64_t>(shape.k) * d);
    }
    add = true;
    tiles = 0;
  }

  if constexpr (kPlain) return;
  // behind the columns: the sums of z, then that of the weights
  double* slot =
      sums.mine() + static_cast<std::int64_t>(shape.k + (task.mean == nullptr ? 1 : 0)) * d;
  __syncthreads();
  double weight = 0.0;
  // In a part of the rows some blocks have none; where all are read at once, none has.
  const int noted = kFused || count > 0 ? chunk : 0;
  for (int t = static_cast<int>(threadIdx.x); t < noted; t += blockDim.x) weight += shared.mass[t];
  weight = block_sum(weight, shared.sums);
  __syncthreads();
  shared.sums[threadIdx.x] = static_cast<double>(z_sum);
  __syncthreads();
  const int c = static_cast<int>(threadIdx.x);
  if (counts && c < shape.k) {  // lanes of column c, of the first warp of every group
    double sum = known.add ? slot[c] : 0.0;
    for (int g = 0; g < shape.groups; ++g) {
      const double* from = shared.sums + (g * shape.slices + c / kSlice) * across;
      for (int l = c % kSlice; l < min(kWarp, kAll); l += kSlice) sum += from[l];
    }
    slot[c] = sum;
  }
  if (counts && threadIdx.x == 0) slot[shape.k] = known.add ? slot[shape.k] + weight : weight;
  if constexpr (kFused) {
    if (add_up(sums)) finish_product(task, sums.totals, shared.sums, status);
  }
}

/// Enqueues the variant that fits the rows, the shape and the addresses.
template <class T, ProductWork kWork>
void launch_product(const Product<T>& product, ProductShape shape, KnownProjections<T> known,
                    const BlockSums& sums, dim3 grid, ProductStatus* status, const Call& call) {
  const auto launch = [&](auto variant) {
    product_kernel<decltype(variant)>
        <<<grid, static_cast<unsigned>(shape.threads()), ProductShared<T>::bytes(shape),
           call.stream>>>(product, shape, known, sums, status);
    call.launched();
  };
  const bool vector = product.rows.template vectors<kOwn<T>>();
  if constexpr (kWork != ProductWork::all) {
    if (vector) return launch(ProductVariant<T, kWork, kSlice, kRows<T>, kFewThreads, true>{});
    return launch(ProductVariant<T, kWork, kSlice, kRows<T>, kFewThreads, false>{});
  } else if (shape.slice == kThin) {
    if (vector) return launch(ProductVariant<T, kWork, kThin, kThinRows, kProductThreads, true>{});
    return launch(ProductVariant<T, kWork, kThin, kThinRows, kProductThreads, false>{});
  } else if (shape.rows == kRows<T>) {
    if (vector) return launch(ProductVariant<T, kWork, kSlice, kRows<T>, kFewThreads, true>{});
    return launch(ProductVariant<T, kWork, kSlice, kRows<T>, kFewThreads, false>{});
  } else {
    if (vector) return launch(ProductVariant<T, kWork, kSlice, kFewRows, kProductThreads, true>{});
    return launch(ProductVariant<T, kWork, kSlice, kFewRows, kProductThreads, false>{});
  }
}

}  // namespace tamis::cuda
