// row_products for one instruction set: included after a simd_*.hpp and a wide_*.hpp.
//
// The shape of every sum is part of the contract. A dot product runs over 64-byte vectors: lane l
// of an accumulator takes elements l, l + L, l + 2L, ... by fma (L = 16 floats or 8 doubles), then
// the accumulator is folded in halves: L/2 + L/2, and so on down to one. A weighted sum takes its
// rows in order, one fma each. Which rows and columns share a pass through the registers changes
// nothing, so each machine groups them as its registers allow (Tiling).
#include <cstdint>

#include "src/detail/row_products_backend.hpp"

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

/// One row times kColumns columns of V, all sums in registers. Rows are read one after the other:
/// hardware prefetchers keep up with one stream, and lose track of several (four rows at once ran
/// at half the bandwidth, Zen 5, 100k x 512).
template <class T, int kColumns>
[[gnu::always_inline]] inline void project_row(const T* row, const T* centre, const T* v,
                                               std::int64_t d,
                                               typename Register<T>::Folded* folded) {
  using W = Wide<T>;
  constexpr std::int64_t width = detail::kWide<T>;
  const std::int64_t stride = padded<T>(d);
  W acc[kColumns];
  for (int c = 0; c < kColumns; ++c) acc[c] = W::zero();
  const std::int64_t whole = d / width * width;
  for (std::int64_t j = 0; j < whole; j += width) {
    const W x = W::sub(W::load(row + j), W::load(centre + j));
    for (int c = 0; c < kColumns; ++c) acc[c] = W::fma(x, W::load(v + c * stride + j), acc[c]);
  }
  if (whole < d) {
    const W x =
        W::sub(W::load_first(row + whole, static_cast<int>(d - whole)), W::load(centre + whole));
    for (int c = 0; c < kColumns; ++c) acc[c] = W::fma(x, W::load(v + c * stride + whole), acc[c]);
  }
  for (int c = 0; c < kColumns; ++c) folded[c] = W::fold(acc[c]);
}

template <class T, int kRows, int kColumns>
void project_tile(const T* const* rows, const T* centre, const T* v, std::int64_t d, int k, T* z) {
  typename Register<T>::Folded folded[kRows * kColumns];
  for (int r = 0; r < kRows; ++r) {
    project_row<T, kColumns>(rows[r], centre, v, d, folded + r * kColumns);
  }
  T out[kRows * kColumns];
  sums<T, kRows * kColumns>(folded, out);
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kColumns; ++c) z[r * k + c] = out[r * kColumns + c];
  }
}

/// kColumns columns for all rows of the tile; rows in groups where few columns leave sums over.
template <class T, int kColumns>
void project_columns(const RowTile<T>& tile, const T* centre, const T* v, int k, T* z) {
  constexpr int kRows = kColumns >= 4 ? 1 : 4 / kColumns;
  int t = 0;
  for (; t + kRows <= tile.count; t += kRows) {
    project_tile<T, kRows, kColumns>(tile.rows + t, centre, v, tile.d, k, z + t * k);
  }
  for (; t < tile.count; ++t) {
    project_tile<T, 1, kColumns>(tile.rows + t, centre, v, tile.d, k, z + t * k);
  }
}

template <class T>
void project_all(const RowTile<T>& tile, const T* centre, const T* v, int k, T* z) {
  constexpr int kColumns = Tiling::columns;
  const std::int64_t stride = padded<T>(tile.d);
  int c = 0;
  for (; c + kColumns <= k; c += kColumns) {
    project_columns<T, kColumns>(tile, centre, v + c * stride, k, z + c);
  }
  if constexpr (kColumns > 4) {
    for (; c + 4 <= k; c += 4) project_columns<T, 4>(tile, centre, v + c * stride, k, z + c);
  }
  if constexpr (kColumns > 2) {
    for (; c + 2 <= k; c += 2) project_columns<T, 2>(tile, centre, v + c * stride, k, z + c);
  }
  if (c < k) project_columns<T, 1>(tile, centre, v + c * stride, k, z + c);
}

template <class T, int kRows>
void distance_tile(const T* const* rows, const T* centre, std::int64_t d, T* out) {
  using W = Wide<T>;
  constexpr std::int64_t width = detail::kWide<T>;
  const std::int64_t whole = d / width * width;
  typename Register<T>::Folded folded[kRows];
  for (int r = 0; r < kRows; ++r) {
    W acc = W::zero();
    for (std::int64_t j = 0; j < whole; j += width) {
      const W x = W::sub(W::load(rows[r] + j), W::load(centre + j));
      acc = W::fma(x, x, acc);
    }
    if (whole < d) {
      const W x = W::sub(W::load_first(rows[r] + whole, static_cast<int>(d - whole)),
                         W::load(centre + whole));
      acc = W::fma(x, x, acc);
    }
    folded[r] = W::fold(acc);
  }
  sums<T, kRows>(folded, out);
}

template <class T>
void distances2_all(const RowTile<T>& tile, const T* centre, T* out) {
  int t = 0;
  for (; t + 4 <= tile.count; t += 4) distance_tile<T, 4>(tile.rows + t, centre, tile.d, out + t);
  for (; t < tile.count; ++t) distance_tile<T, 1>(tile.rows + t, centre, tile.d, out + t);
}

/// kColumns columns of Y, kVectors wide vectors of each, in registers for all rows of the tile.
template <class T, int kColumns, int kVectors, bool kPartial>
void accumulate_tile(const RowTile<T>& tile, const T* centre, const T* a, int k, T* y,
                     std::int64_t j) {
  using W = Wide<T>;
  constexpr std::int64_t width = detail::kWide<T>;
  const std::int64_t stride = padded<T>(tile.d);
  W acc[kColumns][kVectors];
  W c0[kVectors];
  for (int u = 0; u < kVectors; ++u) {
    c0[u] = W::load(centre + j + u * width);
    for (int c = 0; c < kColumns; ++c) acc[c][u] = W::load(y + c * stride + j + u * width);
  }
  for (int t = 0; t < tile.count; ++t) {
    W x[kVectors];
    for (int u = 0; u < kVectors; ++u) {
      const T* from = tile.rows[t] + j + u * width;
      x[u] = W::sub(kPartial ? W::load_first(from, static_cast<int>(tile.d - j)) : W::load(from),
                    c0[u]);
    }
    for (int c = 0; c < kColumns; ++c) {
      const W factor = W::set(a[t * k + c]);
      for (int u = 0; u < kVectors; ++u) acc[c][u] = W::fma(factor, x[u], acc[c][u]);
    }
  }
  for (int u = 0; u < kVectors; ++u) {
    for (int c = 0; c < kColumns; ++c) W::store(y + c * stride + j + u * width, acc[c][u]);
  }
}

template <class T, int kColumns>
void accumulate_columns(const RowTile<T>& tile, const T* centre, const T* a, int k, T* y) {
  constexpr std::int64_t width = detail::kWide<T>;
  constexpr int kVectors = Tiling::sums / kColumns;
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
void accumulate_all(const RowTile<T>& tile, const T* centre, const T* a, int k, T* y) {
  constexpr int kColumns = Tiling::columns;
  const std::int64_t stride = padded<T>(tile.d);
  int c = 0;
  for (; c + kColumns <= k; c += kColumns) {
    accumulate_columns<T, kColumns>(tile, centre, a + c, k, y + c * stride);
  }
  if constexpr (kColumns > 4) {
    for (; c + 4 <= k; c += 4) accumulate_columns<T, 4>(tile, centre, a + c, k, y + c * stride);
  }
  for (; c + 2 <= k; c += 2) accumulate_columns<T, 2>(tile, centre, a + c, k, y + c * stride);
  if (c < k) accumulate_columns<T, 1>(tile, centre, a + c, k, y + c * stride);
}

}  // namespace

#define TAMIS_DEFINE(T)                                                               \
  void project(const RowTile<T>& tile, const T* centre, const T* v, int k, T* z) {    \
    project_all(tile, centre, v, k, z);                                               \
  }                                                                                   \
  void distances2(const RowTile<T>& tile, const T* centre, T* out) {                  \
    distances2_all(tile, centre, out);                                                \
  }                                                                                   \
  void accumulate(const RowTile<T>& tile, const T* centre, const T* a, int k, T* y) { \
    accumulate_all(tile, centre, a, k, y);                                            \
  }
TAMIS_DEFINE(float)
TAMIS_DEFINE(double)
#undef TAMIS_DEFINE

}  // namespace tamis::cpu::TAMIS_ISA
