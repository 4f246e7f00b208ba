// How a launch of product_kernel is laid out: over threads, shared memory and blocks.
#pragma once

#include <cstddef>
#include <cstdint>

#include "src/cuda/rows.cuh"

namespace tamis::cuda {

inline constexpr int kSlice = 8;  ///< columns of V that a thread holds
inline constexpr int kThin = 2;   ///< the same where V has no more
template <class T>
inline constexpr int kOwn =  ///< columns of X that a thread holds
    16 / static_cast<int>(sizeof(T));
inline constexpr int kTogether = 2;  ///< columns of V summed at once: registers are few
inline constexpr int kProductThreads = 512;
inline constexpr int kFewThreads = 384;         ///< up to so many can have 168 registers each
inline constexpr int kWishedThreads = 128;      ///< small blocks: one loads while others multiply
inline constexpr int kKnownAcross = 2 * kWarp;  ///< threads side by side where factors are known
inline constexpr int kProductColumns = 32;      ///< of V in one launch, at most
// Rows of a group in a tile, of which a thread holds its columns: as many as registers allow.
inline constexpr int kThinRows = 8;  ///< with kThin columns of V
template <class T>
inline constexpr int kRows = sizeof(T) == 4 ? 8 : 4;  ///< with kSlice
inline constexpr int kFewRows = 3;  ///< with kSlice in more than kFewThreads threads
inline constexpr int kWeightsAtOnce = 256;
inline constexpr int kRowsAtOnce = 2048;  ///< of a group, summed in x's type

/// How the threads of a block share its work. Depends on shapes only.
struct ProductShape {
  int across = 1;  ///< threads side by side, whole warps
  int slices = 1;  ///< of columns of V
  int groups = 1;  ///< of threads, each with rows of its own
  int slice = kSlice;
  int rows = 1;  ///< of a group in one tile: a thread holds its columns of them
  int k = 1;     ///< columns of V
  std::int64_t rows_per_block = 0;

  __host__ __device__ int threads() const { return across * slices * groups; }
  __host__ __device__ int tile() const { return groups * rows; }
  __host__ __device__ int columns() const { return slices * slice; }
  __host__ __device__ int warps() const { return across / kWarp; }
  template <class T>
  __host__ __device__ int width() const {
    return across * kOwn<T>;
  }
};

/// Shared memory of a block.
template <class T>
struct ProductShared {
  const T** at;  ///< where rows begin; those of weight zero begin at the shift
  double* mass;  ///< sums of weights; not in registers, which are few
  T* tile;       ///< for slices: the rows minus the shift; before and after: what threads share
  double* sums;  ///< one a thread, at the end, where the tile was
  T* parts;      ///< projections, one warp's part each, of this tile and of the last
  T* z;          ///< weight times projection, for each warp by itself
  T* weights;
  T* shift;   ///< by column
  T* offset;  ///< (shift - mean) . v

  static constexpr int kAtOnce = kWeightsAtOnce;
  __host__ __device__ static int tile_size(const ProductShape& s) {
    const int width = s.template width<T>();
    int rows = kTogether;                                        // of V
    if (s.groups * s.slices > rows) rows = s.groups * s.slices;  // sums that meet
    if (s.slices > 1 && s.tile() > rows) rows = s.tile();
    const int sums = s.threads() * static_cast<int>(sizeof(double) / sizeof(T));
    return rows * width > sums ? rows * width : sums;
  }
  __host__ __device__ static int parts_size(const ProductShape& s) {
    return s.tile() * s.columns() * s.warps();
  }
  __host__ __device__ static std::size_t bytes(const ProductShape& s) {
    return kAtOnce * (sizeof(T*) + sizeof(double)) +
           sizeof(T) * static_cast<std::size_t>(tile_size(s) + 3 * parts_size(s) + kAtOnce +
                                                s.columns() + s.template width<T>());
  }
  __device__ ProductShared(unsigned char* memory, const ProductShape& s) {
    at = reinterpret_cast<const T**>(memory);
    mass = reinterpret_cast<double*>(at + kAtOnce);
    tile = reinterpret_cast<T*>(mass + kAtOnce);
    sums = reinterpret_cast<double*>(tile);
    shift = tile + tile_size(s);
    parts = shift + s.template width<T>();
    z = parts + 2 * parts_size(s);
    weights = z + parts_size(s);
    offset = weights + kAtOnce;
  }
};

/// Rows whose projections, or other factors, are known.
template <class T>
struct KnownProjections {
  const T* z;          ///< of row `begin` on
  std::int64_t begin;  ///< the rows of this launch
  std::int64_t end;
  bool add;  ///< to what the slots hold
  std::int64_t row_stride;
  std::int64_t vector_stride;

  __device__ T at(std::int64_t row, int c) const {
    return z[(row - begin) * row_stride + c * vector_stride];
  }
};

/// How a block multiplies by k columns of V with `across` threads side by side.
template <class T>
ProductShape product_shape(int across, int k, bool fused) {
  ProductShape shape;
  shape.across = across;
  shape.k = k;
  shape.slice = fused && k <= kThin ? kThin : kSlice;
  shape.slices = (k + shape.slice - 1) / shape.slice;
  const int threads = across * shape.slices;
  shape.groups = threads < kWishedThreads ? kWishedThreads / threads : 1;
  shape.rows = shape.slice == kThin ? kThinRows : threads <= kFewThreads ? kRows<T> : kFewRows;
  return shape;
}

template <class Shape>
void split_rows(Shape& shape, std::int64_t n, int blocks) {
  const std::int64_t tiles = (n + shape.tile() - 1) / shape.tile();
  shape.rows_per_block = (tiles + blocks - 1) / blocks * shape.tile();
}
template <class Shape>
int blocks_of(const Shape& shape, std::int64_t n) {
  return static_cast<int>((n + shape.rows_per_block - 1) / shape.rows_per_block);
}

/// Numbers in a slot: columns of sums, the rows' own sum, sums of projections, that of the weights.
inline std::int64_t slot_size(std::int64_t d, std::int64_t k, bool with_mean) {
  return (k + (with_mean ? 1 : 0)) * d + k + 1;
}

template <class T>
int across_for(std::int64_t d) {
  const std::int64_t warp_columns = kWarp * kOwn<T>;
  return static_cast<int>((d + warp_columns - 1) / warp_columns) * kWarp;
}

}  // namespace tamis::cuda
