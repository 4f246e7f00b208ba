#include "src/cpu/simd_baseline.hpp"
//
#include "src/cpu/vote_counts_impl.hpp"
