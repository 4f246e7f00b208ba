// One pass over rows that projects them on many directions: a product of matrices whose second
// factor is thin.
//
// A warp has 32 rows to itself and needs no other: it brings a few of their columns to shared
// memory, where each lane multiplies 8 rows by 4 directions (2 in float64). The next columns are
// read meanwhile. Directions lie as the lanes want them and come from the first-level cache: 2 KB a
// row at d = 512 and 32 directions.
#pragma once

#include "src/cuda/rows.cuh"

namespace tamis::cuda {

template <class T>
struct DirectionTiling {
  static constexpr int kOwn = 16 / static_cast<int>(sizeof(T));  ///< numbers of one access
  static constexpr int kAcross = 8;                              ///< lanes side by side
  static constexpr int kDown = kWarp / kAcross;
  static constexpr int kRows = kWarp / kDown;         ///< of a lane
  static constexpr int kDirections = kAcross * kOwn;  ///< at once
  static constexpr int kColumns = kAcross * kOwn;     ///< of X, at once
  static constexpr int kRoom = kColumns + kOwn;       ///< a row in shared memory: other banks
  static constexpr int kStride = kWarp + 1;           ///< a direction there
  static constexpr int kThreads = 128;
  static constexpr int kSummed =
      16 * kColumns;  ///< columns in one running sum, then they are added

  /// Columns with those behind that are zero.
  static std::int64_t padded(std::int64_t d) { return (d + kColumns - 1) / kColumns * kColumns; }
  /// Where number j of direction c lies: kDirections side by side.
  __host__ __device__ static std::int64_t place(std::int64_t j, std::int64_t c,
                                                std::int64_t columns) {
    return (c / kDirections * columns + j) * kDirections + c % kDirections;
  }
  /// Numbers of `count` directions.
  static std::int64_t size(std::int64_t d, std::int64_t count) {
    return (count + kDirections - 1) / kDirections * kDirections * padded(d);
  }
};

/// Directions as DirectionTiling places them.
template <class T>
struct ManyDirections {
  const T* origin;  ///< d numbers, taken off before projecting
  const T* v;
  int count;
};

/// The visitor's take, row and finish are those of row_kernel (row_pass.cuh); each row is a lane's.
template <class T, bool kVector, class Visitor>
__global__ void __launch_bounds__(DirectionTiling<T>::kThreads, 3)
    many_directions_kernel(DeviceRows<T> rows, ManyDirections<T> what, Visitor visitor) {
  using Tiling = DirectionTiling<T>;
  constexpr int kOwn = Tiling::kOwn;
  constexpr int kRows = Tiling::kRows;
  constexpr int kDown = Tiling::kDown;
  constexpr int kWarps = Tiling::kThreads / kWarp;
  __shared__ __align__(16) T tiles[kWarps][kWarp * Tiling::kRoom];
  __shared__ T projections[kWarps][Tiling::kDirections * Tiling::kStride];
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int across = lane % Tiling::kAcross;
  const int down = lane / Tiling::kAcross;
  T* tile = tiles[warp];
  T* z = projections[warp];
  const auto d = static_cast<int>(rows.d);
  const int padded = (d + Tiling::kColumns - 1) / Tiling::kColumns * Tiling::kColumns;

  // Number e of a lane in the next columns. Without 16-byte loads lanes take single columns.
  constexpr int kSide = kWarp / Tiling::kColumns;  // rows side by side then
  const auto row_of = [&](int r, int o) {
    return kVector ? down + r * kDown : (r * kOwn + o) * kSide + lane / Tiling::kColumns;
  };
  const int column = kVector ? across * kOwn : lane % Tiling::kColumns;

  for (std::int64_t first = (static_cast<std::int64_t>(blockIdx.x) * kWarps + warp) * kWarp;
       first < rows.count; first += static_cast<std::int64_t>(gridDim.x) * Tiling::kThreads) {
    const std::int64_t i = first + lane;
    const long long begin = rows.number(min(i, rows.count - 1)) * rows.stride;
    for (int c0 = 0; c0 < what.count; c0 += Tiling::kDirections) {
      const T* v = what.v + static_cast<std::int64_t>(c0) * padded + across * kOwn;
      T sums[kRows][kOwn] = {};
      T ahead[kRows][kOwn];
      const auto read_ahead = [&](int j0) {
        const int j = j0 + column;
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
          if constexpr (kVector) {
            const T* from = rows.data + __shfl_sync(kAllLanes, begin, row_of(r, 0));
#pragma unroll
            for (int o = 0; o < kOwn; ++o) ahead[r][o] = T(0);
            if (j < d) load_vector(from + j, ahead[r]);
          } else {
#pragma unroll
            for (int o = 0; o < kOwn; ++o) {
              const T* from = rows.data + __shfl_sync(kAllLanes, begin, row_of(r, o));
              ahead[r][o] = j < d ? from[j] : T(0);
            }
          }
        }
      };
      read_ahead(0);
#pragma unroll 1
      for (int j0 = 0; j0 < d; j0 += Tiling::kColumns) {
        T about[kOwn] = {};
        if constexpr (kVector) {
          if (j0 + column < d) load_vector(what.origin + j0 + column, about);
        } else if (j0 + column < d) {
          about[0] = what.origin[j0 + column];
        }
        __syncwarp();  // the columns before were multiplied
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
#pragma unroll
          for (int o = 0; o < kOwn; ++o) ahead[r][o] -= about[kVector ? o : 0];
          if constexpr (kVector) {
            store_vector(tile + row_of(r, 0) * Tiling::kRoom + column, ahead[r]);
          } else {
#pragma unroll
            for (int o = 0; o < kOwn; ++o)
              tile[row_of(r, o) * Tiling::kRoom + column] = ahead[r][o];
          }
        }
        __syncwarp();
        if (j0 + Tiling::kColumns < d) read_ahead(j0 + Tiling::kColumns);
#pragma unroll 2
        for (int j = 0; j < Tiling::kColumns; j += kOwn) {
          T numbers[kOwn][kOwn];
#pragma unroll
          for (int o = 0; o < kOwn; ++o) {
            load_vector(v + static_cast<std::int64_t>(j0 + j + o) * Tiling::kDirections,
                        numbers[o]);
          }
#pragma unroll
          for (int r = 0; r < kRows; ++r) {
            T x[kOwn];
            load_vector(tile + (down + r * kDown) * Tiling::kRoom + j, x);
#pragma unroll
            for (int o = 0; o < kOwn; ++o) {
#pragma unroll
              for (int c = 0; c < kOwn; ++c) sums[r][c] = mul_add(x[o], numbers[o][c], sums[r][c]);
            }
          }
        }
        const int done = j0 + Tiling::kColumns;
        if (done < d && done % Tiling::kSummed != 0) continue;
        const bool add = done > Tiling::kSummed;
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
#pragma unroll
          for (int c = 0; c < kOwn; ++c) {
            T* to = z + (across * kOwn + c) * Tiling::kStride + down + r * kDown;
            *to = add ? *to + sums[r][c] : sums[r][c];
            sums[r][c] = T(0);
          }
        }
      }
      __syncwarp();
      if (i < rows.count) {
        visitor.take(i, c0, min(what.count - c0, Tiling::kDirections), z + lane, Tiling::kStride);
      }
      __syncwarp();
    }
    if (i < rows.count) visitor.row(i, nullptr, T(0));
    visitor.tile(first);
  }
  visitor.finish();
}

/// Enqueues the pass.
template <class T, class Visitor>
void visit_rows(const DeviceRows<T>& rows, const ManyDirections<T>& what, const Visitor& visitor,
                const Call& call) {
  using Tiling = DirectionTiling<T>;
  constexpr std::int64_t kMost = 1 << 20;
  const auto grid = static_cast<unsigned>(
      std::min((rows.count + Tiling::kThreads - 1) / Tiling::kThreads, kMost));
  if (rows.template vectors<Tiling::kOwn>()) {
    many_directions_kernel<T, true>
        <<<grid, Tiling::kThreads, 0, call.stream>>>(rows, what, visitor);
  } else {
    many_directions_kernel<T, false>
        <<<grid, Tiling::kThreads, 0, call.stream>>>(rows, what, visitor);
  }
  call.launched();
}

}  // namespace tamis::cuda
