// Lanes for AVX-512 (F, BW, DQ, VL): sixteen floats. Same interface as simd_baseline.hpp.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "src/detail/half.hpp"

#define TAMIS_ISA avx512

namespace tamis::cpu::TAMIS_ISA {
namespace {

struct Lanes {
  static constexpr int width = 16;
  using F = __m512;
  using I = __m512i;
  using Q = __m512i;

  static F f(float x) { return _mm512_set1_ps(x); }
  static I i(std::int32_t x) { return _mm512_set1_epi32(x); }
  static Q q(std::uint64_t x) { return _mm512_set1_epi64(static_cast<long long>(x)); }
  static F bits_to_float(I x) { return _mm512_castsi512_ps(x); }
  static I float_to_bits(F x) { return _mm512_castps_si512(x); }
  static I isub(I a, I b) { return _mm512_sub_epi32(a, b); }
  static I iadd(I a, I b) { return _mm512_add_epi32(a, b); }
  static I iand(I a, I b) { return _mm512_and_si512(a, b); }
  static I ior(I a, I b) { return _mm512_or_si512(a, b); }
  static I ixor(I a, I b) { return _mm512_xor_si512(a, b); }
  template <int kBits>
  static I shift_left(I a) {
    return _mm512_slli_epi32(a, kBits);
  }
  template <int kBits>
  static I shift_right(I a) {
    return _mm512_srli_epi32(a, kBits);
  }
  template <int kBits>
  static I shift_right_arithmetic(I a) {
    return _mm512_srai_epi32(a, kBits);
  }
  static F select_by_sign(I mask, F a, F b) {
    return _mm512_mask_blend_ps(_mm512_movepi32_mask(mask), b, a);
  }

  static F sub(F a, F b) { return _mm512_sub_ps(a, b); }
  static F mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static F sqrt(F a) { return _mm512_sqrt_ps(a); }
  static F to_float(I a) { return _mm512_cvtepi32_ps(a); }

  static F load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, F x) { _mm512_storeu_ps(p, x); }
  static void store(detail::Float16* p, F x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
  static void store(detail::BFloat16* p, F x) {
    const __m512i bits = _mm512_castps_si512(x);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), i(1));
    const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(i(0x7fff), odd));
    const __m512i quiet = _mm512_or_si512(bits, i(0x400000));
    const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    const __m512i high = _mm512_srli_epi32(_mm512_mask_blend_epi32(nan, rounded, quiet), 16);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(high));
  }

  static Q qxor(Q a, Q b) { return _mm512_xor_si512(a, b); }
  static Q qxor3(Q a, Q b, Q c) { return _mm512_ternarylogic_epi64(a, b, c, 0x96); }
  static Q qadd(Q a, Q b) { return _mm512_add_epi64(a, b); }
  static Q mul_low_halves(Q a, Q b) { return _mm512_mul_epu32(a, b); }
  static Q high_halves(Q a) { return _mm512_shuffle_epi32(a, _MM_PERM_DDBB); }
  static I join_low_halves(Q low, Q high) {
    return _mm512_mask_blend_epi32(0xaaaa, low, _mm512_slli_epi64(high, 32));
  }
  static Q counter_order() { return _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7); }
  static void interleave(F a, F b, F& first, F& second) {
    first = _mm512_unpacklo_ps(a, b);
    second = _mm512_unpackhi_ps(a, b);
  }
};

}  // namespace
}  // namespace tamis::cpu::TAMIS_ISA
