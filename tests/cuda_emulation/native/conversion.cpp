// cvt: between all number types, with rounding, saturation and packing of 16-bit floats; cvta.
#include "floats.hpp"

#include <limits>

#include "executor.hpp"
#include "memory.hpp"

namespace emu {
namespace {

template <class T>
inline constexpr bool is_float = std::is_floating_point_v<T> || is_float16<T>;

/// A float, rounded to an integer in the current mode, or the float itself.
template <class D, class S>
D convert(S value, const Instr& i, bool to_integer_value) {
  if constexpr (is_float<S>) {
    double x = value;
    if (std::is_same_v<S, float> && i.ftz) x = flush(static_cast<float>(x));
    if constexpr (is_float<D>) {
      if (to_integer_value) x = std::nearbyint(x);
      if (i.sat) x = saturate(x);
      if constexpr (is_float16<D>) {
        return D::from(x);
      } else if constexpr (std::is_same_v<D, float>) {
        const float result = canonical(static_cast<float>(x));
        return i.ftz ? flush(result) : result;
      } else {
        return x;
      }
    } else {  // out of range: the nearest end; NaN: 0
      if (x != x) return D{0};
      x = std::nearbyint(x);
      if (x <= static_cast<double>(std::numeric_limits<D>::min())) {
        return std::numeric_limits<D>::min();
      }
      if (x >= static_cast<double>(std::numeric_limits<D>::max())) {
        return std::numeric_limits<D>::max();
      }
      return static_cast<D>(x);
    }
  } else if constexpr (is_float16<D>) {
    return D::from(static_cast<double>(value));  // exact for all integers that do not overflow
  } else if constexpr (is_float<D>) {
    const D result = static_cast<D>(value);
    return i.sat ? saturate(result) : result;
  } else {
    if (i.sat) {
      const __int128 wide = value, low = std::numeric_limits<D>::min(),
                     high = std::numeric_limits<D>::max();
      return static_cast<D>(wide < low ? low : wide > high ? high : wide);
    }
    return static_cast<D>(value);
  }
}

template <class D, class S>
void cvt(Warp& w, const Instr& i, std::uint32_t mask) {
  const Rounding rounding(i.rounding);
  const bool whole = i.whole;
  Row &d = w.row(i, 0), &a = w.row(i, 1);
  for_lanes(mask, [&](int l) { put<D>(d, l, convert<D, S>(get<S>(a, l), i, whole)); });
}

/// cvt.rn.f16x2.f32 d, a, b: a goes into the upper half.
template <class D>
void cvt_pair(Warp& w, const Instr& i, std::uint32_t mask) {
  const Rounding rounding(i.rounding);
  Row &d = w.row(i, 0), &a = w.row(i, 1), &b = w.row(i, 2);
  for_lanes(mask, [&](int l) {
    const std::uint32_t high = convert<D, float>(get<float>(a, l), i, false).bits;
    const std::uint32_t low = convert<D, float>(get<float>(b, l), i, false).bits;
    put(d, l, high << 16 | low);
  });
}

template <class D>
Action from(const std::string& type) {
  if (type == "s8") return cvt<D, std::int8_t>;
  if (type == "u8") return cvt<D, std::uint8_t>;
  if (type == "s16") return cvt<D, std::int16_t>;
  if (type == "u16") return cvt<D, std::uint16_t>;
  if (type == "s32") return cvt<D, std::int32_t>;
  if (type == "u32") return cvt<D, std::uint32_t>;
  if (type == "s64") return cvt<D, std::int64_t>;
  if (type == "u64") return cvt<D, std::uint64_t>;
  if (type == "f16") return cvt<D, Half>;
  if (type == "bf16") return cvt<D, Bfloat>;
  if (type == "f32") return cvt<D, float>;
  return type == "f64" ? cvt<D, double> : nullptr;
}
Action between(const std::string& to, const std::string& type) {
  if (to == "s8") return from<std::int8_t>(type);
  if (to == "u8") return from<std::uint8_t>(type);
  if (to == "s16") return from<std::int16_t>(type);
  if (to == "u16") return from<std::uint16_t>(type);
  if (to == "s32") return from<std::int32_t>(type);
  if (to == "u32") return from<std::uint32_t>(type);
  if (to == "s64") return from<std::int64_t>(type);
  if (to == "u64") return from<std::uint64_t>(type);
  if (to == "f16") return from<Half>(type);
  if (to == "bf16") return from<Bfloat>(type);
  if (to == "f32") return from<float>(type);
  return to == "f64" ? from<double>(type) : nullptr;
}

std::uint64_t window(const Mnemonic& op) {
  return op.has("shared")  ? kSharedWindow
         : op.has("local") ? kLocalWindow
         : op.has("param") ? kParamWindow
                           : 0;
}

/// Between an address in a state space and the generic address of the same byte.
template <bool kToSpace>
void cvta(Warp& w, const Instr& i, std::uint32_t mask) {
  Row &d = w.row(i, 0), &a = w.row(i, 1);
  const auto base = static_cast<std::uint64_t>(i.offset);
  for_lanes(mask, [&](int l) {
    const auto address = get<std::uint64_t>(a, l);
    put(d, l, kToSpace ? address - base : address + base);
  });
}

void is_space(Warp& w, const Instr& i, std::uint32_t mask) {
  Row& a = w.row(i, 1);
  const auto base = static_cast<std::uint64_t>(i.offset);
  std::uint32_t bits = 0;
  for_lanes(mask, [&](int l) {
    const auto address = get<std::uint64_t>(a, l);
    const bool in_window = address >= kSharedWindow;
    const bool is = base == 0 ? !in_window : address >= base && address - base < kWindowSize;
    bits |= is ? 1u << l : 0;
  });
  w.set_predicate(i, 0, mask, bits);
}

}  // namespace

Action find_conversion(const Mnemonic& op, Instr& instr) {
  if (op.base == "cvta") {
    instr.offset = static_cast<std::int64_t>(window(op));
    return op.has("to") ? cvta<true> : cvta<false>;
  }
  if (op.base == "isspacep") {
    instr.offset = static_cast<std::int64_t>(window(op));
    return is_space;
  }
  if (op.base != "cvt") return nullptr;
  for (const auto& [name, mode] : {std::pair{"rni", FE_TONEAREST}, std::pair{"rzi", FE_TOWARDZERO},
                                   std::pair{"rmi", FE_DOWNWARD}, std::pair{"rpi", FE_UPWARD}}) {
    if (op.has(name)) {
      instr.rounding = mode;
      instr.whole = true;
    }
  }
  if (op.type() == "f16x2") return op.type(1) == "f32" ? cvt_pair<Half> : nullptr;
  if (op.type() == "bf16x2") return op.type(1) == "f32" ? cvt_pair<Bfloat> : nullptr;
  if (op.has("relu") || op.has("rna")) return nullptr;
  return between(op.type(), op.type(1));
}

}  // namespace emu
