// Passes over rows on the CPU: who reads which rows, and in which order sums are added.
//
// Rows are cut into chunks that depend on shapes only; chunks run on any thread, and what they
// sum is added in chunk order. Inside a chunk, blocks of kFlush rows are summed in the data's own
// type and added to float64 totals.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "src/detail/aligned.hpp"
#include "src/detail/check.hpp"
#include "src/detail/row_products_backend.hpp"
#include "src/detail/sweep_rows_backend.hpp"
#include "src/detail/thread_pool.hpp"
#include "tamis/covariance_apply.hpp"
#include "tamis/views.hpp"

namespace tamis::detail {

/// The row kernels of one instruction set.
template <class T>
struct RowKernels {
  void (*project)(const RowTile<T>&, const T* centre, const T* v, int k, T* z);
  void (*distances2)(const RowTile<T>&, const T* centre, T* out);
  void (*accumulate)(const RowTile<T>&, const T* centre, const T* a, int k, T* y);
  void (*move_sums)(T* y, std::int64_t count, double* total);
  void (*measure)(const RowTile<T>&, const T* origin, const T* v, int k, T* z, const T* centre,
                  T* square);
  void (*accumulate_and_add)(const RowTile<T>&, const T* centre, const T* a, int k, T* y);
  void (*judge)(const T* z, int stride, int rows, const CutLanes* groups, int m, std::int32_t* bins,
                Verdict* verdicts);
};
/// Those of the instruction set in use. Defined for float and double.
template <class T>
const RowKernels<T>& row_kernels();

/// Rows of x, all of them or those that an index lists.
template <class T>
struct Rows {
  const T* data;
  std::int64_t stride;
  std::int64_t d;
  std::int64_t count;
  const std::int64_t* index = nullptr;

  explicit Rows(const ConstMatrixView& x)
      : data(static_cast<const T*>(x.data)), stride(x.row_stride), d(x.cols), count(x.rows) {}
  Rows(const ConstMatrixView& x, const std::int64_t* chosen, std::int64_t n) : Rows(x) {
    index = chosen;
    count = n;
  }
  std::int64_t number(std::int64_t i) const { return index == nullptr ? i : index[i]; }
  const T* operator[](std::int64_t i) const { return data + number(i) * stride; }
};

inline constexpr int kFlush = 128;  ///< rows summed in the data's own type
inline constexpr std::int64_t kMaxChunks = 64;
inline constexpr std::int64_t kMaxChunkBytes = std::int64_t{64} << 20;  ///< of all chunks together

/// How rows are cut: a function of shapes only.
struct Chunks {
  std::int64_t count;
  std::int64_t rows;  ///< of each but the last; a multiple of kFlush

  Chunks(std::int64_t n, std::int64_t bytes_each) {
    const std::int64_t most = std::clamp<std::int64_t>(
        kMaxChunkBytes / std::max<std::int64_t>(bytes_each, 1), 1, kMaxChunks);
    const std::int64_t blocks = (n + kFlush - 1) / kFlush;
    const std::int64_t blocks_each = std::max<std::int64_t>((blocks + most - 1) / most, 1);
    rows = blocks_each * kFlush;
    count = std::max<std::int64_t>((blocks + blocks_each - 1) / blocks_each, 1);
  }
};

/// Rows of a tile: what stays in the first-level cache between a projection and a weighted sum.
template <class T>
int tile_rows(std::int64_t d) {
  const std::int64_t fit = (16 << 10) / (d * static_cast<std::int64_t>(sizeof(T)));
  return static_cast<int>(std::clamp<std::int64_t>(fit / 4 * 4, 8, 32));
}

/// Elements from a row to the one for which memory is asked meanwhile: 32 KB further on, and at
/// least a tile, so that all of a tile has been asked for when its turn comes. 0 where rows are not
/// read in order.
template <class T>
std::int64_t ahead_of(const Rows<T>& rows) {
  if (rows.index != nullptr) return 0;
  const std::int64_t fit = (32 << 10) / (rows.d * static_cast<std::int64_t>(sizeof(T)));
  return std::max<std::int64_t>(fit, tile_rows<T>(rows.d)) * rows.stride;
}

/// How a pass reads that projects rows on some columns and then sums the same rows.
struct Reading {
  int tile;  ///< rows
  Ahead products;
  Ahead sums;
  bool one_by_one = false;
};

/// Few short columns leave room in the first-level cache, and then the hardware's own prefetchers
/// do best: they follow one row, with a little help. Else rows share what is loaded of the columns,
/// and half of the memory is asked for during the products, half during the sums. Many sums take
/// most of the time, and fewer, larger tiles spare them ways to memory and back: the next tile is
/// asked for meanwhile.
template <class T>
Reading reading_of(const Rows<T>& rows, std::int64_t products, std::int64_t sums) {
  constexpr std::int64_t kColumnBytes = 4 << 10, kNear = 8 << 10, kCached = 32 << 20;
  constexpr std::int64_t kRowBytes = 4 << 10;
  constexpr int kManySums = 7, kManyRows = 32;
  const std::int64_t row_bytes = rows.d * static_cast<std::int64_t>(sizeof(T));
  const std::int64_t ahead = ahead_of(rows);
  const int tile = tile_rows<T>(rows.d);
  if (sums >= kManySums && row_bytes <= kRowBytes) {
    const std::int64_t next = ahead == 0 ? 0 : kManyRows * rows.stride;
    return {kManyRows, {}, {next, next}};
  }
  if (ahead != 0 && rows.count > kCached / row_bytes &&
      products * padded<T>(rows.d) * static_cast<std::int64_t>(sizeof(T)) <= kColumnBytes) {
    const std::int64_t near = std::max<std::int64_t>(kNear / row_bytes, 1) * rows.stride;
    return {tile, {near, near}, {}, true};
  }
  return {tile, {ahead, 0}, {0, ahead}};
}

/// k vectors of d doubles, one after the other with the given strides, as padded columns of T.
template <class T>
Aligned<T> pack(const double* v, std::int64_t d, std::int64_t k, std::int64_t element_stride,
                std::int64_t vector_stride) {
  Aligned<T> out(static_cast<std::size_t>(padded<T>(d) * k), T(0));
  for (std::int64_t c = 0; c < k; ++c) {
    for (std::int64_t j = 0; j < d; ++j) {
      out[static_cast<std::size_t>(c * padded<T>(d) + j)] =
          static_cast<T>(v[c * vector_stride + j * element_stride]);
    }
  }
  return out;
}

/// Names the first row (of weight > 0) that holds a NaN or an infinity; returns if none does.
template <class T>
void fail_on_bad_row(const char* op, const Rows<T>& rows, const T* weights = nullptr) {
  for (std::int64_t i = 0; i < rows.count; ++i) {
    if (weights != nullptr && !(weights[rows.number(i)] > T(0))) continue;
    const T* x = rows[i];
    for (std::int64_t j = 0; j < rows.d; ++j) {
      if (std::isfinite(x[j])) continue;
      const char* what = std::isnan(x[j]) ? "NaN" : x[j] > 0 ? "inf" : "-inf";
      throw NonFiniteError(text("[", op, "] X: expected finite values, got ", what, " in row ",
                                rows.number(i), ", column ", j),
                           rows.number(i));
    }
  }
}

/// Says what is wrong with data whose sums came out as NaN or infinity: a bad row, or else finite
/// numbers that overflow.
template <class T>
[[noreturn]] void fail_on_data(const char* op, const Rows<T>& rows, const T* weights = nullptr) {
  fail_on_bad_row(op, rows, weights);
  throw NonFiniteError(text("[", op, "] X: expected values whose squares can be summed in ",
                            sizeof(T) == 4 ? "float32" : "float64", ": rescale the data"),
                       -1);
}

/// Sums of rows of weight w about a centre c.
struct Moments {
  std::vector<double> mean;  ///< c + sum w (x - c) / mass
  double trace = 0.0;        ///< of the covariance about that mean
  double mass = 0.0;         ///< sum of w
};

/// What one chunk adds to the moments.
struct MomentSums {
  Aligned<double> shift;  ///< padded(d): sum of w (x - c)
  double square = 0.0;    ///< sum of w |x - c|^2
  double mass = 0.0;
};

/// Chunk sums, in order. Not finite where the data are not.
Moments add_moments(const std::vector<MomentSums>& sums, const double* centre, std::int64_t d);

/// The moments of rows about `centre` (padded(d) numbers, finite). One pass.
template <class T>
Moments row_moments(const Rows<T>& rows, const T* weights, const T* centre, int num_threads);

/// Numbers near the mean of the rows, that of about `look` of them: about them nothing is lost to
/// cancellation.
template <class T>
Aligned<T> near_mean(const Rows<T>& rows, const T* weights, std::int64_t look = 256);

}  // namespace tamis::detail
