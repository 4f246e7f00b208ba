// sweep_rows for one instruction set: included after row_products_impl.hpp, whose sums these are,
// bit for bit. Only which of them share a walk over the rows differs.
#include "src/detail/sweep_rows_backend.hpp"

namespace tamis::cpu::TAMIS_ISA {
namespace {

/// Whether eight columns of two rows, and what comes with them, fit the registers.
inline constexpr bool kWalkOnce = Tiling::sum8;

/// project_vector() and square_vector() of the same numbers, loaded once.
template <class T, int kRows, int kColumns>
[[gnu::always_inline]] inline void measure_vector(const T* const* row, const T* origin,
                                                  const T* centre, const T* v, std::int64_t stride,
                                                  std::int64_t j, int left, std::int64_t ahead,
                                                  Wide<T>* acc, Wide<T>* square) {
  using W = Wide<T>;
  const W about = W::load(origin + j);
  const W middle = W::load(centre + j);
  W x[kRows];
  TAMIS_UNROLL
  for (int r = 0; r < kRows; ++r) {
    fetch(row[r] + j, ahead);
    const W raw = left == 0 ? W::load(row[r] + j) : W::load_first(row[r] + j, left);
    const W from = W::sub(raw, middle);
    square[r] = W::fma(from, from, square[r]);
    x[r] = W::sub(raw, about);
  }
  multiply_vector<T, kRows, kColumns>(x, v, stride, j, acc);
}

/// kRows rows from row t on: eight columns and the distances.
template <class T, int kRows>
void measure_tile(const RowTile<T>& tile, int t, const T* origin, const T* v, int k, T* z,
                  const T* centre, T* out) {
  using W = Wide<T>;
  constexpr int kColumns = 8;
  constexpr std::int64_t width = detail::kWide<T>;
  const std::int64_t stride = padded<T>(tile.d);
  const std::int64_t d = tile.d;
  const T* row[kRows];
  W acc[kRows * kColumns];
  W square[kRows];
  TAMIS_UNROLL
  for (int i = 0; i < kRows * kColumns; ++i) acc[i] = W::zero();
  TAMIS_UNROLL
  for (int r = 0; r < kRows; ++r) {
    row[r] = tile.rows[t + r];
    square[r] = W::zero();
  }
  std::int64_t j = 0;
  for (; j + 2 * width <= d; j += 2 * width) {
    measure_vector<T, kRows, kColumns>(row, origin, centre, v, stride, j, 0, tile.ahead.even, acc,
                                       square);
    measure_vector<T, kRows, kColumns>(row, origin, centre, v, stride, j + width, 0, tile.ahead.odd,
                                       acc, square);
  }
  if (j + width <= d) {
    measure_vector<T, kRows, kColumns>(row, origin, centre, v, stride, j, 0, tile.ahead.even, acc,
                                       square);
    j += width;
  }
  if (j < d) {
    measure_vector<T, kRows, kColumns>(row, origin, centre, v, stride, j, static_cast<int>(d - j),
                                       tile.ahead.odd, acc, square);
  }
  typename Register<T>::R lanes[kRows * kColumns];
  typename Register<T>::Folded folded[kRows];
  TAMIS_UNROLL
  for (int i = 0; i < kRows * kColumns; ++i) lanes[i] = acc[i].part[0];
  TAMIS_UNROLL
  for (int r = 0; r < kRows; ++r) folded[r] = W::fold(square[r]);
  TAMIS_UNROLL
  for (int r = 0; r < kRows; ++r) Register<T>::sum8(lanes + r * kColumns, z + (t + r) * k);
  sums<T, kRows>(folded, out + t);
}

template <class T>
void measure_all(RowTile<T> tile, const T* origin, const T* v, int k, T* z, const T* centre,
                 T* square) {
  int c = 0;
  if constexpr (kWalkOnce) {
    if (k >= 8) {
      int t = 0;
      for (; t + 2 <= tile.count; t += 2) {
        measure_tile<T, 2>(tile, t, origin, v, k, z, centre, square);
      }
      if (t < tile.count) measure_tile<T, 1>(tile, t, origin, v, k, z, centre, square);
      tile.ahead = {};
      c = 8;
    }
  }
  if (c == 0) {
    RowTile<T> first = tile;
    first.ahead.odd = tile.ahead.even = 0;
    distances2_all(first, centre, square);
  }
  project_from(c, tile, origin, v, k, z);
}

template <class T>
[[gnu::always_inline]] inline void add_to(Wide<T>& sum, const Wide<T>& x) {
  for (int p = 0; p < Wide<T>::parts; ++p) {
    sum.part[p] = Register<T>::add(sum.part[p], x.part[p]);
  }
}

/// kVectors wide vectors of kColumns columns, and of the sum of the rows.
template <class T, int kColumns, int kVectors, bool kPartial>
void add_tile(const RowTile<T>& tile, const T* centre, const T* a, int k, T* y, T* total,
              std::int64_t j) {
  using W = Wide<T>;
  constexpr std::int64_t width = detail::kWide<T>;
  constexpr int kAtLeastOne = kColumns > 0 ? kColumns : 1;
  const std::int64_t stride = padded<T>(tile.d);
  W acc[kVectors * kAtLeastOne];
  W sum[kVectors];
  W about[kVectors];
  TAMIS_UNROLL
  for (int u = 0; u < kVectors; ++u) {
    about[u] = W::load(centre + j + u * width);
    sum[u] = W::load(total + j + u * width);
    TAMIS_UNROLL
    for (int c = 0; c < kColumns; ++c) {
      acc[u * kColumns + c] = W::load(y + c * stride + j + u * width);
    }
  }
  for (int t = 0; t < tile.count; ++t) {
    const T* row = tile.rows[t] + j;
    W x[kVectors];
    TAMIS_UNROLL
    for (int u = 0; u < kVectors; ++u) {
      const T* from = row + u * width;
      x[u] = W::sub(kPartial ? W::load_first(from, static_cast<int>(tile.d - j)) : W::load(from),
                    about[u]);
      add_to(sum[u], x[u]);
    }
    TAMIS_UNROLL
    for (int c = 0; c < kColumns; ++c) {
      const W factor = W::set(a[t * k + c]);
      TAMIS_UNROLL
      for (int u = 0; u < kVectors; ++u) {
        acc[u * kColumns + c] = W::fma(factor, x[u], acc[u * kColumns + c]);
      }
    }
  }
  TAMIS_UNROLL
  for (int u = 0; u < kVectors; ++u) {
    W::store(total + j + u * width, sum[u]);
    TAMIS_UNROLL
    for (int c = 0; c < kColumns; ++c) {
      W::store(y + c * stride + j + u * width, acc[u * kColumns + c]);
    }
  }
}

template <class T, int kColumns>
void add_columns(const RowTile<T>& tile, const T* centre, const T* a, int k, T* y, T* total) {
  constexpr std::int64_t width = detail::kWide<T>;
  constexpr int kVectors = 2;
  std::int64_t j = 0;
  for (; j + kVectors * width <= tile.d; j += kVectors * width) {
    add_tile<T, kColumns, kVectors, false>(tile, centre, a, k, y, total, j);
  }
  for (; j + width <= tile.d; j += width) {
    add_tile<T, kColumns, 1, false>(tile, centre, a, k, y, total, j);
  }
  if (j < tile.d) add_tile<T, kColumns, 1, true>(tile, centre, a, k, y, total, j);
}

template <class T>
void accumulate_and_add_all(const RowTile<T>& tile, const T* centre, const T* a, int k, T* y) {
  constexpr int kColumns = Tiling::columns;
  const std::int64_t stride = padded<T>(tile.d);
  T* total = y + k * stride;
  if (kWalkOnce && k == kColumns) {
    return add_columns<T, kColumns>(tile, centre, a, k, y, total);
  }
  add_columns<T, 0>(tile, centre, a, k, y, total);
  accumulate_all(tile, centre, a, k, y);
}

// ---- judging: as many cuts at once as a register holds numbers ---------------------------------

constexpr int kBatch = Register<double>::width;
static_assert(detail::kLanes % kBatch == 0);
using Batch [[gnu::vector_size(8 * kBatch)]] = double;
using BatchMask [[gnu::vector_size(8 * kBatch)]] = std::int64_t;
using BatchBins [[gnu::vector_size(4 * kBatch)]] = std::int32_t;
using BatchFloats [[gnu::vector_size(4 * kBatch)]] = float;

template <class V>
[[gnu::always_inline]] inline V take(const void* from) {
  V out;
  __builtin_memcpy(&out, from, sizeof out);
  return out;
}
[[gnu::always_inline]] inline Batch widen(const double* from) { return take<Batch>(from); }
[[gnu::always_inline]] inline Batch widen(const float* from) {
  return __builtin_convertvector(take<BatchFloats>(from), Batch);
}

/// Grid::bin(): the same comparisons and the same division.
[[gnu::always_inline]] inline void bins_of(const Batch& z, const double* origin,
                                           const double* width, std::int32_t* out) {
  constexpr double kHalf = detail::kHalfBins;
  Batch position = (z - take<Batch>(origin)) / take<Batch>(width);
  const Batch below = Batch{} - (kHalf + 1.0);
  position = position >= below ? position : below;  // a NaN as well
  const Batch above = Batch{} + kHalf;
  position = position < above ? position : above;
  const Batch whole = __builtin_convertvector(__builtin_convertvector(position, BatchBins), Batch);
  const Batch lower = position < whole ? Batch{} + 1.0 : Batch{};
  const BatchBins bin = __builtin_convertvector(whole - lower + (kHalf + 1.0), BatchBins);
  __builtin_memcpy(out, &bin, sizeof bin);
}

template <class V>
[[gnu::always_inline]] inline double largest_of(const V& x) {
  if constexpr (sizeof(V) == 64) {
    const V a = __builtin_shufflevector(x, x, 4, 5, 6, 7, 0, 1, 2, 3);
    const V four = x > a ? x : a;
    const V b = __builtin_shufflevector(four, four, 2, 3, 0, 1, 6, 7, 4, 5);
    const V two = four > b ? four : b;
    return two[0] > two[1] ? two[0] : two[1];
  } else {
    double most = x[0];
    for (int i = 1; i < kBatch; ++i) most = x[i] > most ? x[i] : most;
    return most;
  }
}

/// One bit for each lane whose mask is not set.
[[gnu::always_inline]] inline unsigned lanes_without(const BatchMask& mask) {
#if defined(__AVX512DQ__)
  return ~_mm512_movepi64_mask(reinterpret_cast<__m512i>(mask)) & 0xffu;
#elif defined(__AVX2__)
  return static_cast<unsigned>(~_mm256_movemask_pd(reinterpret_cast<__m256d>(mask))) & 0xfu;
#else
  unsigned bits = 0;
  for (int i = 0; i < kBatch; ++i) bits |= static_cast<unsigned>(~mask[i] & 1) << i;
  return bits;
#endif
}

template <class T>
void judge_all(const T* z, int stride, int rows, const detail::CutLanes* groups, int m,
               std::int32_t* bins, detail::Verdict* verdicts) {
  const int slots = (m + detail::kLanes - 1) / detail::kLanes * detail::kLanes;
  for (int r = 0; r < rows; ++r, z += stride, bins += slots) {
    Batch worst{};
    std::int32_t excluding = m;
    std::uint64_t close = 0;
    for (int j = 0; j < m; j += kBatch) {
      const detail::CutLanes& cuts = groups[j / detail::kLanes];
      const int i = j % detail::kLanes;
      const Batch x = take<BatchMask>(cuts.used + i) ? widen(z + j) : Batch{};
      bins_of(x, cuts.origin + i, cuts.width + i, bins + j);
      const BatchMask kept = (x >= take<Batch>(cuts.lo + i)) & (x < take<Batch>(cuts.hi + i));
      const unsigned lost = lanes_without(kept);
      const BatchMask near_lo =
          (x >= take<Batch>(cuts.lo_from + i)) & (x <= take<Batch>(cuts.lo_to + i));
      const BatchMask near_hi =
          (x >= take<Batch>(cuts.hi_from + i)) & (x <= take<Batch>(cuts.hi_to + i));
      const std::uint64_t near = lanes_without(~(near_lo | near_hi));
      if (j < 64) close |= near << j;
      if (lost != 0 && excluding == m) excluding = j + __builtin_ctz(lost);
      const Batch t = (x - take<Batch>(cuts.centre + i)) * take<Batch>(cuts.inverse + i);
      Batch score = t * t;
      score = score == score ? score : Batch{} + __builtin_inf();
      worst = score > worst ? score : worst;
    }
    verdicts[r] = {largest_of(worst), close, excluding};
  }
}

}  // namespace

#define TAMIS_DEFINE(T)                                                                           \
  void measure(const RowTile<T>& tile, const T* origin, const T* v, int k, T* z, const T* centre, \
               T* square) {                                                                       \
    measure_all(tile, origin, v, k, z, centre, square);                                           \
  }                                                                                               \
  void accumulate_and_add(const RowTile<T>& tile, const T* centre, const T* a, int k, T* y) {     \
    accumulate_and_add_all(tile, centre, a, k, y);                                                \
  }                                                                                               \
  void judge(const T* z, int stride, int rows, const detail::CutLanes* groups, int m,             \
             std::int32_t* bins, detail::Verdict* verdicts) {                                     \
    judge_all(z, stride, rows, groups, m, bins, verdicts);                                        \
  }
TAMIS_DEFINE(float)
TAMIS_DEFINE(double)
#undef TAMIS_DEFINE

}  // namespace tamis::cpu::TAMIS_ISA
#undef TAMIS_UNROLL
