#include "src/cpu/simd_baseline.hpp"
//
#include "src/cpu/gaussian_noise_impl.hpp"
