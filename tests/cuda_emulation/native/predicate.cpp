// Comparisons and predicate logic.
#include <cmath>

#include "executor.hpp"
#include "floats.hpp"

namespace emu {
namespace {

enum class Compare { eq, ne, lt, le, gt, ge, num, nan };

template <class T, Compare kCompare, bool kUnordered>
bool holds(T a, T b) {
  const bool unordered = a != a || b != b;  // false for integers
  if (kCompare == Compare::num) return !unordered;
  if (kCompare == Compare::nan) return unordered;
  if (unordered) return kUnordered;
  switch (kCompare) {
    case Compare::eq:
      return a == b;
    case Compare::ne:
      return a != b;
    case Compare::lt:
      return a < b;
    case Compare::le:
      return a <= b;
    case Compare::gt:
      return a > b;
    default:
      return a >= b;
  }
}

/// What a third operand does to the result of the comparison.
std::uint32_t combine(const Mnemonic& op, std::uint32_t result, std::uint32_t third) {
  if (op.has("and")) return result & third;
  if (op.has("or")) return result | third;
  return op.has("xor") ? result ^ third : result;
}

template <class T, Compare kCompare, bool kUnordered>
void setp(Warp& w, const Instr& i, std::uint32_t mask) {
  Row &a = w.row(i, 2), &b = w.row(i, 3);
  std::uint32_t bits = 0;
  for_lanes(mask, [&](int l) {
    auto x = get<T>(a, l), y = get<T>(b, l);
    if constexpr (std::is_same_v<T, float>) {
      if (i.ftz) x = flush(x), y = flush(y);
    }
    bool result;
    if constexpr (is_float16<T>) {
      result = holds<double, kCompare, kUnordered>(x, y);
    } else {
      result = holds<T, kCompare, kUnordered>(x, y);
    }
    bits |= static_cast<std::uint32_t>(result) << l;
  });
  std::uint32_t first = bits, second = ~bits;
  if (i.args > 4) {
    const Mnemonic op(i.opcode);
    const std::uint32_t third = w.predicate(i, 4);
    first = combine(op, bits, third);
    second = combine(op, ~bits, third);
  }
  w.set_predicate(i, 0, mask, first);
  w.set_predicate(i, 1, mask, second);
}

template <class T>
Action compare(const std::string& name) {
  if (name == "eq") return setp<T, Compare::eq, false>;
  if (name == "ne") return setp<T, Compare::ne, false>;
  if (name == "lt" || name == "lo") return setp<T, Compare::lt, false>;
  if (name == "le" || name == "ls") return setp<T, Compare::le, false>;
  if (name == "gt" || name == "hi") return setp<T, Compare::gt, false>;
  if (name == "ge" || name == "hs") return setp<T, Compare::ge, false>;
  if (name == "equ") return setp<T, Compare::eq, true>;
  if (name == "neu") return setp<T, Compare::ne, true>;
  if (name == "ltu") return setp<T, Compare::lt, true>;
  if (name == "leu") return setp<T, Compare::le, true>;
  if (name == "gtu") return setp<T, Compare::gt, true>;
  if (name == "geu") return setp<T, Compare::ge, true>;
  if (name == "num") return setp<T, Compare::num, false>;
  return name == "nan" ? setp<T, Compare::nan, true> : nullptr;
}

Action compare_type(const std::string& name, const std::string& type) {
  if (type == "s16") return compare<std::int16_t>(name);
  if (type == "u16" || type == "b16") return compare<std::uint16_t>(name);
  if (type == "s32") return compare<std::int32_t>(name);
  if (type == "u32" || type == "b32") return compare<std::uint32_t>(name);
  if (type == "s64") return compare<std::int64_t>(name);
  if (type == "u64" || type == "b64") return compare<std::uint64_t>(name);
  if (type == "f16") return compare<Half>(name);
  if (type == "bf16") return compare<Bfloat>(name);
  if (type == "f32") return compare<float>(name);
  return type == "f64" ? compare<double>(name) : nullptr;
}

enum class Logic { move, negate, conjunction, disjunction, difference };

template <Logic kLogic>
void logic(Warp& w, const Instr& i, std::uint32_t mask) {
  const std::uint32_t a = w.predicate(i, 1);
  const std::uint32_t b = i.args > 2 ? w.predicate(i, 2) : 0;
  const std::uint32_t result = kLogic == Logic::move          ? a
                               : kLogic == Logic::negate      ? ~a
                               : kLogic == Logic::conjunction ? a & b
                               : kLogic == Logic::disjunction ? a | b
                                                              : a ^ b;
  w.set_predicate(i, 0, mask, result);
}

/// mov.pred p, 0 or -1: the operand is a constant.
void constant(Warp& w, const Instr& i, std::uint32_t mask) {
  w.set_predicate(i, 0, mask, i.offset != 0 ? mask : 0);
}

void select(Warp& w, const Instr& i, std::uint32_t mask) {
  const std::uint32_t which = w.predicate(i, 3);
  w.set_predicate(i, 0, mask, (which & w.predicate(i, 1)) | (~which & w.predicate(i, 2)));
}

template <class T>
void test_property(Warp& w, const Instr& i, std::uint32_t mask) {
  const Mnemonic op(i.opcode);
  std::uint32_t bits = 0;
  for_lanes(mask, [&](int l) {
    const auto x = get<T>(w.row(i, 1), l);
    const bool is = op.has("finite")       ? std::isfinite(x)
                    : op.has("infinite")   ? std::isinf(x)
                    : op.has("number")     ? !std::isnan(x)
                    : op.has("notanumber") ? std::isnan(x)
                    : op.has("normal")     ? std::isnormal(x)
                                           : std::fpclassify(x) == FP_SUBNORMAL;
    bits |= static_cast<std::uint32_t>(is) << l;
  });
  w.set_predicate(i, 0, mask, bits);
}

}  // namespace

Action find_predicate(const Mnemonic& op, Instr&) {
  if (op.base == "setp" && !op.parts.empty()) return compare_type(op.parts[0], op.type());
  if (op.base == "testp") {
    return op.type() == "f32" ? test_property<float> : test_property<double>;
  }
  if (op.base == "constp") return constant;
  if (op.type() != "pred") return nullptr;
  if (op.base == "mov") return logic<Logic::move>;
  if (op.base == "not") return logic<Logic::negate>;
  if (op.base == "and") return logic<Logic::conjunction>;
  if (op.base == "or") return logic<Logic::disjunction>;
  if (op.base == "xor") return logic<Logic::difference>;
  return op.base == "selp" ? select : nullptr;
}

}  // namespace emu
