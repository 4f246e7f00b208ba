// Lanes over several vectors at once, one after the other in every operation.
//
// A chain of dependent fused multiply-adds waits for each result; two chains in lockstep wait half
// as often, and the compiler keeps the order in which operations are written. Included after a
// simd_*.hpp. Measured by bench/gaussian_noise.py on Zen 1, AVX2: 1.5 times the throughput of two
// groups computed one after the other.
#pragma once

#include <cstdint>

namespace tamis::cpu::TAMIS_ISA {
namespace {

template <int kCount>
struct Unrolled {
  struct F {
    Lanes::F v[kCount];
  };
  struct I {
    Lanes::I v[kCount];
  };
  struct Q {
    Lanes::Q v[kCount];
  };

#define TAMIS_EACH(Result, expression) \
  Result out;                          \
  for (int k = 0; k < kCount; ++k) {   \
    out.v[k] = Lanes::expression;      \
  }                                    \
  return out

#define TAMIS_INLINE [[gnu::always_inline]] static inline
  TAMIS_INLINE F f(float x) { TAMIS_EACH(F, f(x)); }
  TAMIS_INLINE I i(std::int32_t x) { TAMIS_EACH(I, i(x)); }
  TAMIS_INLINE F bits_to_float(I x) { TAMIS_EACH(F, bits_to_float(x.v[k])); }
  TAMIS_INLINE I float_to_bits(F x) { TAMIS_EACH(I, float_to_bits(x.v[k])); }
  TAMIS_INLINE I isub(I a, I b) { TAMIS_EACH(I, isub(a.v[k], b.v[k])); }
  TAMIS_INLINE I iadd(I a, I b) { TAMIS_EACH(I, iadd(a.v[k], b.v[k])); }
  TAMIS_INLINE I iand(I a, I b) { TAMIS_EACH(I, iand(a.v[k], b.v[k])); }
  TAMIS_INLINE I ior(I a, I b) { TAMIS_EACH(I, ior(a.v[k], b.v[k])); }
  TAMIS_INLINE I ixor(I a, I b) { TAMIS_EACH(I, ixor(a.v[k], b.v[k])); }
  template <int kBits>
  TAMIS_INLINE I shift_left(I a) {
    TAMIS_EACH(I, template shift_left<kBits>(a.v[k]));
  }
  template <int kBits>
  TAMIS_INLINE I shift_right(I a) {
    TAMIS_EACH(I, template shift_right<kBits>(a.v[k]));
  }
  template <int kBits>
  TAMIS_INLINE I shift_right_arithmetic(I a) {
    TAMIS_EACH(I, template shift_right_arithmetic<kBits>(a.v[k]));
  }
  TAMIS_INLINE F select_by_sign(I mask, F a, F b) {
    TAMIS_EACH(F, select_by_sign(mask.v[k], a.v[k], b.v[k]));
  }
  TAMIS_INLINE F sub(F a, F b) { TAMIS_EACH(F, sub(a.v[k], b.v[k])); }
  TAMIS_INLINE F mul(F a, F b) { TAMIS_EACH(F, mul(a.v[k], b.v[k])); }
  TAMIS_INLINE F fma(F a, F b, F c) { TAMIS_EACH(F, fma(a.v[k], b.v[k], c.v[k])); }
  TAMIS_INLINE F sqrt(F a) { TAMIS_EACH(F, sqrt(a.v[k])); }
  TAMIS_INLINE F to_float(I a) { TAMIS_EACH(F, to_float(a.v[k])); }

  TAMIS_INLINE Q qxor(Q a, Lanes::Q b) { TAMIS_EACH(Q, qxor(a.v[k], b)); }
  TAMIS_INLINE Q qxor3(Q a, Q b, Lanes::Q c) { TAMIS_EACH(Q, qxor3(a.v[k], b.v[k], c)); }
  TAMIS_INLINE Q mul_low_halves(Q a, Lanes::Q b) { TAMIS_EACH(Q, mul_low_halves(a.v[k], b)); }
  TAMIS_INLINE Q high_halves(Q a) { TAMIS_EACH(Q, high_halves(a.v[k])); }
  TAMIS_INLINE I join_low_halves(Q low, Q high) {
    TAMIS_EACH(I, join_low_halves(low.v[k], high.v[k]));
  }
#undef TAMIS_EACH
#undef TAMIS_INLINE
};

}  // namespace
}  // namespace tamis::cpu::TAMIS_ISA
