// Lanes for every machine: four floats in GNU vector extensions, no instruction set assumed.
//
// The other simd_*.hpp files give the same interface with intrinsics. A file that includes one of
// them must be compiled for that instruction set, and everything here has internal linkage, so
// that no such code can end up in another path (design rule: no weak symbols).
#pragma once

#include <cstdint>
#include <cstring>

#include "src/detail/half.hpp"

#define TAMIS_ISA baseline

namespace tamis::cpu::TAMIS_ISA {
namespace {

struct Lanes {
  static constexpr int width = 4;
  using F [[gnu::vector_size(16)]] = float;
  using I [[gnu::vector_size(16)]] = std::int32_t;
  using U [[gnu::vector_size(16)]] = std::uint32_t;
  using Q [[gnu::vector_size(16)]] = std::uint64_t;

  static F f(float x) { return F{x, x, x, x}; }
  static I i(std::int32_t x) { return I{x, x, x, x}; }
  static Q q(std::uint64_t x) { return Q{x, x}; }
  static F bits_to_float(I x) { return reinterpret_cast<F>(x); }
  static I float_to_bits(F x) { return reinterpret_cast<I>(x); }
  static I isub(I a, I b) { return reinterpret_cast<I>(u(a) - u(b)); }
  static I iadd(I a, I b) { return reinterpret_cast<I>(u(a) + u(b)); }
  static I iand(I a, I b) { return a & b; }
  static I ior(I a, I b) { return a | b; }
  static I ixor(I a, I b) { return a ^ b; }
  template <int kBits>
  static I shift_left(I a) {
    return reinterpret_cast<I>(u(a) << kBits);
  }
  template <int kBits>
  static I shift_right(I a) {
    return reinterpret_cast<I>(u(a) >> kBits);
  }
  template <int kBits>
  static I shift_right_arithmetic(I a) {
    return a >> kBits;
  }
  static F select_by_sign(I mask, F a, F b) {
    const I m = mask >> 31;
    return reinterpret_cast<F>((m & reinterpret_cast<I>(a)) | (~m & reinterpret_cast<I>(b)));
  }

  static F sub(F a, F b) { return a - b; }
  static F mul(F a, F b) { return a * b; }
  static F to_float(I a) { return __builtin_convertvector(a, F); }
  static F sqrt(F a) {
    for (int k = 0; k < width; ++k) a[k] = __builtin_sqrtf(a[k]);
    return a;
  }
  static F fma(F a, F b, F c) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
    for (int k = 0; k < width; ++k) a[k] = __builtin_fmaf(a[k], b[k], c[k]);
    return a;
#else
    // No fma instruction: the product is exact in double, and rounding the sum to odd makes the
    // second rounding, to float, harmless. Source: Boldo and Melquiond, "Emulation of FMA and
    // correctly rounded sums", IEEE Trans. Computers 57 (2008). The emulation is as fast as this
    // path needs to be, far faster than the C library's.
    using F2 [[gnu::vector_size(8)]] = float;
    F out;
    for (int h = 0; h < 2; ++h) {
      const F2 a2{a[2 * h], a[2 * h + 1]};
      const F2 b2{b[2 * h], b[2 * h + 1]};
      const F2 c2{c[2 * h], c[2 * h + 1]};
      const D p = __builtin_convertvector(a2, D) * __builtin_convertvector(b2, D);
      const D cd = __builtin_convertvector(c2, D);
      const F2 r = __builtin_convertvector(add_round_to_odd(p, cd), F2);
      out[2 * h] = r[0];
      out[2 * h + 1] = r[1];
    }
    return out;
#endif
  }

  static F load(const float* p) {
    F x;
    std::memcpy(&x, p, sizeof x);
    return x;
  }
  static void store(float* p, F x) { std::memcpy(p, &x, sizeof x); }
  template <class Half>
  static void store(Half* p, F x) {
    for (int k = 0; k < width; ++k) detail::from_float32(x[k], p[k]);
  }

  // 64-bit lanes, two to a vector. Philox needs only their low halves; high halves may be junk.
  static Q qxor(Q a, Q b) { return a ^ b; }
  static Q qxor3(Q a, Q b, Q c) { return a ^ b ^ c; }
  static Q qadd(Q a, Q b) { return a + b; }
  static Q mul_low_halves(Q a, Q b) { return (a & 0xffffffffu) * (b & 0xffffffffu); }
  /// The high halves moved to the low ones.
  static Q high_halves(Q a) { return a >> 32; }
  /// Low halves of `low` and of `high`, as the even and odd 32-bit lanes.
  static I join_low_halves(Q low, Q high) {
    return reinterpret_cast<I>((low & 0xffffffffu) | (high << 32));
  }
  /// Order of counters over 64-bit lanes that makes interleave() give contiguous results.
  static Q counter_order() { return Q{0, 1}; }
  static void interleave(F a, F b, F& first, F& second) {
    first = F{a[0], b[0], a[1], b[1]};
    second = F{a[2], b[2], a[3], b[3]};
  }

 private:
  using D [[gnu::vector_size(16)]] = double;
  static U u(I a) { return reinterpret_cast<U>(a); }
  static D add_round_to_odd(D a, D b) {
    const D sum = a + b;
    const D b_part = sum - a;
    const D error = (a - (sum - b_part)) + (b - b_part);  // Knuth's two-sum: exact
    using L [[gnu::vector_size(16)]] = std::int64_t;
    const L bits = reinterpret_cast<L>(sum);
    const L inexact = error != D{0, 0};
    const L finite =
        (bits & 0x7ff0000000000000) != (L{} + 0x7ff0000000000000);  // else error is NaN
    const L even = (bits & 1) == 0;
    // Move one step towards the error's sign where the sum is inexact and its last bit is even.
    const L same_sign = (reinterpret_cast<L>(error) ^ bits) >= 0;
    const L step = (same_sign & 2) - 1;
    return reinterpret_cast<D>(bits + (inexact & finite & even & step));
  }
};

}  // namespace
}  // namespace tamis::cpu::TAMIS_ISA
