// Registers for sums of products, every machine: 16 bytes in GNU vector extensions.
//
// The other wide_*.hpp files give the same interface with intrinsics. Included after the
// simd_*.hpp of the same name; internal linkage, like there.
#pragma once

#include <cstdint>
#include <cstring>

namespace tamis::cpu::TAMIS_ISA {
namespace {

template <class T>
struct Register;

template <>
struct Register<float> {
  static constexpr int width = 4;
  using R = Lanes::F;
  using Folded = R;  ///< 16 bytes

  static R zero() { return R{}; }
  static R set(float x) { return R{x, x, x, x}; }
  static R load(const float* p) { return Lanes::load(p); }
  static R load_first(const float* p, int count) {
    R x{};
    for (int k = 0; k < count && k < width; ++k) x[k] = p[k];
    return x;
  }
  static void store(float* p, R x) { std::memcpy(p, &x, sizeof x); }
  static R add(R a, R b) { return a + b; }
  static R sub(R a, R b) { return a - b; }
  static R fma(R a, R b, R c) { return Lanes::fma(a, b, c); }
  static Folded fold(R a) { return a; }
  /// out[i] = (a0 + a2) + (a1 + a3) for each of the four.
  static void sum4(Folded a, Folded b, Folded c, Folded d, float* out) {
    const Folded all[4] = {a, b, c, d};
    for (int i = 0; i < 4; ++i) out[i] = (all[i][0] + all[i][2]) + (all[i][1] + all[i][3]);
  }
};

template <>
struct Register<double> {
  static constexpr int width = 2;
  using R [[gnu::vector_size(16)]] = double;
  using Folded = R;

  static R zero() { return R{}; }
  static R set(double x) { return R{x, x}; }
  static R load(const double* p) {
    R x;
    std::memcpy(&x, p, sizeof x);
    return x;
  }
  static R load_first(const double* p, int count) {
    R x{};
    for (int k = 0; k < count && k < width; ++k) x[k] = p[k];
    return x;
  }
  static void store(double* p, R x) { std::memcpy(p, &x, sizeof x); }
  static R add(R a, R b) { return a + b; }
  static R sub(R a, R b) { return a - b; }
  static R fma(R a, R b, R c) {
    return R{__builtin_fma(a[0], b[0], c[0]), __builtin_fma(a[1], b[1], c[1])};
  }
  static Folded fold(R a) { return a; }
  /// out[i] = a0 + a1 for each of the four.
  static void sum4(Folded a, Folded b, Folded c, Folded d, double* out) {
    const Folded all[4] = {a, b, c, d};
    for (int i = 0; i < 4; ++i) out[i] = all[i][0] + all[i][1];
  }
};

/// How many sums of 64 bytes the registers hold: columns of project(), and columns times vectors
/// of accumulate().
struct Tiling {
  static constexpr int columns = 2;
  static constexpr int products = 2;
  static constexpr bool sum8 = false;  ///< Register has it
  static constexpr int sums = 2;
};

}  // namespace
}  // namespace tamis::cpu::TAMIS_ISA
