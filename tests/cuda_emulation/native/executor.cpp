// Runs one launch. Lanes of a warp that stand at the same instruction run together; where they
// part, the group that is furthest behind runs first, so that it catches up with the others.
#include "executor.hpp"

#include <algorithm>
#include <numeric>
#include <random>
#include <sstream>

namespace emu {
namespace {

/// 0..count-1 in the order that the launch asks for.
std::vector<std::uint32_t> sequence(std::uint64_t count, std::uint32_t order, std::uint64_t salt) {
  std::vector<std::uint32_t> result(count);
  std::iota(result.begin(), result.end(), 0u);
  if (order == 1) std::reverse(result.begin(), result.end());
  if (order > 1) {
    std::mt19937_64 random(order * 0x9e3779b97f4a7c15ull + salt);
    std::shuffle(result.begin(), result.end(), random);
  }
  return result;
}

Dim coordinates(std::uint64_t linear, const Dim& extent) {
  return {static_cast<std::uint32_t>(linear % extent.x),
          static_cast<std::uint32_t>(linear / extent.x % extent.y),
          static_cast<std::uint32_t>(linear / (std::uint64_t{extent.x} * extent.y))};
}

std::uint32_t axis(const Dim& dim, char name) {
  return name == 'x' ? dim.x : name == 'y' ? dim.y : dim.z;
}

/// The value of a special register.
std::uint64_t special(const std::string& name, const Warp& warp, int lane) {
  const Launch& launch = *warp.launch;
  const std::uint32_t thread = static_cast<std::uint32_t>(warp.index * kLanes + lane);
  const char last = name.back();
  const bool has_axis = name.size() > 2 && name[name.size() - 2] == '.';
  const std::string stem = has_axis ? name.substr(0, name.size() - 2) : name;
  if (stem == "%tid") return axis(coordinates(thread, launch.block), last);
  if (stem == "%ntid") return axis(launch.block, last);
  if (stem == "%ctaid") return axis(coordinates(warp.block->number, launch.grid), last);
  if (stem == "%nctaid") return axis(launch.grid, last);
  if (name == "%laneid") return static_cast<std::uint64_t>(lane);
  if (name == "%warpid") return static_cast<std::uint64_t>(warp.index);
  if (name == "%nwarpid") return (launch.block.count() + kLanes - 1) / kLanes;
  if (name == "%lanemask_eq") return 1u << lane;
  if (name == "%lanemask_lt") return (1u << lane) - 1;
  if (name == "%lanemask_le") return (2u << lane) - 1;
  if (name == "%lanemask_gt") return ~((2u << lane) - 1);
  if (name == "%lanemask_ge") return ~((1u << lane) - 1);
  if (name == "%dynamic_smem_size") return launch.dynamic_shared;
  if (name == "%total_smem_size") return launch.kernel.shared + launch.dynamic_shared;
  if (name == "%smid" || name == "%gridid") return 0;
  if (name == "%nsmid") return 1;
  if (name.rfind("%clock", 0) == 0 || name == "%globaltimer") return launch.executed;
  throw Unsupported("special register " + name);
}

/// Puts lanes into the list of groups, which is kept in the order of their instructions.
void add_group(std::vector<Group>& groups, int pc, std::uint32_t mask) {
  auto at = std::lower_bound(groups.begin(), groups.end(), pc,
                             [](const Group& group, int value) { return group.pc < value; });
  if (at != groups.end() && at->pc == pc) {
    at->mask |= mask;
    at->waiting = false;  // newcomers: look again
  } else {
    groups.insert(at, Group{pc, mask, false});
  }
}

/// Where a group at `pc` must stop and look: at the next instruction where another group stands. A
/// group that waits behind it for missing lanes is none of its business.
int stop_of(const Warp& warp, int pc, int end) {
  for (const Group& group : warp.groups) {
    if (!group.waiting || group.pc >= pc) return group.pc;
  }
  return end;
}

}  // namespace

std::string place(const Warp& warp, int lane) {
  const Dim thread =
      coordinates(static_cast<std::uint64_t>(warp.index * kLanes + lane), warp.launch->block);
  const Dim block = coordinates(warp.block->number, warp.launch->grid);
  std::ostringstream text;
  text << "thread (" << thread.x << ", " << thread.y << ", " << thread.z << ") of block ("
       << block.x << ", " << block.y << ", " << block.z << ")";
  return text.str();
}

void Launch::run() {
  Block state;
  const std::uint64_t threads = block.count();
  state.shared.data.resize(kernel.shared + dynamic_shared);
  state.local.resize(threads * kernel.local);
  state.warps.resize((threads + kLanes - 1) / kLanes);
  for (std::size_t index = 0; index < state.warps.size(); ++index) {
    Warp& warp = state.warps[index];
    warp.launch = this;
    warp.block = &state;
    warp.index = static_cast<int>(index);
    const std::uint64_t lanes = std::min<std::uint64_t>(kLanes, threads - index * kLanes);
    warp.threads = lanes == kLanes ? 0xffffffffu : (1u << lanes) - 1;
    warp.rows.resize(static_cast<std::size_t>(kernel.rows));
    warp.predicates.resize(static_cast<std::size_t>(kernel.predicates));
    for (const auto& constant : kernel.constants) {
      for (auto& lane : warp.rows[static_cast<std::size_t>(constant.row)].lane) {
        lane = constant.bits;
      }
    }
  }
  memory.forget_accesses();
  try {
    for (const std::uint32_t number : sequence(grid.count(), order, 0)) {
      start(state, number);
      run_block(state);
    }
  } catch (const Violation& fault) {
    const std::string at = current == nullptr ? "" : "; at: " + current->text;
    throw Violation(kernel.name + ": " + fault.what() + at);
  }
}

void Launch::start(Block& state, std::uint32_t number) {
  state.number = number;
  state.epoch = 0;
  state.acquired.clear();
  state.shared.written.assign(state.shared.data.size(), 0);
  state.shared.shadow.reset();
  ++blocks_started;
  for (Warp& warp : state.warps) {
    warp.live = warp.threads;
    warp.epoch = 0;
    warp.carry = 0;
    warp.groups.assign(1, Group{0, warp.threads, false});
    warp.arrivals.clear();
    for (auto& ordering : warp.ordering) ordering = {};
    for (const auto& one : kernel.specials) {
      Row& row = warp.rows[static_cast<std::size_t>(one.row)];
      if (blocks_started > 1 && one.name.rfind("%ctaid", 0) != 0) continue;
      for (int lane = 0; lane < kLanes; ++lane) row.lane[lane] = special(one.name, warp, lane);
    }
  }
}

void Launch::run_block(Block& state) {
  do {
    for (const std::uint32_t index : sequence(state.warps.size(), order, state.epoch + 1)) {
      run_warp(state.warps[index]);
    }
    current = nullptr;
  } while (pass_barriers(state));
  for (const Warp& warp : state.warps) {
    if (warp.live != 0) stuck(state);
  }
}

void Launch::run_warp(Warp& warp) {
  const auto end = static_cast<int>(kernel.code.size());
  while (true) {
    auto next = std::find_if(warp.groups.begin(), warp.groups.end(),
                             [](const Group& group) { return !group.waiting; });
    if (next == warp.groups.end()) return;
    int pc = next->pc;
    std::uint32_t active = next->mask;
    warp.groups.erase(next);
    int limit = stop_of(warp, pc, end);
    while (active != 0) {
      if (pc >= limit && pc < end) {
        add_group(warp.groups, pc, active);
        break;
      }
      if (pc >= end) {
        warp.live &= ~active;
        break;
      }
      if (++executed > instruction_limit) {
        throw Violation("the kernel does not end, " + place(warp, __builtin_ctz(active)));
      }
      const Instr& instr = kernel.code[static_cast<std::size_t>(pc)];
      current = &instr;
      std::uint32_t mask = active;
      if (instr.guard >= 0) {
        const std::uint32_t guard = warp.predicates[static_cast<std::size_t>(instr.guard)];
        mask &= instr.guard_negated ? ~guard : guard;
        if (mask == 0) {
          ++pc;
          continue;
        }
      }
      const std::uint32_t rest = active & ~mask;
      switch (instr.flow) {
        case Flow::next:
          instr.action(warp, instr, mask);
          ++pc;
          break;
        case Flow::branch:
          if (rest == 0) {
            pc = instr.target[0];
            limit = stop_of(warp, pc, end);
            break;
          }
          add_group(warp.groups, instr.target[0], mask);
          add_group(warp.groups, pc + 1, rest);
          active = 0;
          break;
        case Flow::indexed: {
          const Row& index = warp.row(instr, 0);
          for_lanes(mask, [&](int lane) {
            const auto to = get<std::uint32_t>(index, lane);
            if (to >= instr.target.size()) throw Violation("brx.idx: no such branch target");
            add_group(warp.groups, instr.target[to], 1u << lane);
          });
          if (rest != 0) add_group(warp.groups, pc + 1, rest);
          active = 0;
          break;
        }
        case Flow::exit:
          warp.live &= ~mask;
          active = rest;
          ++pc;
          break;
        case Flow::barrier:
          if (instr.barrier_kind == 1) {  // arrive: does not wait
            throw Unsupported("bar.arrive: " + instr.text);
          }
          warp.arrivals.push_back({pc, mask});
          active = rest;
          ++pc;
          break;
        case Flow::collective: {
          const Row& named = warp.row(instr, instr.mask_arg);
          bool complete = rest == 0;
          for_lanes(mask, [&](int lane) {
            const auto lanes = get<std::uint32_t>(named, lane);
            if (!(lanes >> lane & 1)) {
              throw Violation("a lane calls a warp operation whose mask leaves it out, " +
                              place(warp, lane));
            }
            if (lanes & ~warp.live) {
              throw Violation("a warp operation names lanes that have exited or never were, " +
                              place(warp, lane));
            }
            if (lanes & ~mask) complete = false;
          });
          if (complete) {
            instr.action(warp, instr, mask);
            ++warp.epoch;
            ++pc;
          } else {
            if (rest != 0) add_group(warp.groups, pc + 1, rest);
            wait(warp, pc, mask);
            active = 0;
          }
          break;
        }
      }
    }
  }
}

void Launch::wait(Warp& warp, int pc, std::uint32_t mask) {
  add_group(warp.groups, pc, mask);
  for (Group& group : warp.groups) {
    if (group.pc == pc) group.waiting = true;
  }
}

namespace {

/// Lanes of one warp at one barrier.
struct Party {
  Warp* warp;
  const Instr* instr;
  int pc;
  std::uint32_t mask;

  /// The number of the barrier and how many threads it waits for; `all` where it names no count.
  std::uint32_t number(int lane) const {
    return get<std::uint32_t>(warp->row(*instr, instr->barrier_kind == 0 ? 0 : 1), lane);
  }
  std::uint64_t expected(std::uint64_t all) const {
    const int arg = instr->barrier_kind == 0 ? 1 : 2;
    const int last = instr->barrier_kind == 0 ? instr->args : instr->args - 1;
    return arg < last ? get<std::uint32_t>(warp->row(*instr, arg), __builtin_ctz(mask)) : all;
  }
};

/// bar.red: the votes of all threads, back to all threads.
void reduce_votes(const std::vector<Party>& parties, std::uint64_t threads) {
  std::uint32_t votes = 0;
  for (const Party& party : parties) {
    const std::uint32_t bits = party.warp->predicate(*party.instr, party.instr->args - 1);
    votes += static_cast<std::uint32_t>(__builtin_popcount(bits & party.mask));
  }
  for (const Party& party : parties) {
    const int kind = party.instr->barrier_kind;
    if (kind == 2) {
      Row& row = party.warp->row(*party.instr, 0);
      for_lanes(party.mask, [&](int lane) { put<std::uint32_t>(row, lane, votes); });
    } else {
      const bool value = kind == 3 ? votes == threads : votes != 0;
      party.warp->set_predicate(*party.instr, 0, party.mask, value ? party.mask : 0);
    }
  }
}

}  // namespace

bool Launch::pass_barriers(Block& state) {
  std::map<std::uint32_t, std::vector<Party>> barriers;
  for (Warp& warp : state.warps) {
    for (const Arrival& arrival : warp.arrivals) {
      Party party{&warp, &kernel.code[static_cast<std::size_t>(arrival.pc)], arrival.pc, 0};
      for (std::uint32_t left = arrival.mask; left != 0; left &= ~party.mask) {
        const std::uint32_t number = party.number(__builtin_ctz(left));
        party.mask = 0;
        for_lanes(left, [&](int lane) {
          if (party.number(lane) == number) party.mask |= 1u << lane;
        });
        barriers[number].push_back(party);
      }
    }
  }
  bool passed = false;
  for (auto& [number, parties] : barriers) {
    std::uint64_t arrived = 0;
    for (const Party& party : parties) {
      arrived += static_cast<std::uint64_t>(__builtin_popcount(party.mask));
    }
    const Party& first = parties.front();
    if (arrived != first.expected(block.count())) continue;
    for (const Party& party : parties) {
      if (party.pc != first.pc && (party.instr->aligned || first.instr->aligned)) {
        throw Violation("divergent barrier: some threads wait at " + first.instr->text +
                        ", others at " + party.instr->text);
      }
    }
    if (first.instr->barrier_kind > 1) reduce_votes(parties, arrived);
    for (const Party& party : parties) {
      add_group(party.warp->groups, party.pc + 1, party.mask);
      for (Arrival& arrival : party.warp->arrivals) {
        if (arrival.pc == party.pc) arrival.mask &= ~party.mask;
      }
      std::erase_if(party.warp->arrivals, [](const Arrival& one) { return one.mask == 0; });
    }
    // A barrier of some warps only orders less than this; the race check then sees too little.
    ++state.epoch;
    passed = true;
  }
  return passed;
}

void Launch::stuck(const Block& state) const {
  std::uint64_t exited = 0, waiting = 0;
  std::string where;
  for (const Warp& warp : state.warps) {
    exited += static_cast<std::uint64_t>(__builtin_popcount(warp.threads & ~warp.live));
    for (const Group& group : warp.groups) {
      throw Violation("a warp operation names lanes that never arrive: " +
                      kernel.code[static_cast<std::size_t>(group.pc)].text + ", " +
                      place(warp, __builtin_ctz(group.mask)));
    }
    for (const Arrival& arrival : warp.arrivals) {
      waiting += static_cast<std::uint64_t>(__builtin_popcount(arrival.mask));
      where = kernel.code[static_cast<std::size_t>(arrival.pc)].text + ", " +
              place(warp, __builtin_ctz(arrival.mask));
    }
  }
  std::ostringstream text;
  text << "divergent barrier: " << waiting << " of " << block.count() << " threads wait, " << exited
       << " have exited: " << where;
  throw Violation(text.str());
}

}  // namespace emu
