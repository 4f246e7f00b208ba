// gaussian_noise for one instruction set: included after a simd_*.hpp, which defines Lanes.
#include <cstdint>

#include "src/cpu/simd_unrolled.hpp"
#include "src/detail/gaussian_noise_backend.hpp"
#include "tamis/normal.hpp"
#include "tamis/philox.hpp"

namespace tamis::cpu::TAMIS_ISA {
namespace {

/// Vectors of 64-bit lanes, one Philox block a lane, that are worked on in lockstep.
constexpr int kUnroll = 2;
using Wide = Unrolled<kUnroll>;
/// One step fills kStep consecutive elements: two vectors of floats for each vector of blocks.
constexpr int kVectors = 2 * kUnroll;
constexpr int kStep = kVectors * Lanes::width;

/// Philox over a row, with everything that does not depend on the block computed once. Only word 0
/// of the counter (the block) varies along a row, so one product of round 1 and one of round 2 are
/// constants: 18 products are left of 20.
struct RowPhilox {
  Lanes::Q key0[kPhiloxRounds], key1[kPhiloxRounds];
  Lanes::Q round1_c2;  // c3 ^ k1: completes word 2 of round 1
  Lanes::Q round2_c0;  // low(p1) ^ k0: completes word 0 of round 2
  Lanes::Q round2_c2;  // high(q0) ^ k1: completes word 2 of round 2
  Lanes::Q round2_c3;  // low(q0)

  RowPhilox(const NoiseKey& key, std::uint32_t sample) {
    const std::uint32_t s0 = static_cast<std::uint32_t>(key.seed);
    const std::uint32_t s1 = static_cast<std::uint32_t>(key.seed >> 32);
    for (std::uint32_t round = 0; round < kPhiloxRounds; ++round) {
      key0[round] = Lanes::q(s0 + round * kPhiloxWeyl0);
      key1[round] = Lanes::q(s1 + round * kPhiloxWeyl1);
    }
    const std::uint64_t p1 = static_cast<std::uint64_t>(kPhiloxMul1) * key.image;
    const std::uint32_t c0 = static_cast<std::uint32_t>(p1 >> 32) ^ sample ^ s0;
    const std::uint64_t q0 = static_cast<std::uint64_t>(kPhiloxMul0) * c0;
    round1_c2 = Lanes::q(key.stream ^ s1);
    round2_c0 = Lanes::q(static_cast<std::uint32_t>(p1) ^ (s0 + kPhiloxWeyl0));
    round2_c2 = Lanes::q(static_cast<std::uint32_t>(q0 >> 32) ^ (s1 + kPhiloxWeyl1));
    round2_c3 = Lanes::q(static_cast<std::uint32_t>(q0));
  }

  /// The four words of each 64-bit lane's block, in the low halves of c[0..3].
  [[gnu::always_inline]] inline void words(Wide::Q block, Wide::Q (&c)[4]) const {
    const Lanes::Q mul0 = Lanes::q(kPhiloxMul0);
    const Lanes::Q mul1 = Lanes::q(kPhiloxMul1);
    const Wide::Q p0 = Wide::mul_low_halves(block, mul0);
    const Wide::Q p1 = Wide::mul_low_halves(Wide::qxor(Wide::high_halves(p0), round1_c2), mul1);
    c[0] = Wide::qxor(Wide::high_halves(p1), round2_c0);
    c[1] = p1;
    c[2] = Wide::qxor(p0, round2_c2);
    for (int k = 0; k < kUnroll; ++k) c[3].v[k] = round2_c3;
    for (int round = 2; round < kPhiloxRounds; ++round) {
      const Wide::Q a = Wide::mul_low_halves(c[0], mul0);
      const Wide::Q b = Wide::mul_low_halves(c[2], mul1);
      c[0] = Wide::qxor3(Wide::high_halves(b), c[1], key0[round]);
      c[1] = b;
      c[2] = Wide::qxor3(Wide::high_halves(a), c[3], key1[round]);
      c[3] = a;
    }
  }
};

/// kStep normals in element order, from consecutive blocks.
[[gnu::always_inline]] inline void normals(const RowPhilox& philox, Wide::Q block,
                                           Lanes::F (&z)[kVectors]) {
  Wide::Q c[4];
  philox.words(block, c);
  // Words (0, 1) and (2, 3) are the two Box-Muller pairs of a block.
  Wide::F z0, z1;
  box_muller<Wide>(Wide::join_low_halves(c[0], c[2]), Wide::join_low_halves(c[1], c[3]), z0, z1);
  for (int k = 0; k < kUnroll; ++k) {
    Lanes::interleave(z0.v[k], z1.v[k], z[2 * k], z[2 * k + 1]);
  }
}

constexpr std::int64_t kChunk = 1024;  // elements of x on the stack, a multiple of every kStep

/// What is the same for all rows of a chunk of elements, one number an element.
struct Chunk {
  const float* x;
  const float* scale = nullptr;  // null, or both scale and offset
  const float* offset = nullptr;
  std::int64_t first;  // number of the chunk's first element
  std::int64_t count;
};

template <bool kAffine, class Out>
[[gnu::always_inline]] inline void add_noise(const Chunk& chunk, std::int64_t e, Out* out,
                                             Lanes::F sigma, const Lanes::F (&z)[kVectors]) {
  for (int k = 0; k < kVectors; ++k) {
    const std::int64_t at = e + k * Lanes::width;
    Lanes::F value = Lanes::fma(sigma, z[k], Lanes::load(chunk.x + at));
    if constexpr (kAffine) {
      value = Lanes::fma(value, Lanes::load(chunk.scale + at), Lanes::load(chunk.offset + at));
    }
    Lanes::store(out + k * Lanes::width, value);
  }
}

/// The chunk's elements of one row, from out[0] on.
template <bool kAffine, class Out>
void fill(const Chunk& chunk, Out* out, Lanes::F sigma, const RowPhilox& philox) {
  const std::int64_t first = chunk.first, count = chunk.count;
  for (std::int64_t e = 0; e < count; e += kStep) {
    Wide::Q block;
    for (int k = 0; k < kUnroll; ++k) {
      const auto start = static_cast<std::uint64_t>((first + e) / 4 + k * Lanes::width / 2);
      block.v[k] = Lanes::qadd(Lanes::counter_order(), Lanes::q(start));
    }
    Lanes::F z[kVectors];
    normals(philox, block, z);
    if (e + kStep <= count) {
      add_noise<kAffine>(chunk, e, out + e, sigma, z);
      continue;
    }
    // The ragged end goes through buffers: nothing outside x and out is touched.
    float x_tail[kStep] = {}, scale_tail[kStep] = {}, offset_tail[kStep] = {};
    Out out_tail[kStep];
    const int rest = static_cast<int>(count - e);
    for (int k = 0; k < rest; ++k) {
      x_tail[k] = chunk.x[e + k];
      if constexpr (kAffine) {
        scale_tail[k] = chunk.scale[e + k];
        offset_tail[k] = chunk.offset[e + k];
      }
    }
    add_noise<kAffine>({x_tail, scale_tail, offset_tail, 0, rest}, 0, out_tail, sigma, z);
    for (int k = 0; k < rest; ++k) out[e + k] = out_tail[k];
  }
}

template <class Out>
void fill_row(const detail::GaussianNoiseTask& task, const Chunk& chunk, std::int64_t row,
              Lanes::F sigma) {
  const RowPhilox philox(task.key, task.start + static_cast<std::uint32_t>(row));
  Out* out = static_cast<Out*>(task.out.data) + row * task.out.row_stride + chunk.first;
  if (chunk.scale == nullptr) return fill<false>(chunk, out, sigma, philox);
  fill<true>(chunk, out, sigma, philox);
}

/// One number a channel becomes one an element. A vector of channel constants would do where a
/// channel has a multiple of kStep elements; this serves any size at the price of two loads.
void expand(const detail::GaussianNoiseTask& task, std::int64_t first, std::int64_t count,
            float* scale, float* offset) {
  const std::int64_t size = task.channel_size;
  std::int64_t channel = first / size;
  for (std::int64_t k = 0; k < count; ++channel) {
    const std::int64_t next = (channel + 1) * size - first;
    const std::int64_t stop = next < count ? next : count;
    const float a = task.affine.scale[channel], b = task.affine.offset[channel];
    for (; k < stop; ++k) {
      scale[k] = a;
      offset[k] = b;
    }
  }
}

/// x[0..count) as float32: itself, or converted into `buffer`. A kernel for every pair of types
/// would be nine; this way there are three, and x is converted once for all rows of a tile.
const float* as_float32(const ConstVectorView& x, std::int64_t first, std::int64_t count,
                        float* buffer) {
  if (x.dtype == DType::float32) return static_cast<const float*>(x.data) + first;
  for (std::int64_t k = 0; k < count; ++k) {
    buffer[k] = x.dtype == DType::float16
                    ? detail::to_float32(static_cast<const detail::Float16*>(x.data)[first + k])
                    : detail::to_float32(static_cast<const detail::BFloat16*>(x.data)[first + k]);
  }
  return buffer;
}

}  // namespace

void gaussian_noise(const detail::GaussianNoiseTask& task, std::int64_t row_begin,
                    std::int64_t row_end, std::int64_t elem_begin, std::int64_t elem_end) {
  const Lanes::F sigma = Lanes::f(task.sigma);
  float buffer[kChunk], scale[kChunk], offset[kChunk];
  for (std::int64_t first = elem_begin; first < elem_end; first += kChunk) {
    const std::int64_t count = elem_end - first < kChunk ? elem_end - first : kChunk;
    Chunk chunk{.x = as_float32(task.x, first, count, buffer), .first = first, .count = count};
    if (task.affine.scale != nullptr) {
      expand(task, first, count, scale, offset);
      chunk.scale = scale;
      chunk.offset = offset;
    }
    for (std::int64_t row = row_begin; row < row_end; ++row) {
      switch (task.out.dtype) {
        case DType::float16:
          fill_row<detail::Float16>(task, chunk, row, sigma);
          break;
        case DType::bfloat16:
          fill_row<detail::BFloat16>(task, chunk, row, sigma);
          break;
        default:
          fill_row<float>(task, chunk, row, sigma);
          break;
      }
    }
  }
}

}  // namespace tamis::cpu::TAMIS_ISA
