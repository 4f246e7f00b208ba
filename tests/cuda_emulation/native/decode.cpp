// The way from an opcode to the function that executes it.
#include <algorithm>
#include <cfenv>
#include <set>

#include "executor.hpp"

namespace emu {

Mnemonic::Mnemonic(const std::string& opcode) {
  std::size_t start = 0;
  bool first = true;
  while (start <= opcode.size()) {
    std::size_t end = opcode.find('.', start);
    if (end == std::string::npos) end = opcode.size();
    std::string part = opcode.substr(start, end - start);
    part = part.substr(0, part.find("::"));  // shared::cta, L1::no_allocate, L2::128B
    if (first) {
      base = part;
    } else {
      parts.push_back(part);
    }
    first = false;
    start = end + 1;
  }
}

bool Mnemonic::has(const char* part) const {
  return std::find(parts.begin(), parts.end(), part) != parts.end();
}

std::string Mnemonic::type(int n) const {
  static const std::set<std::string> types = {"b8",   "s8",  "u8",    "b16",    "s16", "u16", "f16",
                                              "bf16", "b32", "s32",   "u32",    "f32", "b64", "s64",
                                              "u64",  "f64", "f16x2", "bf16x2", "pred"};
  for (const auto& part : parts) {
    if (types.count(part) && n-- == 0) return part;
  }
  return "";
}

void decode(Instr& instr) {
  const Mnemonic op(instr.opcode);
  instr.rounding = op.has("rz")   ? FE_TOWARDZERO
                   : op.has("rm") ? FE_DOWNWARD
                   : op.has("rp") ? FE_UPWARD
                                  : FE_TONEAREST;
  instr.ftz = op.has("ftz");
  instr.sat = op.has("sat");
  const auto nothing = [](Warp&, const Instr&, std::uint32_t) {};
  if (op.base == "bra") {
    instr.flow = Flow::branch;
  } else if (op.base == "brx") {
    instr.flow = Flow::indexed;
  } else if (op.base == "ret" || op.base == "exit") {
    instr.flow = Flow::exit;
  } else if (op.base == "trap" || op.base == "assertfail") {
    instr.action = [](Warp& w, const Instr& i, std::uint32_t mask) {
      throw Violation((i.opcode == "trap" ? "trap executed, " : "device assertion failed, ") +
                      place(w, __builtin_ctz(mask)));
    };
  } else if (op.base == "nanosleep" || op.base == "prefetch" || op.base == "prefetchu" ||
             op.base == "discard" || op.base == "griddepcontrol" || op.base == "pmevent") {
    instr.action = nothing;
  } else {
    for (const auto find : {find_integer, find_bits, find_floating, find_conversion, find_predicate,
                            find_warp, find_memory}) {
      instr.action = find(op, instr);
      if (instr.action != nullptr || instr.flow == Flow::barrier) break;
    }
    if (instr.action == nullptr && instr.flow != Flow::barrier) {
      throw Unsupported("unsupported instruction: " + instr.text);
    }
  }
  if (instr.mask_arg >= 0) instr.flow = Flow::collective;
}

}  // namespace emu
