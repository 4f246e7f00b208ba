// Registers for sums of products, AVX-512. Same interface as wide_baseline.hpp.
#pragma once

#include <immintrin.h>

namespace tamis::cpu::TAMIS_ISA {
namespace {

template <class T>
struct Register;

template <>
struct Register<float> {
  static constexpr int width = 16;
  using R = __m512;
  using Folded = __m128;

  static R zero() { return _mm512_setzero_ps(); }
  static R set(float x) { return _mm512_set1_ps(x); }
  static R load(const float* p) { return _mm512_loadu_ps(p); }
  static R load_first(const float* p, int count) {
    const auto mask = count >= width ? 0xffffu : count <= 0 ? 0u : (1u << count) - 1u;
    return _mm512_maskz_loadu_ps(static_cast<__mmask16>(mask), p);
  }
  static void store(float* p, R x) { _mm512_storeu_ps(p, x); }
  static R add(R a, R b) { return _mm512_add_ps(a, b); }
  static R sub(R a, R b) { return _mm512_sub_ps(a, b); }
  static R fma(R a, R b, R c) { return _mm512_fmadd_ps(a, b, c); }
  static Folded fold(R a) {
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  }
  static void sum4(Folded a, Folded b, Folded c, Folded d, float* out) {
    const __m128 ab = _mm_add_ps(_mm_unpacklo_ps(a, b), _mm_unpackhi_ps(a, b));
    const __m128 cd = _mm_add_ps(_mm_unpacklo_ps(c, d), _mm_unpackhi_ps(c, d));
    _mm_storeu_ps(out, _mm_add_ps(_mm_movelh_ps(ab, cd), _mm_movehl_ps(cd, ab)));
  }
  /// The sums of eight accumulators, in the shape of fold and sum4: half the instructions.
  static void sum8(const R* a, float* out) {
    const R abcd = quarter(half(a[0], a[1]), half(a[2], a[3]));
    const R efgh = quarter(half(a[4], a[5]), half(a[6], a[7]));
    const __m512d one = _mm512_castps_pd(abcd);
    const __m512d two = _mm512_castps_pd(efgh);
    const R pairs = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(one, two)),
                                  _mm512_castpd_ps(_mm512_unpackhi_pd(one, two)));
    const R all =
        _mm512_add_ps(pairs, _mm512_movehdup_ps(pairs));  // a - e - b - f - c - g - d - h -
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 2, 6, 10, 14, 0, 0, 0, 0, 0, 0, 0, 0);
    _mm256_storeu_ps(out, _mm512_castps512_ps256(_mm512_permutexvar_ps(order, all)));
  }
  /// Eight lanes of a folded in halves, then eight of b.
  static R half(R a, R b) {
    return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
  }
  /// Four lanes of each of the four in ab and cd.
  static R quarter(R ab, R cd) {
    return _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
  }
};

template <>
struct Register<double> {
  static constexpr int width = 8;
  using R = __m512d;
  using Folded = __m128d;

  static R zero() { return _mm512_setzero_pd(); }
  static R set(double x) { return _mm512_set1_pd(x); }
  static R load(const double* p) { return _mm512_loadu_pd(p); }
  static R load_first(const double* p, int count) {
    const auto mask = count >= width ? 0xffu : count <= 0 ? 0u : (1u << count) - 1u;
    return _mm512_maskz_loadu_pd(static_cast<__mmask8>(mask), p);
  }
  static void store(double* p, R x) { _mm512_storeu_pd(p, x); }
  static R add(R a, R b) { return _mm512_add_pd(a, b); }
  static R sub(R a, R b) { return _mm512_sub_pd(a, b); }
  static R fma(R a, R b, R c) { return _mm512_fmadd_pd(a, b, c); }
  static Folded fold(R a) {
    const __m256d half = _mm256_add_pd(_mm512_castpd512_pd256(a), _mm512_extractf64x4_pd(a, 1));
    return _mm_add_pd(_mm256_castpd256_pd128(half), _mm256_extractf128_pd(half, 1));
  }
  static void sum4(Folded a, Folded b, Folded c, Folded d, double* out) {
    _mm_storeu_pd(out, _mm_add_pd(_mm_unpacklo_pd(a, b), _mm_unpackhi_pd(a, b)));
    _mm_storeu_pd(out + 2, _mm_add_pd(_mm_unpacklo_pd(c, d), _mm_unpackhi_pd(c, d)));
  }
  /// The sums of eight accumulators, in the shape of fold and sum4: half the instructions.
  static void sum8(const R* a, double* out) {
    const R abcd = quarter(half(a[0], a[1]), half(a[2], a[3]));
    const R efgh = quarter(half(a[4], a[5]), half(a[6], a[7]));
    const R all = _mm512_add_pd(_mm512_unpacklo_pd(abcd, efgh), _mm512_unpackhi_pd(abcd, efgh));
    const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);  // from a e b f c g d h
    _mm512_storeu_pd(out, _mm512_permutexvar_pd(order, all));
  }
  /// Four lanes of a folded in halves, then four of b.
  static R half(R a, R b) {
    return _mm512_add_pd(_mm512_shuffle_f64x2(a, b, 0x44), _mm512_shuffle_f64x2(a, b, 0xee));
  }
  /// Two lanes of each of the four in ab and cd.
  static R quarter(R ab, R cd) {
    return _mm512_add_pd(_mm512_shuffle_f64x2(ab, cd, 0x88), _mm512_shuffle_f64x2(ab, cd, 0xdd));
  }
};

struct Tiling {  // 32 registers
  static constexpr int columns = 8;
  static constexpr int products = 16;
  static constexpr bool sum8 = true;  ///< Register has it
  static constexpr int sums = 16;
};

}  // namespace
}  // namespace tamis::cpu::TAMIS_ISA
