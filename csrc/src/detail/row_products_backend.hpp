// The two products that every spectral operation is made of, on a few rows at a time:
// projections of the rows, Z = (X - c) V, and weighted sums of the rows, Y += (X - c)^T W.
//
// Sums have one fixed shape for every instruction set (see cpu/row_products_impl.hpp), so results
// agree bit for bit, however rows and columns are grouped into calls.
#pragma once

#include <cstdint>

#include "src/detail/isa.hpp"

namespace tamis::detail {

// `static`, so that files compiled for different instruction sets share no copy.

/// Numbers in one wide vector: 64 bytes on every machine.
template <class T>
static constexpr std::int64_t kWide = 64 / static_cast<std::int64_t>(sizeof(T));

/// Stride of packed columns of d numbers: whole wide vectors, and an odd number of them, so that
/// columns do not fall on the same cache sets.
template <class T>
static constexpr std::int64_t padded(std::int64_t d) {
  return ((d + kWide<T> - 1) / kWide<T> | 1) * kWide<T>;
}

/// How far ahead of a row its kernel asks for memory, for every other vector each; 0: not at all.
struct Ahead {
  std::int64_t even = 0;
  std::int64_t odd = 0;
};

/// A few rows of X, wherever they lie.
template <class T>
struct RowTile {
  const T* const* rows;
  int count;
  std::int64_t d;
  Ahead ahead{};
  bool one_by_one = false;  ///< projected row after row, as memory lies, and not side by side
};

}  // namespace tamis::detail

#define TAMIS_DECLARE_FOR(T)                                                                     \
  /** z[t * k + c] = (rows[t] - centre) . v_c. centre: padded(d) numbers, zero beyond d; v: k    \
      columns of padded(d) numbers, one after the other, zero beyond d. */                       \
  void project(const detail::RowTile<T>& tile, const T* centre, const T* v, int k, T* z);        \
  /** out[t] = |rows[t] - centre|^2. */                                                          \
  void distances2(const detail::RowTile<T>& tile, const T* centre, T* out);                      \
  /** y_c += sum_t a[t * k + c] (rows[t] - centre), t ascending, one fma a term. y: k columns of \
      padded(d) numbers. */                                                                      \
  void accumulate(const detail::RowTile<T>& tile, const T* centre, const T* a, int k, T* y);     \
  /** total += y; y = 0. */                                                                      \
  void move_sums(T* y, std::int64_t count, double* total);

#define TAMIS_DECLARE(isa)    \
  namespace tamis::cpu::isa { \
  TAMIS_DECLARE_FOR(float)    \
  TAMIS_DECLARE_FOR(double)   \
  }
TAMIS_FOR_EACH_ISA(TAMIS_DECLARE)
#undef TAMIS_DECLARE
#undef TAMIS_DECLARE_FOR
