// How a launch of product_kernel is laid out: over threads, shared memory and blocks.
#pragma once

#include <cstddef>
#include <cstdint>

#include "src/cuda/rows.cuh"

namespace tamis::cuda {

inline constexpr int kSlice = 8;  ///< columns of V that a thread holds
template <class T>
inline constexpr int kOwn =  ///< columns of X that a thread holds
    16 / static_cast<int>(sizeof(T));
inline constexpr int kQuad = kWarp / kSlice;  ///< rows whose projections a warp adds up at once
inline constexpr int kTogether = 4;           ///< columns of V summed at once
inline constexpr int kProductThreads = 512;
inline constexpr int kProductColumns = 32;  ///< of V in one launch, at most
inline constexpr int kWeightsAtOnce = 256;
inline constexpr int kTilesAtOnce = 128;  ///< summed in x's type
inline constexpr int kTileBytes = 32 << 10;

/// How the threads of a block share its work. Depends on shapes only.
struct ProductShape {
  int across = 1;    ///< threads side by side, whole warps; their columns of X lie this far apart
  int slices = 1;    ///< of columns of V
  int groups = 1;    ///< of threads, each with rows of its own
  int rows = kQuad;  ///< of a group in one tile, whole quads
  int k = 1;         ///< columns of V
  std::int64_t rows_per_block = 0;

  __host__ __device__ int threads() const { return across * slices * groups; }
  __host__ __device__ int tile() const { return groups * rows; }
  __host__ __device__ int columns() const { return slices * kSlice; }
  template <class T>
  __host__ __device__ int width() const {
    return across * kOwn<T>;
  }
};

/// Shared memory of a block.
template <class T>
struct ProductShared {
  std::int64_t* at;  ///< where rows begin
  T* tile;           ///< rows minus the shift
  double* sums;      ///< one a thread, at the end, where the tile was
  T* parts;          ///< projections, one warp's part each
  T* z;              ///< weight times projection
  T* weights;
  T* offset;  ///< (shift - mean) . v

  static constexpr int kRows = kWeightsAtOnce;
  __host__ __device__ static std::size_t bytes(const ProductShape& s) {
    const auto tile = static_cast<std::size_t>(s.tile());
    return kRows * sizeof(std::int64_t) +
           sizeof(T) * (tile * s.template width<T>() + tile / kQuad * s.slices * s.across +
                        tile * s.columns() + kRows + s.columns());
  }
  __device__ ProductShared(unsigned char* memory, const ProductShape& s) {
    at = reinterpret_cast<std::int64_t*>(memory);
    tile = reinterpret_cast<T*>(at + kRows);
    sums = reinterpret_cast<double*>(tile);
    parts = tile + s.tile() * s.template width<T>();
    z = parts + s.tile() / kQuad * s.slices * s.across;
    weights = z + s.tile() * s.columns();
    offset = weights + kRows;
  }
};

/// Rows whose projections are known, for the second of two reads.
template <class T>
struct KnownProjections {
  const T* z;          ///< k a row, from row `begin` on
  std::int64_t begin;  ///< the rows of this launch
  std::int64_t end;
  bool add;  ///< to what the slots hold
};

/// The most rows in a tile that shared memory has room for.
template <class T>
void fill_block(ProductShape& shape) {
  constexpr std::size_t kSharedBytes = 46 << 10;  // every device has 48 KiB
  constexpr int kMostRows = 16;
  const auto fits = [&](int groups, int rows) {
    ProductShape tried = shape;
    tried.groups = groups;
    tried.rows = rows;
    return tried.tile() * tried.template width<T>() * static_cast<int>(sizeof(T)) <= kTileBytes &&
           tried.tile() <= kWeightsAtOnce && ProductShared<T>::bytes(tried) <= kSharedBytes;
  };
  shape.groups = kProductThreads / (shape.across * shape.slices);
  while (shape.groups > 1 && !fits(shape.groups, kQuad)) --shape.groups;
  for (int rows = kQuad; rows <= kMostRows && fits(shape.groups, rows); rows += kQuad) {
    shape.rows = rows;
  }
}

inline void split_rows(ProductShape& shape, std::int64_t n, int blocks) {
  const std::int64_t tiles = (n + shape.tile() - 1) / shape.tile();
  shape.rows_per_block = (tiles + blocks - 1) / blocks * shape.tile();
}
inline int blocks_of(const ProductShape& shape, std::int64_t n) {
  return static_cast<int>((n + shape.rows_per_block - 1) / shape.rows_per_block);
}

template <class T>
int across_for(std::int64_t d) {
  const std::int64_t warp_columns = kWarp * kOwn<T>;
  return static_cast<int>((d + warp_columns - 1) / warp_columns) * kWarp;
}

}  // namespace tamis::cuda
