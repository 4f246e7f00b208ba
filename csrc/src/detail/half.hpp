// Storage-only 16-bit floats and their scalar conversions (round to nearest even).
#pragma once

#include <cstdint>
#include <cstring>

namespace tamis::detail {

struct Float16 {
  std::uint16_t bits;
};
struct BFloat16 {
  std::uint16_t bits;
};

// `static`, so that files compiled for different instruction sets cannot share one copy.
static inline std::uint32_t bits_of(float x) {
  std::uint32_t b;
  std::memcpy(&b, &x, sizeof b);
  return b;
}
static inline float float_of(std::uint32_t b) {
  float x;
  std::memcpy(&x, &b, sizeof x);
  return x;
}

static inline float to_float32(float x) { return x; }
static inline float to_float32(BFloat16 x) {
  return float_of(static_cast<std::uint32_t>(x.bits) << 16);
}
static inline float to_float32(Float16 x) {
  const std::uint32_t sign = static_cast<std::uint32_t>(x.bits & 0x8000u) << 16;
  const std::uint32_t magnitude = x.bits & 0x7fffu;
  if (magnitude >= 0x7c00u) return float_of(sign | 0x7f800000u | ((magnitude & 0x3ffu) << 13));
  if (magnitude >= 0x0400u) return float_of(sign | ((magnitude << 13) + (112u << 23)));
  const float subnormal = static_cast<float>(magnitude) * 0x1p-24f;  // exact
  return float_of(sign | bits_of(subnormal));
}

static inline void from_float32(float x, float& out) { out = x; }
static inline void from_float32(float x, BFloat16& out) {
  const std::uint32_t b = bits_of(x);
  const bool nan = (b & 0x7fffffffu) > 0x7f800000u;
  const std::uint32_t rounded = b + 0x7fffu + ((b >> 16) & 1u);
  out.bits = static_cast<std::uint16_t>((nan ? (b | 0x400000u) : rounded) >> 16);
}
static inline void from_float32(float x, Float16& out) {
  const std::uint32_t b = bits_of(x);
  const std::uint32_t sign = (b >> 16) & 0x8000u;
  const std::uint32_t magnitude = b & 0x7fffffffu;
  std::uint32_t h;
  if (magnitude > 0x7f800000u) {
    h = 0x7e00u | ((magnitude >> 13) & 0x3ffu);  // quiet NaN, upper payload kept
  } else if (magnitude >= 0x477ff000u) {
    h = 0x7c00u;  // at least 65520: rounds to infinity
  } else if (magnitude >= 0x38800000u) {
    const std::uint32_t rebased = magnitude - (112u << 23);
    h = (rebased + 0xfffu + ((rebased >> 13) & 1u)) >> 13;
  } else {
    // Subnormal result: adding 1/2 puts the unit in the last place at 2^-24, where the hardware's
    // own rounding to nearest even does the work.
    h = bits_of(float_of(magnitude) + 0.5f) - bits_of(0.5f);
  }
  out.bits = static_cast<std::uint16_t>(sign | h);
}

}  // namespace tamis::detail
