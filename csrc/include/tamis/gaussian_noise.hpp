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
  /// Where not null, the image is the low half of the number there, which lies where x does: on a
  /// device it may be one that the host does not know.
  const std::int64_t* image_at = nullptr;
};

/// One multiplication and one addition a channel, applied to the noisy values: normalisation, where
/// scale = 1 / std and offset = -mean / std. Both pointers null: none. Element e of d belongs to
/// channel e / (d / channels), as in images of shape (channels, height, width).
struct ChannelAffine {
  const float* scale = nullptr;   ///< `channels` numbers, where x lies (CPU or CUDA)
  const float* offset = nullptr;  ///< the same
  std::int64_t channels = 1;
};

/// out[s, e] = x[e] + sigma * z(key, start + s, e)  for s = 0 .. out.rows - 1; with an affine,
/// scale[c] times that plus offset[c], for the channel c of element e.
///
/// Source: the Monte Carlo sampling step of Cohen, Rosenfeld and Kolter, "Certified adversarial
/// robustness via randomized smoothing", ICML 2019, Algorithm 1 (SampleUnderNoise); z from
/// philox.hpp and normal.hpp with counter = (element / 4, sample, image, stream), key = seed.
///
/// - Shapes: x has d elements; out is (n, d) with any row stride >= d. n = 0 and d = 0 are no-ops.
/// - Types: x and out are each float32, float16 or bfloat16. The sum is one float32 fma,
///   v = fma(sigma, z, x[e]); an affine is a second one, fma(v, scale[c], offset[c]): one rounding
///   after each. A 16-bit result is the last float32 rounded once more, to nearest even.
/// - affine: both pointers or neither; channels >= 1 divides d. NaN and Inf in it propagate.
/// - Limits: start + n <= 2^32 (a sample number is a 32-bit counter word), d <= 2^34.
/// - Aliasing: out must not overlap x, scale, offset or image_at, which are never modified. Padding
///   between rows is never written.
/// - sigma is finite and >= 0. NaN or Inf in x propagates to its column, as in plain arithmetic.
/// - Determinism: the same bits for any split of rows over calls, any number of threads, any
///   instruction set, and on CUDA (for NaN results, only that they are NaN).
/// - Workspace: none. CUDA: one launch on exec.stream, no synchronisation.
/// @throws std::invalid_argument when a promise above is broken; std::runtime_error on a CUDA
/// failure or where the CUDA backend is absent.
void gaussian_noise(ConstVectorView x, MatrixView out, float sigma, NoiseKey key,
                    std::uint64_t start = 0, const Exec& exec = {},
                    const ChannelAffine& affine = {});

}  // namespace tamis
