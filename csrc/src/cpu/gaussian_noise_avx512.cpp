#include "src/cpu/simd_avx512.hpp"
//
#include "src/cpu/gaussian_noise_impl.hpp"
