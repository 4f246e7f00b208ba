// Logic, shifts and bit fields; moves, selections and packing of any type.
#include <algorithm>

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
/// Wraps around without undefined behaviour.
template <class T>
using Modular = std::conditional_t<(sizeof(T) < 4), uint32_t, std::make_unsigned_t<T>>;

struct And {
  template <class T>
  T operator()(T a, T b) const {
    return static_cast<T>(a & b);
  }
};
struct Or {
  template <class T>
  T operator()(T a, T b) const {
    return static_cast<T>(a | b);
  }
};
struct Xor {
  template <class T>
  T operator()(T a, T b) const {
    return static_cast<T>(a ^ b);
  }
};
struct Not {
  template <class T>
  T operator()(T a) const {
    return static_cast<T>(~a);
  }
};
struct CNot {
  template <class T>
  T operator()(T a) const {
    return a == 0;
  }
};
struct Popc {
  template <class T>
  uint32_t operator()(T a) const {
    return static_cast<uint32_t>(__builtin_popcountll(a));
  }
};
struct Clz {
  template <class T>
  uint32_t operator()(T a) const {
    constexpr int bits = 8 * sizeof(T);
    return a == 0 ? bits : static_cast<uint32_t>(__builtin_clzll(a) - (64 - bits));
  }
};
struct Brev {
  template <class T>
  T operator()(T a) const {
    T r = 0;
    for (unsigned k = 0; k < 8 * sizeof(T); ++k) r = static_cast<T>((r << 1) | (a >> k & 1));
    return r;
  }
};

/// Shifts take a 32-bit count; a count past the width gives zeros, or the sign.
template <class T, bool kLeft>
void shift(Warp& w, const Instr& i, uint32_t mask) {
  Row &d = w.row(i, 0), &a = w.row(i, 1), &b = w.row(i, 2);
  constexpr uint32_t bits = 8 * sizeof(T);
  for_lanes(mask, [&](int l) {
    const auto v = get<T>(a, l);
    const auto n = get<uint32_t>(b, l);
    if (kLeft) {
      put<T>(d, l, n >= bits ? T{0} : static_cast<T>(static_cast<Modular<T>>(v) << n));
    } else {
      const T sign = std::is_signed_v<T> && v < 0 ? static_cast<T>(-1) : T{0};
      put<T>(d, l, n >= bits ? sign : static_cast<T>(v >> n));
    }
  });
}

template <bool kLeft, bool kWrap>
void funnel(Warp& w, const Instr& i, uint32_t mask) {
  Row &d = w.row(i, 0), &a = w.row(i, 1), &b = w.row(i, 2), &c = w.row(i, 3);
  for_lanes(mask, [&](int l) {
    const uint64_t value = uint64_t{get<uint32_t>(b, l)} << 32 | get<uint32_t>(a, l);
    const uint32_t count = get<uint32_t>(c, l);
    const uint32_t n = kWrap ? count & 31 : std::min(count, 32u);
    put(d, l, static_cast<uint32_t>(kLeft ? value << n >> 32 : value >> n));
  });
}

void lop3(Warp& w, const Instr& i, uint32_t mask) {
  Row &d = w.row(i, 0), &a = w.row(i, 1), &b = w.row(i, 2), &c = w.row(i, 3), &t = w.row(i, 4);
  for_lanes(mask, [&](int l) {
    const auto x = get<uint32_t>(a, l), y = get<uint32_t>(b, l), z = get<uint32_t>(c, l);
    const auto table = get<uint32_t>(t, l);
    uint32_t r = 0;
    for (int k = 0; k < 8; ++k) {
      if (table >> k & 1) r |= (k & 4 ? x : ~x) & (k & 2 ? y : ~y) & (k & 1 ? z : ~z);
    }
    put(d, l, r);
  });
}

template <class T>
void bit_field_extract(Warp& w, const Instr& i, uint32_t mask) {
  Row &d = w.row(i, 0), &a = w.row(i, 1), &b = w.row(i, 2), &c = w.row(i, 3);
  constexpr int bits = 8 * sizeof(T);
  for_lanes(mask, [&](int l) {
    const auto v = get<T>(a, l);
    const int pos = get<uint32_t>(b, l) & 255, len = get<uint32_t>(c, l) & 255;
    const bool sign =
        std::is_signed_v<T> && len > 0 && (v >> std::min(pos + len - 1, bits - 1) & 1);
    T r = 0;
    for (int k = 0; k < bits; ++k) {
      const bool bit = k < len && pos + k < bits ? v >> (pos + k) & 1 : sign;
      if (bit) r = static_cast<T>(r | static_cast<T>(std::make_unsigned_t<T>{1} << k));
    }
    put<T>(d, l, r);
  });
}
template <class T>
void bit_field_insert(Warp& w, const Instr& i, uint32_t mask) {
  Row &d = w.row(i, 0), &a = w.row(i, 1), &b = w.row(i, 2), &c = w.row(i, 3), &e = w.row(i, 4);
  constexpr int bits = 8 * sizeof(T);
  for_lanes(mask, [&](int l) {
    const int pos = get<uint32_t>(c, l) & 255, len = get<uint32_t>(e, l) & 255;
    T r = get<T>(b, l);
    for (int k = 0; k < len && pos + k < bits; ++k) {
      const T bit = T{1} << (pos + k);
      r = get<T>(a, l) >> k & 1 ? r | bit : r & ~bit;
    }
    put<T>(d, l, r);
  });
}
template <class T>
void find_leading_bit(Warp& w, const Instr& i, uint32_t mask) {
  Row &d = w.row(i, 0), &a = w.row(i, 1);
  const bool shift_amount = i.opcode.find("shiftamt") != std::string::npos;
  for_lanes(mask, [&](int l) {
    T v = get<T>(a, l);
    if (std::is_signed_v<T> && v < 0) v = static_cast<T>(~v);
    const int bits = 8 * sizeof(T);
    const int at = v == 0 ? -1 : 63 - __builtin_clzll(static_cast<std::make_unsigned_t<T>>(v));
    put(d, l, static_cast<uint32_t>(at < 0 ? -1 : shift_amount ? bits - 1 - at : at));
  });
}

void permute_bytes(Warp& w, const Instr& i, uint32_t mask) {
  Row &d = w.row(i, 0), &a = w.row(i, 1), &b = w.row(i, 2), &c = w.row(i, 3);
  for_lanes(mask, [&](int l) {
    const uint64_t value = uint64_t{get<uint32_t>(b, l)} << 32 | get<uint32_t>(a, l);
    const auto selector = get<uint32_t>(c, l);
    uint32_t r = 0;
    for (int k = 0; k < 4; ++k) {
      const uint32_t nibble = selector >> (4 * k) & 15;
      uint32_t byte = value >> (8 * (nibble & 7)) & 255;
      if (nibble & 8) byte = byte & 128 ? 255 : 0;
      r |= byte << (8 * k);
    }
    put(d, l, r);
  });
}

template <class T>
void move(Warp& w, const Instr& i, uint32_t mask) {
  Row &d = w.row(i, 0), &a = w.row(i, 1);
  for_lanes(mask, [&](int l) { put<T>(d, l, get<T>(a, l)); });
}
template <class T>
void select(Warp& w, const Instr& i, uint32_t mask) {
  Row &d = w.row(i, 0), &a = w.row(i, 1), &b = w.row(i, 2);
  const uint32_t p = w.predicate(i, 3);
  for_lanes(mask, [&](int l) { put<T>(d, l, p >> l & 1 ? get<T>(a, l) : get<T>(b, l)); });
}
template <class T>
void pack(Warp& w, const Instr& i, uint32_t mask) {
  for_lanes(mask, [&](int l) {
    uint64_t value = 0;
    for (int k = 1; k < i.args; ++k) {
      value |= uint64_t{get<T>(w.row(i, k), l)} << (8 * sizeof(T) * static_cast<unsigned>(k - 1));
    }
    put<uint64_t>(w.row(i, 0), l, value);
  });
}
template <class T>
void unpack(Warp& w, const Instr& i, uint32_t mask) {
  for_lanes(mask, [&](int l) {
    const auto value = get<uint64_t>(w.row(i, i.args - 1), l);
    for (int k = 0; k < i.args - 1; ++k) {
      put<T>(w.row(i, k), l, static_cast<T>(value >> (8 * sizeof(T) * static_cast<unsigned>(k))));
    }
  });
}

template <template <class> class Pick>
Action by_bits(const std::string& type) {
  if (type.empty() || type == "pred") return nullptr;
  if (type.back() == '8') return Pick<uint8_t>::action;
  const std::string bits = type.substr(type.find_first_of("123468"));
  if (type.find("x2") != std::string::npos || bits == "32") return Pick<uint32_t>::action;
  return bits == "16" ? Pick<uint16_t>::action : Pick<uint64_t>::action;
}
template <class T>
struct PickMove {
  static constexpr Action action = move<T>;
};
template <class T>
struct PickSelect {
  static constexpr Action action = select<T>;
};
template <class T>
struct PickPack {
  static constexpr Action action = pack<T>;
};
template <class T>
struct PickUnpack {
  static constexpr Action action = unpack<T>;
};
template <class Op>
struct Bits {
  template <class T>
  struct Two {
    static constexpr Action action = two<T, T, Op>;
  };
  template <class T>
  struct One {
    static constexpr Action action = one<T, T, Op>;
  };
};

}  // namespace

Action find_bits(const Mnemonic& op, Instr&) {
  const std::string &base = op.base, type = op.type();
  const bool wide = type.size() > 2 && type.substr(1) == "64";
  if (base == "mov") return by_bits<PickMove>(type);
  if (base == "selp") return by_bits<PickSelect>(type);
  if (base == "pack") return by_bits<PickPack>(type);
  if (base == "unpack") return by_bits<PickUnpack>(type);
  if (type.empty() || type == "pred" || type[0] == 'f' || type.substr(0, 2) == "bf") return nullptr;
  if (base == "and") return by_bits<Bits<And>::Two>(type);
  if (base == "or") return by_bits<Bits<Or>::Two>(type);
  if (base == "xor") return by_bits<Bits<Xor>::Two>(type);
  if (base == "not") return by_bits<Bits<Not>::One>(type);
  if (base == "cnot") return by_bits<Bits<CNot>::One>(type);
  if (base == "popc") return wide ? one<uint32_t, uint64_t, Popc> : one<uint32_t, uint32_t, Popc>;
  if (base == "clz") return wide ? one<uint32_t, uint64_t, Clz> : one<uint32_t, uint32_t, Clz>;
  if (base == "brev") return wide ? one<uint64_t, uint64_t, Brev> : one<uint32_t, uint32_t, Brev>;
  if (base == "shl") {
    if (type == "b16") return shift<uint16_t, true>;
    return wide ? shift<uint64_t, true> : shift<uint32_t, true>;
  }
  if (base == "shr") {
    if (type == "s16") return shift<int16_t, false>;
    if (type == "s32") return shift<int32_t, false>;
    if (type == "s64") return shift<int64_t, false>;
    if (type.substr(1) == "16") return shift<uint16_t, false>;
    return wide ? shift<uint64_t, false> : shift<uint32_t, false>;
  }
  if (base == "shf") {
    const bool wrap = op.has("wrap");
    if (op.has("l")) return wrap ? funnel<true, true> : funnel<true, false>;
    return wrap ? funnel<false, true> : funnel<false, false>;
  }
  if (base == "lop3") return lop3;
  if (base == "bfe") {
    if (type[0] == 's') return wide ? bit_field_extract<int64_t> : bit_field_extract<int32_t>;
    return wide ? bit_field_extract<uint64_t> : bit_field_extract<uint32_t>;
  }
  if (base == "bfi") return wide ? bit_field_insert<uint64_t> : bit_field_insert<uint32_t>;
  if (base == "bfind") {
    if (type[0] == 's') return wide ? find_leading_bit<int64_t> : find_leading_bit<int32_t>;
    return wide ? find_leading_bit<uint64_t> : find_leading_bit<uint32_t>;
  }
  if (base == "prmt") return op.parts.size() > 1 ? nullptr : permute_bytes;
  return nullptr;
}

}  // namespace emu
