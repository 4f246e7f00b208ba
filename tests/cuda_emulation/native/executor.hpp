// One launch: blocks one after another, warps of a block in turns, lanes of a warp together.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "memory.hpp"
#include "program.hpp"
#include "races.hpp"

namespace emu {

struct Dim {
  std::uint32_t x = 1, y = 1, z = 1;
  std::uint64_t count() const { return std::uint64_t{x} * y * z; }
};

struct Launch;
struct Block;

/// Lanes of a warp that stand at one instruction.
struct Group {
  int pc;
  std::uint32_t mask;
  bool waiting = false;  ///< at a collective, for lanes that have not arrived yet
};
/// Lanes of a warp that wait at a barrier.
struct Arrival {
  int pc;
  std::uint32_t mask;
};

struct Warp {
  Launch* launch = nullptr;
  Block* block = nullptr;
  int index = 0;
  std::uint32_t threads = 0;  ///< lanes that exist
  std::uint32_t live = 0;     ///< lanes that have not exited
  std::vector<Row> rows;
  std::vector<std::uint32_t> predicates;  ///< a bit a lane
  std::uint32_t carry = 0;
  std::uint32_t epoch = 0;  ///< synchronisations of this warp so far
  std::vector<Group> groups;
  std::vector<Arrival> arrivals;
  Ordering ordering[kLanes];

  Row& row(const Instr& i, int n) { return rows[static_cast<std::size_t>(i.arg[n])]; }
  /// The predicate operand n as a mask, negation applied.
  std::uint32_t predicate(const Instr& i, int n) const {
    const int index = i.arg[n];
    return index < 0 ? ~predicates[static_cast<std::size_t>(~index)]
                     : predicates[static_cast<std::size_t>(index)];
  }
  void set_predicate(const Instr& i, int n, std::uint32_t mask, std::uint32_t value) {
    auto& bits = predicates[static_cast<std::size_t>(i.arg[n])];
    bits = (bits & ~mask) | (value & mask);
  }
};

struct Block {
  std::uint32_t number = 0;  ///< in the grid
  std::uint32_t epoch = 0;   ///< barriers that all threads have passed
  Region shared;
  std::vector<std::uint8_t> local;
  std::vector<Warp> warps;
  Acquired acquired;
};

struct Launch {
  const Kernel& kernel;
  Memory& memory;
  Dim grid, block;
  std::vector<std::uint8_t> parameters;
  std::uint32_t dynamic_shared = 0;
  int device = 0;
  /// 0: blocks, warps and the lanes of atomics in ascending order; 1: descending; else shuffled.
  std::uint32_t order = 0;
  std::uint64_t instruction_limit =
      0;  ///< instructions of all warps before the kernel counts as endless

  /// Accesses to thread-local memory, which stand for spills and local arrays.
  std::uint64_t local_accesses = 0;
  std::uint64_t executed = 0;
  std::uint32_t blocks_started = 0;
  const Instr* current = nullptr;                                      ///< for messages
  std::unordered_map<std::uint64_t, std::vector<Release>> releases{};  ///< by address

  /// Runs all blocks. @throws Violation with kernel, block, thread and instruction.
  void run();

 private:
  void run_block(Block& state);
  void run_warp(Warp& warp);
  bool pass_barriers(Block& state);
  void wait(Warp& warp, int pc, std::uint32_t mask);
  void start(Block& state, std::uint32_t number);
  [[noreturn]] void stuck(const Block& state) const;
};

/// Matches up fences and atomics, for the order between blocks (see races.hpp).
void acquire(Warp& warp, int lane, std::uint64_t address);
void release(Warp& warp, int lane, std::uint64_t address);

/// Where a fault happened: "thread 5 of block 3".
std::string place(const Warp& warp, int lane);

}  // namespace emu
