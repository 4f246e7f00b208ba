// Lanes for AArch64 NEON: four floats. Same interface as simd_baseline.hpp.
#pragma once

#include <arm_neon.h>

#include <cstdint>

#include "src/detail/half.hpp"

#define TAMIS_ISA neon

namespace tamis::cpu::TAMIS_ISA {
namespace {

struct Lanes {
  static constexpr int width = 4;
  using F = float32x4_t;
  using I = int32x4_t;
  using Q = uint64x2_t;

  static F f(float x) { return vdupq_n_f32(x); }
  static I i(std::int32_t x) { return vdupq_n_s32(x); }
  static Q q(std::uint64_t x) { return vdupq_n_u64(x); }
  static F bits_to_float(I x) { return vreinterpretq_f32_s32(x); }
  static I float_to_bits(F x) { return vreinterpretq_s32_f32(x); }
  static I isub(I a, I b) { return vsubq_s32(a, b); }
  static I iadd(I a, I b) { return vaddq_s32(a, b); }
  static I iand(I a, I b) { return vandq_s32(a, b); }
  static I ior(I a, I b) { return vorrq_s32(a, b); }
  static I ixor(I a, I b) { return veorq_s32(a, b); }
  template <int kBits>
  static I shift_left(I a) {
    return vshlq_n_s32(a, kBits);
  }
  template <int kBits>
  static I shift_right(I a) {
    return vreinterpretq_s32_u32(vshrq_n_u32(vreinterpretq_u32_s32(a), kBits));
  }
  template <int kBits>
  static I shift_right_arithmetic(I a) {
    return vshrq_n_s32(a, kBits);
  }
  static F select_by_sign(I mask, F a, F b) {
    return vbslq_f32(vreinterpretq_u32_s32(vshrq_n_s32(mask, 31)), a, b);
  }

  static F sub(F a, F b) { return vsubq_f32(a, b); }
  static F mul(F a, F b) { return vmulq_f32(a, b); }
  static F fma(F a, F b, F c) { return vfmaq_f32(c, a, b); }
  static F sqrt(F a) { return vsqrtq_f32(a); }
  static F to_float(I a) { return vcvtq_f32_s32(a); }

  static F load(const float* p) { return vld1q_f32(p); }
  static void store(float* p, F x) { vst1q_f32(p, x); }
  static void store(detail::Float16* p, F x) {
    vst1_u16(reinterpret_cast<std::uint16_t*>(p), vreinterpret_u16_f16(vcvt_f16_f32(x)));
  }
  static void store(detail::BFloat16* p, F x) {
    const uint32x4_t bits = vreinterpretq_u32_f32(x);
    const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
    const uint32x4_t rounded = vaddq_u32(bits, vaddq_u32(vdupq_n_u32(0x7fff), odd));
    const uint32x4_t quiet = vorrq_u32(bits, vdupq_n_u32(0x400000));
    const uint32x4_t number = vceqq_f32(x, x);
    const uint32x4_t chosen = vbslq_u32(number, rounded, quiet);
    vst1_u16(reinterpret_cast<std::uint16_t*>(p), vshrn_n_u32(chosen, 16));
  }

  static Q qxor(Q a, Q b) { return veorq_u64(a, b); }
  static Q qxor3(Q a, Q b, Q c) { return veorq_u64(a, veorq_u64(b, c)); }
  static Q qadd(Q a, Q b) { return vaddq_u64(a, b); }
  static Q mul_low_halves(Q a, Q b) { return vmull_u32(vmovn_u64(a), vmovn_u64(b)); }
  static Q high_halves(Q a) { return vshrq_n_u64(a, 32); }
  static I join_low_halves(Q low, Q high) {
    return vreinterpretq_s32_u64(vsliq_n_u64(low, high, 32));
  }
  static Q counter_order() { return vcombine_u64(vcreate_u64(0), vcreate_u64(1)); }
  static void interleave(F a, F b, F& first, F& second) {
    first = vzip1q_f32(a, b);
    second = vzip2q_f32(a, b);
  }
};

}  // namespace
}  // namespace tamis::cpu::TAMIS_ISA
