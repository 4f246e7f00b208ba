// Integer arithmetic.
#include <algorithm>
#include <array>

#include "executor.hpp"

namespace emu {
namespace {

using std::int16_t, std::int32_t, std::int64_t, std::uint16_t, std::uint32_t, std::uint64_t;

// ---- d = op(a), op(a, b), op(a, b, c): operands of type T, a result of type D
template <class D, class T, class Op>
void one(Warp& w, const Instr& i, uint32_t mask) {
  Row &d = w.row(i, 0), &a = w.row(i, 1);
  for_lanes(mask, [&](int l) { put<D>(d, l, static_cast<D>(Op()(get<T>(a, l)))); });
}
template <class D, class T, class Op>
void two(Warp& w, const Instr& i, uint32_t mask) {
  Row &d = w.row(i, 0), &a = w.row(i, 1), &b = w.row(i, 2);
  for_lanes(mask, [&](int l) { put<D>(d, l, static_cast<D>(Op()(get<T>(a, l), get<T>(b, l)))); });
}
template <class D, class T, class C, class Op>
void three(Warp& w, const Instr& i, uint32_t mask) {
  Row &d = w.row(i, 0), &a = w.row(i, 1), &b = w.row(i, 2), &c = w.row(i, 3);
  for_lanes(mask, [&](int l) {
    put<D>(d, l, static_cast<D>(Op()(get<T>(a, l), get<T>(b, l), get<C>(c, l))));
  });
}

template <class T>
using Wide = std::conditional_t<
    std::is_signed_v<T>,
    std::conditional_t<sizeof(T) == 2, int32_t,
                       std::conditional_t<sizeof(T) == 4, int64_t, __int128>>,
    std::conditional_t<sizeof(T) == 2, uint32_t,
                       std::conditional_t<sizeof(T) == 4, uint64_t, unsigned __int128>>>;
/// Wraps around without undefined behaviour.
template <class T>
using Modular = std::conditional_t<(sizeof(T) < 4), uint32_t, std::make_unsigned_t<T>>;

template <class T>
T add_wrapped(T a, T b) {
  return static_cast<T>(static_cast<Modular<T>>(a) + static_cast<Modular<T>>(b));
}
template <class T>
T multiply_low(T a, T b) {
  return static_cast<T>(static_cast<Modular<T>>(a) * static_cast<Modular<T>>(b));
}
template <class T>
T multiply_high(T a, T b) {
  return static_cast<T>((static_cast<Wide<T>>(a) * static_cast<Wide<T>>(b)) >> (8 * sizeof(T)));
}
template <class T>
Wide<T> multiply_wide(T a, T b) {
  return static_cast<Wide<T>>(a) * static_cast<Wide<T>>(b);
}

struct Add {
  template <class T>
  T operator()(T a, T b) const {
    return add_wrapped(a, b);
  }
};
struct AddSaturated {  // add.sat.s32
  int32_t operator()(int32_t a, int32_t b) const {
    return static_cast<int32_t>(std::clamp<int64_t>(int64_t{a} + b, INT32_MIN, INT32_MAX));
  }
};
struct SubSaturated {
  int32_t operator()(int32_t a, int32_t b) const {
    return static_cast<int32_t>(std::clamp<int64_t>(int64_t{a} - b, INT32_MIN, INT32_MAX));
  }
};
struct Sub {
  template <class T>
  T operator()(T a, T b) const {
    return static_cast<T>(static_cast<Modular<T>>(a) - static_cast<Modular<T>>(b));
  }
};
struct MulLow {
  template <class T>
  T operator()(T a, T b) const {
    return multiply_low(a, b);
  }
};
struct MulHigh {
  template <class T>
  T operator()(T a, T b) const {
    return multiply_high(a, b);
  }
};
struct MulWide {
  template <class T>
  Wide<T> operator()(T a, T b) const {
    return multiply_wide(a, b);
  }
};
struct MadLow {
  template <class T>
  T operator()(T a, T b, T c) const {
    return add_wrapped(multiply_low(a, b), c);
  }
};
struct MadHigh {
  template <class T>
  T operator()(T a, T b, T c) const {
    return add_wrapped(multiply_high(a, b), c);
  }
};
struct MadWide {
  template <class T>
  Wide<T> operator()(T a, T b, Wide<T> c) const {
    return add_wrapped<Wide<T>>(multiply_wide(a, b), c);
  }
};
struct Div {  // by zero: the hardware gives all ones
  template <class T>
  T operator()(T a, T b) const {
    if (b == 0) return static_cast<T>(~T{0});
    if constexpr (std::is_signed_v<T>) {
      if (b == -1) return Sub()(T{0}, a);
    }
    return static_cast<T>(a / b);
  }
};
struct Rem {
  template <class T>
  T operator()(T a, T b) const {
    if (b == 0) return a;
    if constexpr (std::is_signed_v<T>) {
      if (b == -1) return 0;
    }
    return static_cast<T>(a % b);
  }
};
struct Min {
  template <class T>
  T operator()(T a, T b) const {
    return std::min(a, b);
  }
};
struct Max {
  template <class T>
  T operator()(T a, T b) const {
    return std::max(a, b);
  }
};
struct Neg {
  template <class T>
  T operator()(T a) const {
    return Sub()(T{0}, a);
  }
};
struct Abs {
  template <class T>
  T operator()(T a) const {
    return a < 0 ? Sub()(T{0}, a) : a;
  }
};
struct Sad {
  template <class T>
  T operator()(T a, T b, T c) const {
    return add_wrapped(c, a < b ? Sub()(b, a) : Sub()(a, b));
  }
};
/// add.cc, addc, sub.cc, subc, mad.cc, madc: arithmetic with the carry flag of each lane.
template <class T>
void carry(Warp& w, const Instr& i, uint32_t mask) {
  using U = std::make_unsigned_t<T>;
  using W = unsigned __int128;
  const Mnemonic op(i.opcode);
  const bool uses = op.base.back() == 'c', sets = op.has("cc"), high = op.has("hi");
  const std::string base = op.base.substr(0, 3);
  for_lanes(mask, [&](int l) {
    const W in = uses && (w.carry >> l & 1) ? 1 : 0;
    const auto arg = [&](int n) { return W{get<U>(w.row(i, n), l)}; };
    W r;
    if (base == "add") {
      r = arg(1) + arg(2) + in;
    } else if (base == "sub") {
      r = arg(1) - arg(2) - in;
    } else {
      const T p = get<T>(w.row(i, 1), l), q = get<T>(w.row(i, 2), l);
      const U product = static_cast<U>(high ? multiply_high(p, q) : multiply_low(p, q));
      r = W{product} + arg(3) + in;
    }
    if (sets) {
      const bool out = (r >> (8 * sizeof(T)) & 1) != 0;
      w.carry = (w.carry & ~(1u << l)) | (out ? 1u << l : 0);
    }
    put<U>(w.row(i, 0), l, static_cast<U>(r));
  });
}

template <class Op>
Action arithmetic(const std::string& type) {
  if (type == "s16") return two<int16_t, int16_t, Op>;
  if (type == "u16") return two<uint16_t, uint16_t, Op>;
  if (type == "s32") return two<int32_t, int32_t, Op>;
  if (type == "u32") return two<uint32_t, uint32_t, Op>;
  if (type == "s64") return two<int64_t, int64_t, Op>;
  if (type == "u64") return two<uint64_t, uint64_t, Op>;
  return nullptr;
}
template <class Op>
Action ternary(const std::string& type) {
  if (type == "s16") return three<int16_t, int16_t, int16_t, Op>;
  if (type == "u16") return three<uint16_t, uint16_t, uint16_t, Op>;
  if (type == "s32") return three<int32_t, int32_t, int32_t, Op>;
  if (type == "u32") return three<uint32_t, uint32_t, uint32_t, Op>;
  if (type == "s64") return three<int64_t, int64_t, int64_t, Op>;
  if (type == "u64") return three<uint64_t, uint64_t, uint64_t, Op>;
  return nullptr;
}
}  // namespace

Action find_integer(const Mnemonic& op, Instr& instr) {
  const std::string &base = op.base, type = op.type();
  const bool wide = type.size() > 2 && type.substr(1) == "64";
  if (type.empty() || type == "pred" || type[0] == 'f' || type.substr(0, 2) == "bf") return nullptr;
  if (op.has("cc") || base == "addc" || base == "subc" || base == "madc") {
    if (type[0] == 's') return wide ? carry<int64_t> : carry<int32_t>;
    return wide ? carry<uint64_t> : carry<uint32_t>;
  }
  if (base == "add") {
    return instr.sat ? two<int32_t, int32_t, AddSaturated> : arithmetic<Add>(type);
  }
  if (base == "sub") {
    return instr.sat ? two<int32_t, int32_t, SubSaturated> : arithmetic<Sub>(type);
  }
  if (base == "mul") {
    if (op.has("hi")) return arithmetic<MulHigh>(type);
    if (!op.has("wide")) return arithmetic<MulLow>(type);
    if (type == "s16") return two<int32_t, int16_t, MulWide>;
    if (type == "u16") return two<uint32_t, uint16_t, MulWide>;
    return type == "s32" ? two<int64_t, int32_t, MulWide> : two<uint64_t, uint32_t, MulWide>;
  }
  if (base == "mad") {
    if (op.has("hi")) return ternary<MadHigh>(type);
    if (!op.has("wide")) return ternary<MadLow>(type);
    if (type == "s16") return three<int32_t, int16_t, int32_t, MadWide>;
    if (type == "u16") return three<uint32_t, uint16_t, uint32_t, MadWide>;
    return type == "s32" ? three<int64_t, int32_t, int64_t, MadWide>
                         : three<uint64_t, uint32_t, uint64_t, MadWide>;
  }
  if (base == "div") return arithmetic<Div>(type);
  if (base == "rem") return arithmetic<Rem>(type);
  if (base == "min") return arithmetic<Min>(type);
  if (base == "max") return arithmetic<Max>(type);
  if (base == "sad") return ternary<Sad>(type);
  if (base == "neg" || base == "abs") {
    const bool neg = base == "neg";
    if (type == "s16") return neg ? one<int16_t, int16_t, Neg> : one<int16_t, int16_t, Abs>;
    if (type == "s32") return neg ? one<int32_t, int32_t, Neg> : one<int32_t, int32_t, Abs>;
    return neg ? one<int64_t, int64_t, Neg> : one<int64_t, int64_t, Abs>;
  }
  return nullptr;
}

}  // namespace emu
