// Registers for sums of products, AVX2 + FMA. Same interface as wide_baseline.hpp.
#pragma once

#include <immintrin.h>

namespace tamis::cpu::TAMIS_ISA {
namespace {

template <class T>
struct Register;

template <>
struct Register<float> {
  static constexpr int width = 8;
  using R = __m256;
  using Folded = __m128;

  static R zero() { return _mm256_setzero_ps(); }
  static R set(float x) { return _mm256_set1_ps(x); }
  static R load(const float* p) { return _mm256_loadu_ps(p); }
  static R load_first(const float* p, int count) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_maskload_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32(count), lane));
  }
  static void store(float* p, R x) { _mm256_storeu_ps(p, x); }
  static R add(R a, R b) { return _mm256_add_ps(a, b); }
  static R sub(R a, R b) { return _mm256_sub_ps(a, b); }
  static R fma(R a, R b, R c) { return _mm256_fmadd_ps(a, b, c); }
  static Folded fold(R a) {
    return _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  }
  static void sum4(Folded a, Folded b, Folded c, Folded d, float* out) {
    const __m128 ab = _mm_add_ps(_mm_unpacklo_ps(a, b), _mm_unpackhi_ps(a, b));
    const __m128 cd = _mm_add_ps(_mm_unpacklo_ps(c, d), _mm_unpackhi_ps(c, d));
    _mm_storeu_ps(out, _mm_add_ps(_mm_movelh_ps(ab, cd), _mm_movehl_ps(cd, ab)));
  }
};

template <>
struct Register<double> {
  static constexpr int width = 4;
  using R = __m256d;
  using Folded = __m128d;

  static R zero() { return _mm256_setzero_pd(); }
  static R set(double x) { return _mm256_set1_pd(x); }
  static R load(const double* p) { return _mm256_loadu_pd(p); }
  static R load_first(const double* p, int count) {
    const __m256i lane = _mm256_setr_epi64x(0, 1, 2, 3);
    return _mm256_maskload_pd(p, _mm256_cmpgt_epi64(_mm256_set1_epi64x(count), lane));
  }
  static void store(double* p, R x) { _mm256_storeu_pd(p, x); }
  static R add(R a, R b) { return _mm256_add_pd(a, b); }
  static R sub(R a, R b) { return _mm256_sub_pd(a, b); }
  static R fma(R a, R b, R c) { return _mm256_fmadd_pd(a, b, c); }
  static Folded fold(R a) {
    return _mm_add_pd(_mm256_castpd256_pd128(a), _mm256_extractf128_pd(a, 1));
  }
  static void sum4(Folded a, Folded b, Folded c, Folded d, double* out) {
    _mm_storeu_pd(out, _mm_add_pd(_mm_unpacklo_pd(a, b), _mm_unpackhi_pd(a, b)));
    _mm_storeu_pd(out + 2, _mm_add_pd(_mm_unpacklo_pd(c, d), _mm_unpackhi_pd(c, d)));
  }
};

struct Tiling {  // 16 registers; a wide vector takes two
  static constexpr int columns = 4;
  static constexpr int products = 4;
  static constexpr bool sum8 = false;  ///< Register has it
  static constexpr int sums = 4;
};

}  // namespace
}  // namespace tamis::cpu::TAMIS_ISA
