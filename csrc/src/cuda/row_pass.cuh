// One pass over rows that looks at each row by itself: its projections on a few directions, its
// distance from a point, and what a visitor makes of them.
//
// A warp reads a few rows at once, its lanes side by side, and adds up all their projections by
// transposed sums; then each thread has one row to itself. Directions come from the cache.
#pragma once

#include "src/cuda/rows.cuh"

namespace tamis::cuda {

inline constexpr int kRowThreads = 256;  ///< and rows of a tile

/// What is measured of each row.
template <class T>
struct RowMeasures {
  const T* origin;  ///< d numbers, taken off before projecting
  const T* v;       ///< `count` directions of d numbers, one after the other
  int count;
  const T* centre = nullptr;  ///< d numbers: also |x - centre|^2
  T* scratch = nullptr;       ///< gridDim.x * scratch_size(count) numbers, where that is not 0
};

template <class T>
struct RowTiling {
  static constexpr int kOwn = 16 / static_cast<int>(sizeof(T));  ///< columns of a lane
  static constexpr int kChunk = kWarp * kOwn;
  /// Projections of a tile that fit into shared memory.
  static constexpr int kFit = (32 << 10) / (kRowThreads * static_cast<int>(sizeof(T)));
  static std::int64_t scratch_size(int count) {
    return count <= kFit ? 0 : static_cast<std::int64_t>(count) * kRowThreads;
  }
  static std::int64_t tiles(std::int64_t n) { return (n + kRowThreads - 1) / kRowThreads; }
};

/// This lane's numbers of `from`, at columns j0 + kOwn * lane and on, or, where 16-byte loads will
/// not do, at every 32nd column from j0 + lane on. Zeros from column d on.
template <class T, bool kVector>
__device__ __forceinline__ void load_own(const T* from, std::int64_t j0, std::int64_t d, int lane,
                                         T (&to)[RowTiling<T>::kOwn]) {
  constexpr int kOwn = RowTiling<T>::kOwn;
#pragma unroll
  for (int o = 0; o < kOwn; ++o) to[o] = T(0);
  if constexpr (kVector) {
    if (j0 + lane * kOwn < d) load_vector(from + j0 + lane * kOwn, to);
  } else {
#pragma unroll
    for (int o = 0; o < kOwn; ++o) {
      const std::int64_t j = j0 + o * kWarp + lane;
      if (j < d) to[o] = from[j];
    }
  }
}

inline constexpr int kRowsTogether = 4;        ///< of a warp, measured together
inline constexpr int kDirectionsTogether = 8;  ///< their sums are in registers

/// Projections of a few rows on a few directions, and the rows' distances: those of row r on
/// direction c go to z[c * kRowThreads + r].
template <class T, bool kVector>
__device__ __forceinline__ void measure_rows(const DeviceRows<T>& rows, const RowMeasures<T>& what,
                                             const std::int64_t* at, int c0, bool distances, T* z,
                                             T* distance2) {
  using Tiling = RowTiling<T>;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int count = min(what.count - c0, kDirectionsTogether);
  T sums[kRowsTogether][kDirectionsTogether] = {};
  T squares[kRowsTogether] = {};
  T ahead[kRowsTogether]
         [Tiling::kOwn];  // while these columns are multiplied the next ones are read
  const auto read_ahead = [&](std::int64_t j0) {
#pragma unroll
    for (int r = 0; r < kRowsTogether; ++r) {
      load_own<T, kVector>(rows.data + at[r], j0, rows.d, lane, ahead[r]);
    }
  };
  read_ahead(0);
#pragma unroll 1
  for (std::int64_t j0 = 0; j0 < rows.d; j0 += Tiling::kChunk) {
    T x[kRowsTogether][Tiling::kOwn];
    T about[Tiling::kOwn];
    load_own<T, kVector>(what.origin, j0, rows.d, lane, about);
#pragma unroll
    for (int r = 0; r < kRowsTogether; ++r) {
#pragma unroll
      for (int o = 0; o < Tiling::kOwn; ++o) x[r][o] = ahead[r][o] - about[o];
    }
    if (j0 + Tiling::kChunk < rows.d) read_ahead(j0 + Tiling::kChunk);
#pragma unroll
    for (int c = 0; c < kDirectionsTogether; ++c) {
      if (c >= count) continue;
      T v[Tiling::kOwn];
      load_own<T, kVector>(what.v + (c0 + c) * rows.d, j0, rows.d, lane, v);
#pragma unroll
      for (int r = 0; r < kRowsTogether; ++r) {
#pragma unroll
        for (int o = 0; o < Tiling::kOwn; ++o) {
          sums[r][c] = mul_add(x[r][o], v[o], sums[r][c]);
        }
      }
    }
    if (distances) {
      T centre[Tiling::kOwn];
      load_own<T, kVector>(what.centre, j0, rows.d, lane, centre);
#pragma unroll
      for (int o = 0; o < Tiling::kOwn; ++o) {
        const T to_centre = centre[o] - about[o];
#pragma unroll
        for (int r = 0; r < kRowsTogether; ++r) {
          const T off = x[r][o] - to_centre;
          squares[r] = mul_add(off, off, squares[r]);
        }
      }
    }
  }
#pragma unroll
  for (int r = 0; r < kRowsTogether; ++r) {
    const T sum = transposed_sum(sums[r]);
    if (lane < count) z[lane * kRowThreads + r] = sum;
  }
  if (distances) {
    const T sum = transposed_sum(squares);
    if (lane < kRowsTogether) distance2[lane] = sum;
  }
}

/// Blocks on a multiprocessor, at least: where registers allow it.
template <class T, bool kVector>
inline constexpr int kRowBlocks = kVector && sizeof(T) == 4 ? 2 : 1;

/// A visitor has, in this order for every tile:
/// - take(i, first, count, z, stride): projections first .. first + count - 1 of row i are
///   z[c * stride]; only where kKeeps is false
/// - row(i, z, distance2): where there is a row i; its projections are z[c * kRowThreads] if kKeeps
/// - tile(first): by all threads; rows first .. first + kRowThreads - 1 are done
/// and finish(), by all threads.
template <class T, bool kVector, class Visitor>
__global__ void __launch_bounds__(kRowThreads, kRowBlocks<T, kVector>)
    row_kernel(DeviceRows<T> rows, RowMeasures<T> what, Visitor visitor) {
  using Tiling = RowTiling<T>;
  __shared__ T fit[Tiling::kFit * kRowThreads];
  __shared__ T distances[kRowThreads];
  __shared__ std::int64_t begins[kRowThreads];
  T* kept = fit;
  if (Visitor::kKeeps && what.count > Tiling::kFit) {
    kept = what.scratch + static_cast<std::int64_t>(blockIdx.x) * what.count * kRowThreads;
  }
  const int mine = static_cast<int>(threadIdx.x);
  const int warp_row = mine / kWarp * kWarp;
  const int pass = Visitor::kKeeps ? max(what.count, 1) : Tiling::kFit;  // directions
  for (std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * kRowThreads; first < rows.count;
       first += static_cast<std::int64_t>(gridDim.x) * kRowThreads) {
    const std::int64_t i = first + mine;
    begins[mine] = rows.number(min(i, rows.count - 1)) * rows.stride;
    __syncwarp();
    for (int c0 = 0; c0 == 0 || c0 < what.count; c0 += pass) {
      const int end = min(c0 + pass, what.count);
#pragma unroll 1
      for (int r = warp_row; r < warp_row + kWarp && first + r < rows.count; r += kRowsTogether) {
        for (int c = c0; c == c0 || c < end; c += kDirectionsTogether) {
          measure_rows<T, kVector>(rows, what, begins + r, c, what.centre != nullptr && c == 0,
                                   kept + static_cast<std::int64_t>(c - c0) * kRowThreads + r,
                                   distances + r);
        }
      }
      __syncwarp();
      if constexpr (!Visitor::kKeeps) {
        if (i < rows.count) visitor.take(i, c0, end - c0, kept + mine, kRowThreads);
        __syncwarp();
      }
    }
    if (i < rows.count) {
      visitor.row(i, kept + mine, what.centre == nullptr ? T(0) : distances[mine]);
    }
    visitor.tile(first);
    __syncwarp();
  }
  visitor.finish();
}

/// Enqueues the pass.
template <class T, class Visitor>
void visit_rows(const DeviceRows<T>& rows, RowMeasures<T> what, int blocks, const Visitor& visitor,
                const Call& call) {
  const auto grid = static_cast<unsigned>(blocks);
  const auto launch = [&](auto kernel) {
    kernel<<<grid, kRowThreads, 0, call.stream>>>(rows, what, visitor);
    call.launched();
  };
  const bool vector = rows.template vectors<RowTiling<T>::kOwn>();
  if (vector) return launch(row_kernel<T, true, Visitor>);
  launch(row_kernel<T, false, Visitor>);
}

/// Blocks for a pass that leaves nothing behind for each of them.
template <class T>
int row_blocks(const DeviceRows<T>& rows) {
  return static_cast<int>(std::min(RowTiling<T>::tiles(rows.count), 4 * kMaxBlocks));
}

}  // namespace tamis::cuda
