#include "src/cpu/simd_avx2.hpp"
//
#include "src/cpu/gaussian_noise_impl.hpp"
