// 16-bit floats, rounding modes and NaNs as PTX has them.
#pragma once

#include <cfenv>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

namespace emu {

/// A 16-bit float with `kMantissa` stored bits and exponents from `kMinExponent`.
template <int kMantissa, int kMinExponent>
struct Float16 {
  std::uint16_t bits;

  operator double() const {
    const int exponent_bits = 15 - kMantissa;
    const int exponent = (bits >> kMantissa) & ((1 << exponent_bits) - 1);
    const int fraction = bits & ((1 << kMantissa) - 1);
    double value;
    if (exponent == (1 << exponent_bits) - 1) {
      value = fraction ? std::numeric_limits<double>::quiet_NaN()
                       : std::numeric_limits<double>::infinity();
    } else if (exponent == 0) {
      value = std::ldexp(fraction, kMinExponent - kMantissa);
    } else {
      value = std::ldexp(fraction + (1 << kMantissa), kMinExponent + exponent - 1 - kMantissa);
    }
    return bits & 0x8000 ? -value : value;
  }

  /// Rounds as the current rounding mode says; the scaling is exact, nearbyint does the rounding.
  static Float16 from(double x) {
    constexpr std::uint16_t infinity = ((1 << (15 - kMantissa)) - 1) << kMantissa;
    if (std::isnan(x)) return {0x7fff};
    const std::uint16_t sign = std::signbit(x) ? 0x8000 : 0;
    if (std::isinf(x)) return {static_cast<std::uint16_t>(sign | infinity)};
    if (x == 0) return {sign};
    const int exponent = std::max(std::ilogb(x), kMinExponent);
    // The sign stays on while rounding: up and down are not symmetric.
    const double scaled = std::fabs(std::nearbyint(std::ldexp(x, kMantissa - exponent)));
    const double all = (exponent - kMinExponent) * static_cast<double>(1 << kMantissa) + scaled;
    if (all >= infinity) {
      const int mode = std::fegetround();
      const bool finite =
          mode == FE_TOWARDZERO || (mode == FE_DOWNWARD && !sign) || (mode == FE_UPWARD && sign);
      return {static_cast<std::uint16_t>(sign | (infinity - (finite ? 1 : 0)))};
    }
    return {static_cast<std::uint16_t>(sign | static_cast<std::uint16_t>(all))};
  }
};
using Half = Float16<10, -14>;
using Bfloat = Float16<7, -126>;

template <class T>
inline constexpr bool is_float16 = std::is_same_v<T, Half> || std::is_same_v<T, Bfloat>;

/// Sets a rounding mode for the lifetime of the object; nearest costs nothing.
class Rounding {
 public:
  explicit Rounding(int mode) : mode_(mode) {
    if (mode_ != FE_TONEAREST) std::fesetround(mode_);
  }
  ~Rounding() {
    if (mode_ != FE_TONEAREST) std::fesetround(FE_TONEAREST);
  }
  Rounding(const Rounding&) = delete;
  Rounding& operator=(const Rounding&) = delete;

 private:
  int mode_;
};

/// The NaN that PTX arithmetic gives: payloads survive in double precision only.
inline float canonical(float x) {
  if (x == x) return x;
  const std::uint32_t bits = 0x7fffffffu;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
inline double canonical(double x) { return x; }

template <class T>
T flush(T x) {  // .ftz: subnormals become zeros of their sign
  return std::fabs(x) < std::numeric_limits<T>::min() ? std::copysign(T{0}, x) : x;
}
template <class T>
T saturate(T x) {  // .sat: into [0, 1], NaN to 0
  return x > 0 ? (x < 1 ? x : T{1}) : T{0};
}

}  // namespace emu
