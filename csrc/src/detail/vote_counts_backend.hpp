// What every backend of vote_counts defines.
#pragma once

#include <cstdint>

#include "src/detail/isa.hpp"
#include "tamis/vote_counts.hpp"

namespace tamis {

#define TAMIS_DECLARE(isa)                                                              \
  namespace cpu::isa {                                                                  \
  /** Adds the votes of all rows to counts; returns the first row with a NaN, or -1. */ \
  std::int64_t vote_counts(const ConstMatrixView& logits, std::int64_t* counts);        \
  }
TAMIS_FOR_EACH_ISA(TAMIS_DECLARE)
#undef TAMIS_DECLARE

namespace cuda {
/** As on the CPU, but overwrites counts; waits for the stream. */
std::int64_t vote_counts(const ConstMatrixView& logits, std::int64_t* counts, const Exec& exec);
void vote_counts_deferred(const ConstMatrixView& logits, std::int64_t* result, const Exec& exec);
}  // namespace cuda
}  // namespace tamis
