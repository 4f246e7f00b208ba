// What a sweep of iterative_filter does to a few rows at a time: project and measure them in one
// walk, judge them by their projections, add them up. The sums are those of row_products bit for
// bit; here fewer walks over a row make them.
#pragma once

#include <cstdint>

#include "src/detail/row_products_backend.hpp"

namespace tamis::detail {

static constexpr int kLanes = 8;        ///< cuts judged side by side
static constexpr int kHalfBins = 1024;  ///< of a grid, on either side of its origin

/// Up to eight cuts, side by side. An unused lane keeps every row and scores it 0.
struct alignas(64) CutLanes {
  std::int64_t used[kLanes];  ///< all bits set, or none
  double lo[kLanes], hi[kLanes];
  double lo_from[kLanes], lo_to[kLanes];   ///< what is close to lo
  double hi_from[kLanes], hi_to[kLanes];   ///< and to hi
  double origin[kLanes], width[kLanes];    ///< of the grid
  double centre[kLanes], inverse[kLanes];  ///< of the score: ((z - centre) inverse)^2
};

/// What the cuts say of a row.
struct Verdict {
  double worst;            ///< the largest score; infinity where a projection is NaN
  std::uint64_t close;     ///< a bit for each of the first 64 cuts: it is close to a bound of it
  std::int32_t excluding;  ///< the first cut that excludes it; their number where none does
};

}  // namespace tamis::detail

#define TAMIS_DECLARE_FOR(T)                                                                      \
  /** project() about `origin` and distances2() about `centre`, in one walk where the registers   \
      allow. */                                                                                   \
  void measure(const detail::RowTile<T>& tile, const T* origin, const T* v, int k, T* z,          \
               const T* centre, T* square);                                                       \
  /** accumulate() for k columns; in column k of y, the sum of the rows themselves. */            \
  void accumulate_and_add(const detail::RowTile<T>& tile, const T* centre, const T* a, int k,     \
                          T* y);                                                                  \
  /** For each of `rows` rows the bins of its first m projections, kLanes a group, and the        \
     verdict. z: `stride` a row, of which kLanes are read from the start of each group. groups: m \
     cuts. */                                                                                     \
  void judge(const T* z, int stride, int rows, const detail::CutLanes* groups, int m,             \
             std::int32_t* bins, detail::Verdict* verdicts);

#define TAMIS_DECLARE(isa)    \
  namespace tamis::cpu::isa { \
  TAMIS_DECLARE_FOR(float)    \
  TAMIS_DECLARE_FOR(double)   \
  }
TAMIS_FOR_EACH_ISA(TAMIS_DECLARE)
#undef TAMIS_DECLARE
#undef TAMIS_DECLARE_FOR
