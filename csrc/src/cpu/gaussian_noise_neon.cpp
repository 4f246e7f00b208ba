#include "src/cpu/simd_neon.hpp"
//
#include "src/cpu/gaussian_noise_impl.hpp"
