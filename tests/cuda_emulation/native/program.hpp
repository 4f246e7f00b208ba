// What the executor runs: a kernel as a list of instructions over rows of registers.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

namespace emu {

constexpr int kLanes = 32;

/// A fault that one of the checks found. The message says what, where and by whom.
struct Violation : std::runtime_error {
  using std::runtime_error::runtime_error;
};
/// An instruction, or a form of one, that the emulation does not know.
struct Unsupported : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// One register of all 32 lanes of a warp; narrow values stand in the low bytes.
struct alignas(64) Row {
  std::uint64_t lane[kLanes];
};

template <class T>
T get(const Row& row, int lane) {
  T value;
  std::memcpy(&value, &row.lane[lane], sizeof value);
  return value;
}

/// Signed values fill the register with their sign, others with zeros, as `ld` and `cvt` into a
/// wider register do.
template <class T>
void put(Row& row, int lane, T value) {
  if constexpr (std::is_integral_v<T> && std::is_signed_v<T>) {
    row.lane[lane] = static_cast<std::uint64_t>(static_cast<std::int64_t>(value));
  } else {
    std::uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof value);
    row.lane[lane] = bits;
  }
}

/// Calls `f(lane)` for every lane of the mask, in order.
template <class F>
inline void for_lanes(std::uint32_t mask, F f) {
  if (mask == 0xffffffffu) {
    for (int lane = 0; lane < kLanes; ++lane) f(lane);
  } else {
    for (; mask != 0; mask &= mask - 1) f(__builtin_ctz(mask));
  }
}

struct Warp;
struct Instr;
/// Executes an instruction for the lanes of the mask.
using Action = void (*)(Warp&, const Instr&, std::uint32_t mask);

/// How an instruction moves the program counter.
enum class Flow : std::uint8_t { next, branch, indexed, exit, barrier, collective };
enum class Space : std::uint8_t { generic, global, shared, local, param };

struct Instr {
  Action action = nullptr;
  Flow flow = Flow::next;
  std::int16_t guard = -1;  ///< predicate, or -1
  bool guard_negated = false;
  std::array<std::int32_t, 12> arg{};  ///< rows or predicates; a negated predicate is ~index
  int args = 0;
  std::int64_t offset = 0;           ///< of an address
  std::vector<std::int32_t> target;  ///< of a branch
  int rounding = 0;                  ///< an FE_ constant
  bool ftz = false, sat = false;
  bool whole = false;  ///< cvt to a float with an integer value
  // memory
  Space space = Space::generic;
  std::uint8_t bytes = 0;   ///< of one element
  std::uint8_t vector = 1;  ///< elements
  bool strong = false;      ///< volatile, relaxed, acquire, release: no data race
  bool acquire = false, release = false;
  bool read_only = false;    ///< ld.global.nc
  bool block_scope = false;  ///< .cta: orders nothing between blocks
  // warp collectives
  int mask_arg = -1;  ///< row that names the lanes taking part
  // barriers
  int barrier_kind = 0;  ///< 0 sync, 1 arrive, 2 popc, 3 and, 4 or
  bool aligned = true;
  std::string opcode, text;
};

struct Parameter {
  std::uint32_t offset, size;
};

struct Kernel {
  std::string name;
  std::vector<Instr> code;
  int rows = 0, predicates = 0;
  struct Constant {
    int row;
    std::uint64_t bits;
  };
  std::vector<Constant> constants;
  struct Special {
    std::string name;
    int row;
  };
  std::vector<Special> specials;
  std::vector<Parameter> parameters;
  std::uint32_t shared = 0, local = 0, max_threads = 1024;

  std::uint32_t parameter_bytes() const {
    return parameters.empty() ? 0 : parameters.back().offset + parameters.back().size;
  }
};

/// An opcode split at its dots: base and modifiers.
struct Mnemonic {
  std::string base;
  std::vector<std::string> parts;

  explicit Mnemonic(const std::string& opcode);
  bool has(const char* part) const;
  /// The n-th type among the modifiers ("f32", "s64", ...), or "".
  std::string type(int n = 0) const;
};

/// Fills in `action`, `flow` and the flags from the opcode. @throws Unsupported
void decode(Instr& instr);

// Each returns null where the opcode is not its own. One file each.
Action find_integer(const Mnemonic&, Instr&);
Action find_bits(const Mnemonic&, Instr&);
Action find_floating(const Mnemonic&, Instr&);
Action find_conversion(const Mnemonic&, Instr&);
Action find_predicate(const Mnemonic&, Instr&);
Action find_warp(const Mnemonic&, Instr&);
Action find_memory(const Mnemonic&, Instr&);

}  // namespace emu
