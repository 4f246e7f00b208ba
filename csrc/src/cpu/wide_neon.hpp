// Registers for sums of products, AArch64 NEON. Same interface as wide_baseline.hpp.
#pragma once

#include <arm_neon.h>

namespace tamis::cpu::TAMIS_ISA {
namespace {

template <class T>
struct Register;

template <>
struct Register<float> {
  static constexpr int width = 4;
  using R = float32x4_t;
  using Folded = R;

  static R zero() { return vdupq_n_f32(0.0f); }
  static R set(float x) { return vdupq_n_f32(x); }
  static R load(const float* p) { return vld1q_f32(p); }
  static R load_first(const float* p, int count) {
    float x[width] = {};
    for (int k = 0; k < count && k < width; ++k) x[k] = p[k];
    return vld1q_f32(x);
  }
  static void store(float* p, R x) { vst1q_f32(p, x); }
  static R add(R a, R b) { return vaddq_f32(a, b); }
  static R sub(R a, R b) { return vsubq_f32(a, b); }
  static R fma(R a, R b, R c) { return vfmaq_f32(c, a, b); }
  static Folded fold(R a) { return a; }
  static void sum4(Folded a, Folded b, Folded c, Folded d, float* out) {
    const R ab = vaddq_f32(vzip1q_f32(a, b), vzip2q_f32(a, b));  // a0+a2 b0+b2 a1+a3 b1+b3
    const R cd = vaddq_f32(vzip1q_f32(c, d), vzip2q_f32(c, d));
    vst1q_f32(out, vaddq_f32(vcombine_f32(vget_low_f32(ab), vget_low_f32(cd)),
                             vcombine_f32(vget_high_f32(ab), vget_high_f32(cd))));
  }
};

template <>
struct Register<double> {
  static constexpr int width = 2;
  using R = float64x2_t;
  using Folded = R;

  static R zero() { return vdupq_n_f64(0.0); }
  static R set(double x) { return vdupq_n_f64(x); }
  static R load(const double* p) { return vld1q_f64(p); }
  static R load_first(const double* p, int count) {
    double x[width] = {};
    for (int k = 0; k < count && k < width; ++k) x[k] = p[k];
    return vld1q_f64(x);
  }
  static void store(double* p, R x) { vst1q_f64(p, x); }
  static R add(R a, R b) { return vaddq_f64(a, b); }
  static R sub(R a, R b) { return vsubq_f64(a, b); }
  static R fma(R a, R b, R c) { return vfmaq_f64(c, a, b); }
  static Folded fold(R a) { return a; }
  static void sum4(Folded a, Folded b, Folded c, Folded d, double* out) {
    vst1q_f64(out, vaddq_f64(vzip1q_f64(a, b), vzip2q_f64(a, b)));
    vst1q_f64(out + 2, vaddq_f64(vzip1q_f64(c, d), vzip2q_f64(c, d)));
  }
};

struct Tiling {  // 32 registers
  static constexpr int columns = 4;
  static constexpr int products = 4;
  static constexpr bool sum8 = false;  ///< Register has it
  static constexpr int sums = 4;
};

}  // namespace
}  // namespace tamis::cpu::TAMIS_ISA
