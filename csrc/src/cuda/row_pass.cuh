// One pass over rows that looks at each row by itself: its projections on a few directions, its
// distance from a point, and what a visitor makes of them.
//
// A thread has a row. Columns come through shared memory, a few at a time, so that reads of X are
// coalesced; the directions are read once a tile of rows.
#pragma once

#include "src/cuda/rows.cuh"

namespace tamis::cuda {

inline constexpr int kRowThreads = 256;  ///< and rows of a tile
inline constexpr int kDirections = 32;   ///< of one read of X

/// What is measured of each row.
template <class T>
struct RowMeasures {
  const T* origin;  ///< d numbers, taken off before projecting
  const T* v;       ///< `count` directions of d numbers, one after the other
  int count;
  const T* centre = nullptr;  ///< d numbers: also |x - centre|^2
  T* scratch = nullptr;       ///< gridDim.x * scratch_size(count) numbers, where that is not 0
};

/// Rows in a tile are threads; columns at once are as many as fit.
template <class T>
struct RowTiling {
  static constexpr int kColumns = (32 << 10) / (kRowThreads * static_cast<int>(sizeof(T)));
  static constexpr int kStride = kColumns + 1;                   // no bank conflicts
  static constexpr int kTogether = 8;                            ///< directions
  static constexpr int kBlocksAtLeast = sizeof(T) == 4 ? 2 : 1;  ///< on a multiprocessor
  static constexpr int kDirectionStride = kDirections + 16 / static_cast<int>(sizeof(T));
  /// Projections of a tile that fit where the columns were.
  static constexpr int kFit = kStride;
  static std::int64_t scratch_size(int count) {
    return count <= kFit ? 0 : static_cast<std::int64_t>(count) * kRowThreads;
  }
  static std::int64_t tiles(std::int64_t n) { return (n + kRowThreads - 1) / kRowThreads; }
};

/// A visitor has, in this order for every tile:
///   take(first, count, z)   projections first .. first + count - 1 of the thread's row; only where
///                           kKeeps is false
///   row(i, z, distance2)    where there is a row i; z[c * stride] are its projections if kKeeps
///   tile(first)             by all threads: rows first .. first + kRowThreads - 1 are done
/// and finish(), by all threads.
template <class T, class Visitor>
__global__ void __launch_bounds__(kRowThreads, RowTiling<T>::kBlocksAtLeast)
    row_kernel(DeviceRows<T> rows, RowMeasures<T> what, Visitor visitor) {
  using Tiling = RowTiling<T>;
  constexpr int kColumns = Tiling::kColumns;
  constexpr int kTogether = Tiling::kTogether;
  __shared__ T xs[kRowThreads * Tiling::kStride];
  __shared__ __align__(16) T vs[kColumns * Tiling::kDirectionStride];
  __shared__ T origin[2][kColumns];  // of these columns, and already of the next
  __shared__ T centre[kColumns];     // minus the origin
  T* kept = what.count <= Tiling::kFit
                ? xs
                : what.scratch + static_cast<std::int64_t>(blockIdx.x) * what.count * kRowThreads;
  kept += threadIdx.x;
  const T* mine = xs + static_cast<int>(threadIdx.x) * Tiling::kStride;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp_row = static_cast<int>(threadIdx.x) - lane;
  const int column = lane % kColumns;
  const auto load_origin = [&](int slot, std::int64_t j0) {
    const std::int64_t j = j0 + threadIdx.x;
    if (threadIdx.x < kColumns) origin[slot][threadIdx.x] = j < rows.d ? what.origin[j] : T(0);
  };
  int slot = 0;
  load_origin(slot, 0);
  for (std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * kRowThreads; first < rows.count;
       first += static_cast<std::int64_t>(gridDim.x) * kRowThreads) {
    const std::int64_t i = first + threadIdx.x;
    T distance2 = T(0);
    for (int c0 = 0; c0 == 0 || c0 < what.count; c0 += kDirections) {
      const int count = min(what.count - c0, kDirections);
      const int padded = (count + kTogether - 1) / kTogether * kTogether;
      T z[kDirections] = {};
      for (std::int64_t j0 = 0; j0 < rows.d; j0 += kColumns) {
        __syncthreads();
        const bool in_row = j0 + column < rows.d;
        const T about = origin[slot][column];
#pragma unroll 8
        for (int r = lane / kColumns; r < kWarp; r += kWarp / kColumns) {
          const std::int64_t at = first + warp_row + r;
          T x = T(0);
          if (in_row && at < rows.count) {
            x = rows.data[rows.number(at) * rows.stride + j0 + column] - about;
          }
          xs[(warp_row + r) * Tiling::kStride + column] = x;
        }
#pragma unroll 1
        for (int e = static_cast<int>(threadIdx.x); e < padded * kColumns; e += kRowThreads) {
          const int c = e / kColumns;
          const int jj = e % kColumns;
          vs[jj * Tiling::kDirectionStride + c] =
              c < count && j0 + jj < rows.d ? what.v[(c0 + c) * rows.d + j0 + jj] : T(0);
        }
        if (threadIdx.x < kColumns) {
          centre[threadIdx.x] =
              what.centre != nullptr && in_row ? what.centre[j0 + column] - about : T(0);
        }
        slot ^= 1;
        load_origin(slot, j0 + kColumns < rows.d ? j0 + kColumns : 0);
        __syncthreads();
#pragma unroll
        for (int c = 0; c < kDirections; c += kTogether) {
          if (c >= count) continue;
          T part[kTogether] = {};
#pragma unroll 2
          for (int jj = 0; jj < kColumns; ++jj) {
            const T x = mine[jj];
            T v[kTogether];
            load_vector(vs + jj * Tiling::kDirectionStride + c, v);
#pragma unroll
            for (int i = 0; i < kTogether; ++i) part[i] = mul_add(x, v[i], part[i]);
          }
#pragma unroll
          for (int i = 0; i < kTogether; ++i) z[c + i] += part[i];
        }
        if (what.centre != nullptr && c0 == 0) {
          T part = T(0);
#pragma unroll 2
          for (int jj = 0; jj < kColumns; ++jj) {
            const T x = mine[jj] - centre[jj];
            part = mul_add(x, x, part);
          }
          distance2 += part;
        }
      }
      if constexpr (Visitor::kKeeps) {
        __syncthreads();  // the columns were read
#pragma unroll
        for (int c = 0; c < kDirections; ++c) {
          if (c < count) kept[static_cast<std::int64_t>(c0 + c) * kRowThreads] = z[c];
        }
      } else {
        visitor.take(c0, count, z);
      }
    }
    if (i < rows.count) visitor.row(i, kept, distance2);
    visitor.tile(first);
  }
  visitor.finish();
}

/// Enqueues the pass.
template <class T, class Visitor>
void visit_rows(const DeviceRows<T>& rows, RowMeasures<T> what, int blocks, const Visitor& visitor,
                const Call& call) {
  row_kernel<T, Visitor>
      <<<static_cast<unsigned>(blocks), kRowThreads, 0, call.stream>>>(rows, what, visitor);
  call.launched();
}

/// Blocks for a pass that leaves nothing behind for each of them.
template <class T>
int row_blocks(const DeviceRows<T>& rows) {
  return static_cast<int>(std::min(RowTiling<T>::tiles(rows.count), 4 * kMaxBlocks));
}

}  // namespace tamis::cuda
