#include "src/cpu/simd_avx2.hpp"
//
#include "src/cpu/vote_counts_impl.hpp"
