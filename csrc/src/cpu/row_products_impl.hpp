// row_products for one instruction set: included after a simd_*.hpp and a wide_*.hpp.
//
// The shape of every sum is part of the contract. A dot product runs over 64-byte vectors: lane l
// of an accumulator takes elements l, l + L, l + 2L, ... by fma (L = 16 floats or 8 doubles), then
// the accumulator is folded in halves: L/2 + L/2, and so on down to one. A weighted sum takes its
// rows in order, one fma each. Which rows and columns share a pass through the registers changes
// nothing, so each machine groups them as its registers allow (Tiling).
//
// Past the usual 400 lines by a few: all kernels are made of the same few walks over rows.
#include <cstdint>

#include "src/detail/row_products_backend.hpp"

// GCC 12 keeps arrays of accumulators in memory unless it is told to unroll their loops.
#if defined(__GNUC__) && !defined(__clang__)
#define TAMIS_UNROLL _Pragma("GCC unroll 16")
#define TAMIS_ROLLED _Pragma("GCC unroll 1")
#else
#define TAMIS_UNROLL
#define TAMIS_ROLLED
#endif

namespace tamis::cpu::TAMIS_ISA {
namespace {

using detail::padded;
using detail::RowTile;

/// 64 bytes, in as many registers as the machine needs.
template <class T>
struct Wide {
  using Reg = Register<T>;
  static constexpr int parts = static_cast<int>(detail::kWide<T>) / Reg::width;
  typename Reg::R part[parts];

#define TAMIS_INLINE [[gnu::always_inline]] static inline
  TAMIS_INLINE Wide zero() {
    Wide out;
    for (int p = 0; p < parts; ++p) out.part[p] = Reg::zero();
    return out;
  }
  TAMIS_INLINE Wide set(T x) {
    Wide out;
    for (int p = 0; p < parts; ++p) out.part[p] = Reg::set(x);
    return out;
  }
  TAMIS_INLINE Wide load(const T* from) {
    Wide out;
    for (int p = 0; p < parts; ++p) out.part[p] = Reg::load(from + p * Reg::width);
    return out;
  }
  /// The first `count` numbers, zeros after them; reads no further.
  TAMIS_INLINE Wide load_first(const T* from, int count) {
    Wide out;
    for (int p = 0; p < parts; ++p) {
      out.part[p] = Reg::load_first(from + p * Reg::width, count - p * Reg::width);
    }
    return out;
  }
  TAMIS_INLINE void store(T* to, const Wide& x) {
    for (int p = 0; p < parts; ++p) Reg::store(to + p * Reg::width, x.part[p]);
  }
  TAMIS_INLINE Wide sub(const Wide& a, const Wide& b) {
    Wide out;
    for (int p = 0; p < parts; ++p) out.part[p] = Reg::sub(a.part[p], b.part[p]);
    return out;
  }
  TAMIS_INLINE Wide fma(const Wide& a, const Wide& b, const Wide& c) {
    Wide out;
    for (int p = 0; p < parts; ++p) out.part[p] = Reg::fma(a.part[p], b.part[p], c.part[p]);
    return out;
  }
  TAMIS_INLINE typename Reg::Folded fold(Wide a) {
    for (int half = parts / 2; half > 0; half /= 2) {
      for (int p = 0; p < half; ++p) a.part[p] = Reg::add(a.part[p], a.part[p + half]);
    }
    return Reg::fold(a.part[0]);
  }
#undef TAMIS_INLINE
};

/// Sums of `count` folded accumulators.
template <class T, int count>
[[gnu::always_inline]] inline void sums(const typename Register<T>::Folded* folded, T* out) {
  constexpr int last = count - 1;
  for (int i = 0; i < count; i += 4) {
    T four[4];
    Register<T>::sum4(folded[i], folded[i + 1 < count ? i + 1 : last],
                      folded[i + 2 < count ? i + 2 : last], folded[i + 3 < count ? i + 3 : last],
                      four);
    for (int j = 0; j < 4 && i + j < count; ++j) out[i + j] = four[j];
  }
}

/// Asks for the line `ahead` elements further on, into the second-level cache: into the first it
/// drives out what is summed (Zen 4, 100k x 512: 26 GB/s against 13). Never faults.
template <class T>
[[gnu::always_inline]] inline void fetch(const T* from, std::int64_t ahead) {
  if (ahead != 0) __builtin_prefetch(from + ahead, 0, 2);
}

/// One vector of a few centred rows times kColumns columns of V.
template <class T, int kRows, int kColumns>
[[gnu::always_inline]] inline void multiply_vector(const Wide<T>* x, const T* v,
                                                   std::int64_t stride, std::int64_t j,
                                                   Wide<T>* acc) {
  TAMIS_UNROLL
  for (int c = 0; c < kColumns; ++c) {
    const Wide<T> vc = Wide<T>::load(v + c * stride + j);
    TAMIS_UNROLL
    for (int r = 0; r < kRows; ++r) {
      acc[r * kColumns + c] = Wide<T>::fma(x[r], vc, acc[r * kColumns + c]);
    }
  }
}

/// One vector of a few rows, centred, and its products with kColumns columns of V. `left`: numbers
/// of the last vector, or 0 for a whole one.
template <class T, int kRows, int kColumns>
[[gnu::always_inline]] inline void project_vector(const T* const* row, const T* centre, const T* v,
                                                  std::int64_t stride, std::int64_t j, int left,
                                                  std::int64_t ahead, Wide<T>* acc) {
  using W = Wide<T>;
  const W about = W::load(centre + j);
  W x[kRows];
  TAMIS_UNROLL
  for (int r = 0; r < kRows; ++r) {
    fetch(row[r] + j, ahead);
    x[r] = W::sub(left == 0 ? W::load(row[r] + j) : W::load_first(row[r] + j, left), about);
  }
  multiply_vector<T, kRows, kColumns>(x, v, stride, j, acc);
}

/// A few rows times kColumns columns of V, all sums in registers. Several rows share what is loaded
/// of V, and their chains of fma run side by side. Hardware prefetchers lose track of several rows
/// at once, so memory is asked for here: see Ahead.
template <class T, int kRows, int kColumns>
[[gnu::always_inline]] inline void project_rows(const T* const* rows, const T* centre, const T* v,
                                                std::int64_t d, const detail::Ahead& ahead,
                                                Wide<T>* acc) {
  using W = Wide<T>;
  constexpr std::int64_t width = detail::kWide<T>;
  const std::int64_t stride = padded<T>(d);
  const T* row[kRows];
  TAMIS_UNROLL
  for (int i = 0; i < kRows * kColumns; ++i) acc[i] = W::zero();
  TAMIS_UNROLL
  for (int r = 0; r < kRows; ++r) row[r] = rows[r];
  std::int64_t j = 0;
  for (; j + 2 * width <= d; j += 2 * width) {
    project_vector<T, kRows, kColumns>(row, centre, v, stride, j, 0, ahead.even, acc);
    project_vector<T, kRows, kColumns>(row, centre, v, stride, j + width, 0, ahead.odd, acc);
  }
  if (j + width <= d) {
    project_vector<T, kRows, kColumns>(row, centre, v, stride, j, 0, ahead.even, acc);
    j += width;
  }
  if (j < d) {
    const int left = static_cast<int>(d - j);
    project_vector<T, kRows, kColumns>(row, centre, v, stride, j, left, ahead.odd, acc);
  }
}

/// kTogether rows side by side. One loop for them all: of copies, one a group, the branches are
/// foretold worse (a quarter slower at k = 1).
template <class T, int kRows, int kColumns, int kTogether>
void project_tile(const RowTile<T>& tile, int t, const T* centre, const T* v, int k, T* z) {
  static_assert(kRows % kTogether == 0);
  constexpr int kSums = kTogether * kColumns;
  T out[kRows * kColumns];
  Wide<T> acc[kSums];
  if constexpr (Tiling::sum8 && kRows * kColumns % 8 == 0 && (kTogether > 1 || kColumns == 8)) {
    typename Register<T>::R lanes[kRows * kColumns];
    TAMIS_ROLLED
    for (int r = 0; r < kRows; r += kTogether) {
      project_rows<T, kTogether, kColumns>(tile.rows + t + r, centre, v, tile.d, tile.ahead, acc);
      TAMIS_UNROLL
      for (int i = 0; i < kSums; ++i) lanes[r * kColumns + i] = acc[i].part[0];
    }
    for (int i = 0; i < kRows * kColumns; i += 8) Register<T>::sum8(lanes + i, out + i);
  } else {
    typename Register<T>::Folded folded[kRows * kColumns];
    TAMIS_ROLLED
    for (int r = 0; r < kRows; r += kTogether) {
      project_rows<T, kTogether, kColumns>(tile.rows + t + r, centre, v, tile.d, tile.ahead, acc);
      TAMIS_UNROLL
      for (int i = 0; i < kSums; ++i) folded[r * kColumns + i] = Wide<T>::fold(acc[i]);
    }
    sums<T, kRows * kColumns>(folded, out);
  }
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kColumns; ++c) z[(t + r) * k + c] = out[r * kColumns + c];
  }
}

/// All rows of the tile; as many of them at once as have sums to be folded together.
template <class T, int kColumns, int kTogether>
void project_grouped(const RowTile<T>& tile, const T* centre, const T* v, int k, T* z) {
  constexpr int kRows = kColumns == 8 && kTogether == 1 ? 2 : 4;
  int t = 0;
  for (; t + kRows <= tile.count; t += kRows) {
    project_tile<T, kRows, kColumns, kTogether>(tile, t, centre, v, k, z);
  }
  for (; t < tile.count; ++t) project_tile<T, 1, kColumns, 1>(tile, t, centre, v, k, z);
}

template <class T, int kColumns>
void project_columns(const RowTile<T>& tile, const T* centre, const T* v, int k, T* z) {
  constexpr int kFit = Tiling::products / kColumns;
  constexpr int kMost = kFit < 1 ? 1 : kFit < 4 ? kFit : 4;
  if (tile.one_by_one) {
    project_grouped<T, kColumns, 1>(tile, centre, v, k, z);
  } else {
    project_grouped<T, kColumns, kMost>(tile, centre, v, k, z);
  }
}

/// Columns c to k of V.
template <class T>
void project_from(int c, RowTile<T> tile, const T* centre, const T* v, int k, T* z) {
  constexpr int kColumns = Tiling::columns;
  const std::int64_t stride = padded<T>(tile.d);
  for (; c + kColumns <= k; c += kColumns) {
    project_columns<T, kColumns>(tile, centre, v + c * stride, k, z + c);
    tile.ahead = {};  // has been asked for
  }
  if constexpr (kColumns > 4) {
    for (; c + 4 <= k; c += 4) {
      project_columns<T, 4>(tile, centre, v + c * stride, k, z + c);
      tile.ahead = {};
    }
  }
  if constexpr (kColumns > 2) {
    for (; c + 2 <= k; c += 2) {
      project_columns<T, 2>(tile, centre, v + c * stride, k, z + c);
      tile.ahead = {};
    }
  }
  if (c < k) project_columns<T, 1>(tile, centre, v + c * stride, k, z + c);
}

/// One vector of a few rows, centred, and its square.
template <class T, int kRows>
[[gnu::always_inline]] inline void square_vector(const T* const* row, const T* centre,
                                                 std::int64_t j, int left, std::int64_t ahead,
                                                 Wide<T>* acc) {
  using W = Wide<T>;
  const W about = W::load(centre + j);
  W x[kRows];
  TAMIS_UNROLL
  for (int r = 0; r < kRows; ++r) {
    fetch(row[r] + j, ahead);
    x[r] = W::sub(left == 0 ? W::load(row[r] + j) : W::load_first(row[r] + j, left), about);
    acc[r] = W::fma(x[r], x[r], acc[r]);
  }
}

template <class T, int kRows>
[[gnu::always_inline]] inline void square_rows(const T* const* rows, const T* centre,
                                               std::int64_t d, const detail::Ahead& ahead,
                                               typename Register<T>::Folded* folded) {
  using W = Wide<T>;
  constexpr std::int64_t width = detail::kWide<T>;
  W acc[kRows];
  const T* row[kRows];
  TAMIS_UNROLL
  for (int r = 0; r < kRows; ++r) {
    acc[r] = W::zero();
    row[r] = rows[r];
  }
  std::int64_t j = 0;
  for (; j + 2 * width <= d; j += 2 * width) {
    square_vector<T, kRows>(row, centre, j, 0, ahead.even, acc);
    square_vector<T, kRows>(row, centre, j + width, 0, ahead.odd, acc);
  }
  if (j + width <= d) {
    square_vector<T, kRows>(row, centre, j, 0, ahead.even, acc);
    j += width;
  }
  if (j < d) {
    square_vector<T, kRows>(row, centre, j, static_cast<int>(d - j), ahead.odd, acc);
  }
  TAMIS_UNROLL
  for (int r = 0; r < kRows; ++r) folded[r] = W::fold(acc[r]);
}

template <class T, int kRows>
void distance_tile(const RowTile<T>& tile, int t, const T* centre, T* out) {
  typename Register<T>::Folded folded[kRows];
  square_rows<T, kRows>(tile.rows + t, centre, tile.d, tile.ahead, folded);
  sums<T, kRows>(folded, out + t);
}

template <class T>
void distances2_all(const RowTile<T>& tile, const T* centre, T* out) {
  int t = 0;
  for (; t + 4 <= tile.count; t += 4) distance_tile<T, 4>(tile, t, centre, out);
  for (; t < tile.count; ++t) distance_tile<T, 1>(tile, t, centre, out);
}

/// kColumns columns of Y, kVectors wide vectors of each, in registers for all rows of the tile.
template <class T, int kColumns, int kVectors, bool kPartial>
void accumulate_tile(const RowTile<T>& tile, const T* centre, const T* a, int k, T* y,
                     std::int64_t j) {
  using W = Wide<T>;
  constexpr std::int64_t width = detail::kWide<T>;
  const std::int64_t stride = padded<T>(tile.d);
  const bool odd = j / width % 2 != 0;
  const std::int64_t ahead[2] = {odd ? tile.ahead.odd : tile.ahead.even,
                                 odd ? tile.ahead.even : tile.ahead.odd};
  W acc[kVectors * kColumns];
  W about[kVectors];
  TAMIS_UNROLL
  for (int u = 0; u < kVectors; ++u) {
    about[u] = W::load(centre + j + u * width);
    TAMIS_UNROLL
    for (int c = 0; c < kColumns; ++c) {
      acc[u * kColumns + c] = W::load(y + c * stride + j + u * width);
    }
  }
  for (int t = 0; t < tile.count; ++t) {
    W factor[kColumns];
    TAMIS_UNROLL
    for (int c = 0; c < kColumns; ++c) factor[c] = W::set(a[t * k + c]);
    const T* row = tile.rows[t] + j;
    TAMIS_UNROLL
    for (int u = 0; u < kVectors; ++u) {
      const T* from = row + u * width;
      fetch(from, ahead[u % 2]);
      const W x = W::sub(
          kPartial ? W::load_first(from, static_cast<int>(tile.d - j)) : W::load(from), about[u]);
      TAMIS_UNROLL
      for (int c = 0; c < kColumns; ++c) {
        acc[u * kColumns + c] = W::fma(factor[c], x, acc[u * kColumns + c]);
      }
    }
  }
  TAMIS_UNROLL
  for (int u = 0; u < kVectors; ++u) {
    TAMIS_UNROLL
    for (int c = 0; c < kColumns; ++c) {
      W::store(y + c * stride + j + u * width, acc[u * kColumns + c]);
    }
  }
}

template <class T, int kColumns>
void accumulate_columns(const RowTile<T>& tile, const T* centre, const T* a, int k, T* y) {
  constexpr std::int64_t width = detail::kWide<T>;
  constexpr int kVectors = Tiling::sums / kColumns < 4 ? Tiling::sums / kColumns : 4;
  std::int64_t j = 0;
  for (; j + kVectors * width <= tile.d; j += kVectors * width) {
    accumulate_tile<T, kColumns, kVectors, false>(tile, centre, a, k, y, j);
  }
  if constexpr (kVectors > 2) {
    for (; j + 2 * width <= tile.d; j += 2 * width) {
      accumulate_tile<T, kColumns, 2, false>(tile, centre, a, k, y, j);
    }
  }
  for (; j + width <= tile.d; j += width) {
    accumulate_tile<T, kColumns, 1, false>(tile, centre, a, k, y, j);
  }
  if (j < tile.d) accumulate_tile<T, kColumns, 1, true>(tile, centre, a, k, y, j);
}

template <class T>
void accumulate_all(RowTile<T> tile, const T* centre, const T* a, int k, T* y) {
  constexpr int kColumns = Tiling::columns;
  const std::int64_t stride = padded<T>(tile.d);
  int c = 0;
  for (; c + kColumns <= k; c += kColumns) {
    accumulate_columns<T, kColumns>(tile, centre, a + c, k, y + c * stride);
    tile.ahead = {};
  }
  if constexpr (kColumns > 4) {
    for (; c + 4 <= k; c += 4) {
      accumulate_columns<T, 4>(tile, centre, a + c, k, y + c * stride);
      tile.ahead = {};
    }
  }
  if constexpr (kColumns > 3) {
    if (c + 3 == k) return accumulate_columns<T, 3>(tile, centre, a + c, k, y + c * stride);
  }
  for (; c + 2 <= k; c += 2) {
    accumulate_columns<T, 2>(tile, centre, a + c, k, y + c * stride);
    tile.ahead = {};
  }
  if (c < k) accumulate_columns<T, 1>(tile, centre, a + c, k, y + c * stride);
}

}  // namespace

#define TAMIS_DEFINE(T)                                                               \
  void project(const RowTile<T>& tile, const T* centre, const T* v, int k, T* z) {    \
    project_from(0, tile, centre, v, k, z);                                           \
  }                                                                                   \
  void distances2(const RowTile<T>& tile, const T* centre, T* out) {                  \
    distances2_all(tile, centre, out);                                                \
  }                                                                                   \
  void accumulate(const RowTile<T>& tile, const T* centre, const T* a, int k, T* y) { \
    accumulate_all(tile, centre, a, k, y);                                            \
  }                                                                                   \
  void move_sums(T* y, std::int64_t count, double* total) {                           \
    for (std::int64_t j = 0; j < count; ++j) {                                        \
      total[j] += static_cast<double>(y[j]);                                          \
      y[j] = T(0);                                                                    \
    }                                                                                 \
  }
TAMIS_DEFINE(float)
TAMIS_DEFINE(double)
#undef TAMIS_DEFINE

}  // namespace tamis::cpu::TAMIS_ISA
#undef TAMIS_ROLLED  // TAMIS_UNROLL goes on to sweep_rows_impl.hpp
