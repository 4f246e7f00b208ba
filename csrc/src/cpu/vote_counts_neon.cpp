#include "src/cpu/simd_neon.hpp"
//
#include "src/cpu/vote_counts_impl.hpp"
