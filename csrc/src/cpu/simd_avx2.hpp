// Lanes for AVX2 + FMA + F16C: eight floats. Same interface as simd_baseline.hpp.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "src/detail/half.hpp"

#define TAMIS_ISA avx2

namespace tamis::cpu::TAMIS_ISA {
namespace {

struct Lanes {
  static constexpr int width = 8;
  using F = __m256;
  using I = __m256i;
  using Q = __m256i;

  static F f(float x) { return _mm256_set1_ps(x); }
  static I i(std::int32_t x) { return _mm256_set1_epi32(x); }
  static Q q(std::uint64_t x) { return _mm256_set1_epi64x(static_cast<long long>(x)); }
  static F bits_to_float(I x) { return _mm256_castsi256_ps(x); }
  static I float_to_bits(F x) { return _mm256_castps_si256(x); }
  static I isub(I a, I b) { return _mm256_sub_epi32(a, b); }
  static I iadd(I a, I b) { return _mm256_add_epi32(a, b); }
  static I iand(I a, I b) { return _mm256_and_si256(a, b); }
  static I ior(I a, I b) { return _mm256_or_si256(a, b); }
  static I ixor(I a, I b) { return _mm256_xor_si256(a, b); }
  template <int kBits>
  static I shift_left(I a) {
    return _mm256_slli_epi32(a, kBits);
  }
  template <int kBits>
  static I shift_right(I a) {
    return _mm256_srli_epi32(a, kBits);
  }
  template <int kBits>
  static I shift_right_arithmetic(I a) {
    return _mm256_srai_epi32(a, kBits);
  }
  static F select_by_sign(I mask, F a, F b) {
    return _mm256_blendv_ps(b, a, _mm256_castsi256_ps(mask));
  }

  static F sub(F a, F b) { return _mm256_sub_ps(a, b); }
  static F mul(F a, F b) { return _mm256_mul_ps(a, b); }
  static F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  static F sqrt(F a) { return _mm256_sqrt_ps(a); }
  static F to_float(I a) { return _mm256_cvtepi32_ps(a); }

  static F load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, F x) { _mm256_storeu_ps(p, x); }
  static void store(detail::Float16* p, F x) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                     _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
  static void store(detail::BFloat16* p, F x) {
    const __m256i bits = _mm256_castps_si256(x);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), i(1));
    const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(i(0x7fff), odd));
    const __m256i quiet = _mm256_or_si256(bits, i(0x400000));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    const __m256i high = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
    const __m256i packed = _mm256_packus_epi32(high, high);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                     _mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0x08)));
  }

  static Q qxor(Q a, Q b) { return _mm256_xor_si256(a, b); }
  static Q qxor3(Q a, Q b, Q c) { return qxor(a, qxor(b, c)); }
  static Q qadd(Q a, Q b) { return _mm256_add_epi64(a, b); }
  static Q mul_low_halves(Q a, Q b) { return _mm256_mul_epu32(a, b); }
  // A shuffle rather than a shift: it has twice the ports on Zen and its own on Intel.
  static Q high_halves(Q a) { return _mm256_shuffle_epi32(a, 0xf5); }
  static I join_low_halves(Q low, Q high) {
    return _mm256_blend_epi32(low, _mm256_slli_epi64(high, 32), 0xaa);
  }
  static Q counter_order() { return _mm256_setr_epi64x(0, 2, 1, 3); }
  static void interleave(F a, F b, F& first, F& second) {
    first = _mm256_unpacklo_ps(a, b);
    second = _mm256_unpackhi_ps(a, b);
  }
};

}  // namespace
}  // namespace tamis::cpu::TAMIS_ISA
