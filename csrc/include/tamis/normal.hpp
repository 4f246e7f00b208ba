// Standard normals from random words: Box-Muller on fixed polynomials.
//
// The transform is written once, over a "lanes" type L that supplies the arithmetic: a scalar on
// the host and in CUDA kernels (ScalarLanes below), a SIMD vector in the CPU kernels. It uses only
// correctly rounded operations (add, multiply, fma, sqrt, integer to float conversion) in a fixed
// order, so every instantiation gives the same bits.
//
// Uniforms, exactly. From a word pair (a, b):
//   u = fl(fl(a >> 1) * 2^-31 + 2^-32), in [2^-32, 1]          radius  r = sqrt(-2 ln u) <= 6.66
//   t = fl(int32(4 b + 2)) * 2^-31, in (-1, 1), symmetric      angle   (pi/4) t + (pi/2) (b >> 30)
// fl() is the conversion to float32, round to nearest even. The +2 keeps t symmetric about 0 and
// never 0. Results are within 4 ulp of the exact r cos and r sin of these u and t (measured
// maximum in tests/cpp/test_normal.cpp).
//
// Source: Box and Muller, Ann. Math. Statist. 29 (1958). Coefficients: minimax fits by a Remez
// exchange made for this file; errors stand beside them.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "tamis/philox.hpp"

namespace tamis {

/// One float at a time, on host or device.
struct ScalarLanes {
  using F = float;
  using I = std::int32_t;

  static TAMIS_HOST_DEVICE F f(float x) { return x; }
  static TAMIS_HOST_DEVICE I i(std::int32_t x) { return x; }
  static TAMIS_HOST_DEVICE F bits_to_float(I x) {
    F y;
    std::memcpy(&y, &x, sizeof y);
    return y;
  }
  static TAMIS_HOST_DEVICE I float_to_bits(F x) {
    I y;
    std::memcpy(&y, &x, sizeof y);
    return y;
  }
  // Signed wrap-around must not be undefined behaviour, hence the detour over unsigned.
  static TAMIS_HOST_DEVICE I isub(I a, I b) {
    return static_cast<I>(static_cast<std::uint32_t>(a) - static_cast<std::uint32_t>(b));
  }
  static TAMIS_HOST_DEVICE I iadd(I a, I b) {
    return static_cast<I>(static_cast<std::uint32_t>(a) + static_cast<std::uint32_t>(b));
  }
  static TAMIS_HOST_DEVICE I iand(I a, I b) { return a & b; }
  static TAMIS_HOST_DEVICE I ior(I a, I b) { return a | b; }
  static TAMIS_HOST_DEVICE I ixor(I a, I b) { return a ^ b; }
  template <int kBits>
  static TAMIS_HOST_DEVICE I shift_left(I a) {
    return static_cast<I>(static_cast<std::uint32_t>(a) << kBits);
  }
  template <int kBits>
  static TAMIS_HOST_DEVICE I shift_right(I a) {  // logical
    return static_cast<I>(static_cast<std::uint32_t>(a) >> kBits);
  }
  template <int kBits>
  static TAMIS_HOST_DEVICE I shift_right_arithmetic(I a) {
    return a >> kBits;
  }
  /// a where the sign bit of `mask` is set, else b.
  static TAMIS_HOST_DEVICE F select_by_sign(I mask, F a, F b) { return mask < 0 ? a : b; }

#if defined(__CUDA_ARCH__)
  static __device__ __forceinline__ F sub(F a, F b) { return __fsub_rn(a, b); }
  static __device__ __forceinline__ F mul(F a, F b) { return __fmul_rn(a, b); }
  static __device__ __forceinline__ F fma(F a, F b, F c) { return __fmaf_rn(a, b, c); }
  static __device__ __forceinline__ F sqrt(F a) { return __fsqrt_rn(a); }
  static __device__ __forceinline__ F to_float(I a) { return __int2float_rn(a); }
#else
  static TAMIS_HOST_DEVICE F sub(F a, F b) { return a - b; }
  static TAMIS_HOST_DEVICE F mul(F a, F b) { return a * b; }
  static TAMIS_HOST_DEVICE F fma(F a, F b, F c) { return std::fma(a, b, c); }
  static TAMIS_HOST_DEVICE F sqrt(F a) { return std::sqrt(a); }
  static TAMIS_HOST_DEVICE F to_float(I a) { return static_cast<float>(a); }
#endif
};

/// -2 ln(u) for u in [2^-32, 1]: u = 2^e (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)), then
/// -2 log1p(f) = f Q(f) with Q of degree 9, relative error below 2^-24.9.
template <class L>
static TAMIS_HOST_DEVICE typename L::F minus_two_log(typename L::F u) {
  using F = typename L::F;
  using I = typename L::I;
  constexpr std::int32_t kSqrtHalf = 0x3f3504f3;  // bits of sqrt(1/2)
  const I offset = L::isub(L::float_to_bits(u), L::i(kSqrtHalf));
  const F e = L::to_float(L::template shift_right_arithmetic<23>(offset));
  const I mantissa = L::iadd(L::iand(offset, L::i(0x007fffff)), L::i(kSqrtHalf));
  const F f = L::sub(L::bits_to_float(mantissa), L::f(1.0f));  // exact
  F q = L::f(-0.174696889752f);
  q = L::fma(q, f, L::f(0.286150450287f));
  q = L::fma(q, f, L::f(-0.298359469221f));
  q = L::fma(q, f, L::f(0.331410161315f));
  q = L::fma(q, f, L::f(-0.399241442773f));
  q = L::fma(q, f, L::f(0.50003510515f));
  q = L::fma(q, f, L::f(-0.66667900443f));
  q = L::fma(q, f, L::f(0.999999832128f));
  q = L::fma(q, f, L::f(-2.0f));
  return L::fma(e, L::f(-1.38629436112f), L::mul(f, q));  // -2 ln 2
}

/// Two independent standard normals from two independent random words.
template <class L>
static TAMIS_HOST_DEVICE void box_muller(typename L::I a, typename L::I b, typename L::F& z0,
                                         typename L::F& z1) {
  using F = typename L::F;
  using I = typename L::I;
  const F u = L::fma(L::to_float(L::template shift_right<1>(a)), L::f(0x1p-31f), L::f(0x1p-32f));
  const F r = L::sqrt(minus_two_log<L>(u));

  // sin and cos of (pi/4) t on |t| < 1: relative errors below 2^-28.2 and 2^-24.6.
  const F t =
      L::mul(L::to_float(L::ior(L::template shift_left<2>(b), L::i(2))), L::f(0x1p-31f));  // exact
  const F t2 = L::mul(t, t);
  F s = L::f(-3.59504522604e-5f);
  s = L::fma(s, t2, L::f(0.00249000102404f));
  s = L::fma(s, t2, L::f(-0.0807454325292f));
  s = L::mul(L::fma(s, t2, L::f(0.785398160854f)), t);
  F c = L::f(-0.000319020047533f);
  c = L::fma(c, t2, L::f(0.0158502006959f));
  c = L::fma(c, t2, L::f(-0.308424426589f));
  c = L::fma(c, t2, L::f(1.0f));

  // Quarter turns q = b >> 30 by swap and sign: (c, s), (-s, c), (-c, -s), (s, -c).
  const I swap = L::template shift_left<1>(b);  // bit 30 moved to the sign bit
  const I sign = L::i(static_cast<std::int32_t>(0x80000000u));
  const I cos_sign = L::iand(L::ixor(b, swap), sign);
  const I sin_sign = L::iand(b, sign);
  const F cos_part = L::select_by_sign(swap, s, c);
  const F sin_part = L::select_by_sign(swap, c, s);
  const F cos_signed = L::bits_to_float(L::ixor(L::float_to_bits(cos_part), cos_sign));
  const F sin_signed = L::bits_to_float(L::ixor(L::float_to_bits(sin_part), sin_sign));
  z0 = L::mul(r, cos_signed);
  z1 = L::mul(r, sin_signed);
}

/// Four standard normals: elements 4 * block .. 4 * block + 3 of z(seed, image, stream, sample, .).
struct Normal4 {
  float z[4];
};
static TAMIS_HOST_DEVICE Normal4 normal4(std::uint64_t seed, std::uint32_t block,
                                         std::uint32_t sample, std::uint32_t image,
                                         std::uint32_t stream) {
  const Words4 words = philox4x32_10({{block, sample, image, stream}}, seed);
  Normal4 out;
  box_muller<ScalarLanes>(static_cast<std::int32_t>(words.w[0]),
                          static_cast<std::int32_t>(words.w[1]), out.z[0], out.z[1]);
  box_muller<ScalarLanes>(static_cast<std::int32_t>(words.w[2]),
                          static_cast<std::int32_t>(words.w[3]), out.z[2], out.z[3]);
  return out;
}

}  // namespace tamis
