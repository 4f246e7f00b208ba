// gaussian_noise: noisy copies of one vector, written in one pass.
#pragma once

#include <cstdint>

#include "tamis/exec.hpp"
#include "tamis/views.hpp"

namespace tamis {

/// Identifies a noise sequence. z is a pure function of (seed, image, stream, sample, element).
struct NoiseKey {
  std::uint64_t seed = 0;
  std::uint32_t image = 0;
  std::uint32_t stream = 0;
};

/// out[s, e] = x[e] + sigma * z(key, start + s, e)  for s = 0 .. out.rows - 1.
///
/// Source: the Monte Carlo sampling step of Cohen, Rosenfeld and Kolter, "Certified adversarial
/// robustness via randomized smoothing", ICML 2019, Algorithm 1 (SampleUnderNoise); z from
/// philox.hpp and normal.hpp with counter = (element / 4, sample, image, stream), key = seed.
///
/// - Shapes: x has d elements; out is (n, d) with any row stride >= d. n = 0 and d = 0 are no-ops.
/// - Types: x and out are each float32, float16 or bfloat16. The sum is one float32 fma; a 16-bit
///   result is that float32 rounded to nearest even.
/// - Limits: start + n <= 2^32 (a sample number is a 32-bit counter word), d <= 2^34.
/// - Aliasing: out must not overlap x. x is never modified. Padding between rows is never written.
/// - sigma is finite and >= 0. NaN or Inf in x propagates to its column, as in plain arithmetic.
/// - Determinism: the same bits for any split of rows over calls, any number of threads, any
///   instruction set, and on CUDA (for NaN results, only that they are NaN).
/// - Workspace: none. CUDA: one launch on exec.stream, no synchronisation.
/// @throws std::invalid_argument when a promise above is broken; std::runtime_error on a CUDA
/// failure or where the CUDA backend is absent.
void gaussian_noise(ConstVectorView x, MatrixView out, float sigma, NoiseKey key,
                    std::uint64_t start = 0, const Exec& exec = {});

}  // namespace tamis
