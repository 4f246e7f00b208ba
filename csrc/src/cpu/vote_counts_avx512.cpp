#include "src/cpu/simd_avx512.hpp"
//
#include "src/cpu/vote_counts_impl.hpp"
