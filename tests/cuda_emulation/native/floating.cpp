// Floating-point arithmetic. Results are correctly rounded in the mode of the instruction, also for
// the .approx forms, whose hardware results differ in the last bits.
#include "floats.hpp"

#include <algorithm>

#include "executor.hpp"

namespace emu {
namespace {

/// Values are computed in the type itself; 16-bit ones in double, which holds their sums and
/// products exactly.
template <class T>
using Compute = std::conditional_t<is_float16<T>, double, T>;

template <class T>
Compute<T> load(const Row& row, int lane, bool ftz) {
  const Compute<T> value = get<T>(row, lane);
  if constexpr (std::is_same_v<T, float>) return ftz ? flush(value) : value;
  return value;
}
template <class T>
void store(Row& row, int lane, Compute<T> value, const Instr& i) {
  if (i.sat) value = saturate(value);
  if constexpr (is_float16<T>) {
    put(row, lane, T::from(value));
  } else {
    if constexpr (std::is_same_v<T, float>) {
      if (i.ftz) value = flush(value);
    }
    put(row, lane, canonical(value));
  }
}

template <class T, class Op>
void one(Warp& w, const Instr& i, std::uint32_t mask) {
  const Rounding rounding(i.rounding);
  Row &d = w.row(i, 0), &a = w.row(i, 1);
  for_lanes(mask, [&](int l) { store<T>(d, l, Op()(load<T>(a, l, i.ftz)), i); });
}
template <class T, class Op>
void two(Warp& w, const Instr& i, std::uint32_t mask) {
  const Rounding rounding(i.rounding);
  Row &d = w.row(i, 0), &a = w.row(i, 1), &b = w.row(i, 2);
  for_lanes(mask,
            [&](int l) { store<T>(d, l, Op()(load<T>(a, l, i.ftz), load<T>(b, l, i.ftz)), i); });
}
template <class T>
void fused(Warp& w, const Instr& i, std::uint32_t mask) {
  const Rounding rounding(i.rounding);
  Row &d = w.row(i, 0), &a = w.row(i, 1), &b = w.row(i, 2), &c = w.row(i, 3);
  for_lanes(mask, [&](int l) {
    store<T>(d, l, std::fma(load<T>(a, l, i.ftz), load<T>(b, l, i.ftz), load<T>(c, l, i.ftz)), i);
  });
}

struct Add {
  template <class T>
  T operator()(T a, T b) const {
    return a + b;
  }
};
struct Sub {
  template <class T>
  T operator()(T a, T b) const {
    return a - b;
  }
};
struct Mul {
  template <class T>
  T operator()(T a, T b) const {
    return a * b;
  }
};
struct Div {
  template <class T>
  T operator()(T a, T b) const {
    return a / b;
  }
};
/// One NaN loses against a number; -0 is less than +0.
struct Min {
  template <class T>
  T operator()(T a, T b) const {
    if (a != a) return b;
    if (b != b) return a;
    return a == b ? (std::signbit(a) ? a : b) : std::min(a, b);
  }
};
struct Max {
  template <class T>
  T operator()(T a, T b) const {
    if (a != a) return b;
    if (b != b) return a;
    return a == b ? (std::signbit(a) ? b : a) : std::max(a, b);
  }
};
struct MinNan {
  template <class T>
  T operator()(T a, T b) const {
    return a != a || b != b ? a + b : Min()(a, b);
  }
};
struct MaxNan {
  template <class T>
  T operator()(T a, T b) const {
    return a != a || b != b ? a + b : Max()(a, b);
  }
};
struct CopySign {  // copysign d, a, b: the sign of a on b
  template <class T>
  T operator()(T a, T b) const {
    return std::copysign(b, a);
  }
};
struct Sqrt {
  template <class T>
  T operator()(T a) const {
    return std::sqrt(a);
  }
};
struct Reciprocal {
  template <class T>
  T operator()(T a) const {
    return T{1} / a;
  }
};
struct ReciprocalSqrt {
  template <class T>
  T operator()(T a) const {
    return static_cast<T>(1 / std::sqrt(static_cast<long double>(a)));
  }
};
struct Exp2 {
  template <class T>
  T operator()(T a) const {
    return static_cast<T>(std::exp2(double{a}));
  }
};
struct Log2 {
  template <class T>
  T operator()(T a) const {
    return static_cast<T>(std::log2(double{a}));
  }
};
struct Sin {
  template <class T>
  T operator()(T a) const {
    return static_cast<T>(std::sin(double{a}));
  }
};
struct Cos {
  template <class T>
  T operator()(T a) const {
    return static_cast<T>(std::cos(double{a}));
  }
};
struct Tanh {
  template <class T>
  T operator()(T a) const {
    return static_cast<T>(std::tanh(double{a}));
  }
};

/// neg and abs change one bit only; a NaN stays the NaN it is.
template <class Bits, bool kNegate>
void sign(Warp& w, const Instr& i, std::uint32_t mask) {
  Row &d = w.row(i, 0), &a = w.row(i, 1);
  constexpr Bits top = Bits{1} << (8 * sizeof(Bits) - 1);
  for_lanes(mask, [&](int l) {
    auto bits = get<Bits>(a, l);
    bits = static_cast<Bits>(kNegate ? bits ^ top : bits & ~top);
    if (i.ftz && sizeof(Bits) == 4 && !(bits & 0x7f800000u)) bits &= top;
    put(d, l, bits);
  });
}

/// Two 16-bit operations side by side: runs the scalar action on each half.
template <class T, Action kScalar, int kOperands>
void packed(Warp& w, const Instr& i, std::uint32_t mask) {
  Row whole[kOperands + 1], result{};
  for (int n = 1; n <= kOperands; ++n) whole[n] = w.row(i, n);
  const Row before = w.row(i, 0);
  for (int half = 0; half < 2; ++half) {
    Row saved[kOperands + 1];
    for (int n = 1; n <= kOperands; ++n) {
      saved[n] = w.row(i, n);
      for_lanes(mask, [&](int l) {
        put(w.row(i, n), l, static_cast<std::uint16_t>(whole[n].lane[l] >> (16 * half)));
      });
    }
    kScalar(w, i, mask);
    for_lanes(mask, [&](int l) {
      result.lane[l] |= std::uint64_t{get<std::uint16_t>(w.row(i, 0), l)} << (16 * half);
    });
    for (int n = 1; n <= kOperands; ++n) w.row(i, n) = saved[n];
  }
  w.row(i, 0) = before;
  for_lanes(mask, [&](int l) { w.row(i, 0).lane[l] = result.lane[l]; });
}

template <class Op>
Action unary(const std::string& type) {
  if (type == "f32") return one<float, Op>;
  if (type == "f64") return one<double, Op>;
  if (type == "f16") return one<Half, Op>;
  return type == "bf16" ? one<Bfloat, Op> : nullptr;
}
template <class Op>
Action binary(const std::string& type) {
  if (type == "f32") return two<float, Op>;
  if (type == "f64") return two<double, Op>;
  if (type == "f16") return two<Half, Op>;
  if (type == "bf16") return two<Bfloat, Op>;
  if (type == "f16x2") return packed<Half, two<Half, Op>, 2>;
  return type == "bf16x2" ? packed<Bfloat, two<Bfloat, Op>, 2> : nullptr;
}

Action sign_of(const std::string& type, bool negate) {
  if (type == "f32") return negate ? sign<std::uint32_t, true> : sign<std::uint32_t, false>;
  if (type == "f64") return negate ? sign<std::uint64_t, true> : sign<std::uint64_t, false>;
  if (type == "f16" || type == "bf16") {
    return negate ? sign<std::uint16_t, true> : sign<std::uint16_t, false>;
  }
  return nullptr;
}

}  // namespace

Action find_floating(const Mnemonic& op, Instr&) {
  const std::string &base = op.base, type = op.type();
  if (type.empty() || (type[0] != 'f' && type.substr(0, 2) != "bf")) return nullptr;
  if (base == "add") return binary<Add>(type);
  if (base == "sub") return binary<Sub>(type);
  if (base == "mul") return binary<Mul>(type);
  if (base == "div") return binary<Div>(type);
  if (base == "min") return op.has("NaN") ? binary<MinNan>(type) : binary<Min>(type);
  if (base == "max") return op.has("NaN") ? binary<MaxNan>(type) : binary<Max>(type);
  if (base == "copysign") return binary<CopySign>(type);
  if (base == "fma" || base == "mad") {
    if (type == "f32") return fused<float>;
    if (type == "f64") return fused<double>;
    if (type == "f16") return fused<Half>;
    if (type == "bf16") return fused<Bfloat>;
    if (type == "f16x2") return packed<Half, fused<Half>, 3>;
    return packed<Bfloat, fused<Bfloat>, 3>;
  }
  if (base == "neg" || base == "abs") return sign_of(type, base == "neg");
  if (base == "sqrt") return unary<Sqrt>(type);
  if (base == "rcp") return unary<Reciprocal>(type);
  if (base == "rsqrt") return unary<ReciprocalSqrt>(type);
  if (base == "ex2") return unary<Exp2>(type);
  if (base == "lg2") return unary<Log2>(type);
  if (base == "sin") return unary<Sin>(type);
  if (base == "cos") return unary<Cos>(type);
  if (base == "tanh") return unary<Tanh>(type);
  return nullptr;
}

}  // namespace emu
