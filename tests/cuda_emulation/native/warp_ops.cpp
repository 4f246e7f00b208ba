// Operations of a whole warp, and the ones that order memory or hold a block together.
#include <algorithm>

#include "executor.hpp"

namespace emu {
namespace {

using std::int32_t, std::uint32_t, std::uint64_t;

enum class Shuffle { up, down, butterfly, index };

/// shfl.sync d|p, a, b, c, mask; the rules for segments and clamping are those of the PTX ISA.
template <Shuffle kMode>
void shuffle(Warp& w, const Instr& i, uint32_t mask) {
  const Row value = w.row(i, 2);
  Row &d = w.row(i, 0), &b = w.row(i, 3), &c = w.row(i, 4), &named = w.row(i, 5);
  uint32_t in_range = 0;
  for_lanes(mask, [&](int lane) {
    const int by = get<uint32_t>(b, lane) & 31;
    const int clamp = get<uint32_t>(c, lane) & 31;
    const int segment = get<uint32_t>(c, lane) >> 8 & 31;
    const int low = lane & segment;
    const int high = (lane & segment) | (clamp & ~segment);
    int from;
    bool ok;
    switch (kMode) {
      case Shuffle::up:
        from = lane - by;
        ok = from >= high;  // for "up" the clamp is the lower end
        break;
      case Shuffle::down:
        from = lane + by;
        ok = from <= high;
        break;
      case Shuffle::butterfly:
        from = lane ^ by;
        ok = from <= high;
        break;
      default:
        from = low | (by & ~segment);
        ok = from <= high;
        break;
    }
    if (!ok) from = lane;
    if (!(get<uint32_t>(named, lane) >> from & 1)) {
      throw Violation("a shuffle reads lane " + std::to_string(from) +
                      ", which its mask does not name, " + place(w, lane));
    }
    put(d, lane, get<uint32_t>(value, from));
    in_range |= static_cast<uint32_t>(ok) << lane;
  });
  w.set_predicate(i, 1, mask, in_range);
}

enum class Vote { all, any, uniform, ballot };

template <Vote kVote>
void vote(Warp& w, const Instr& i, uint32_t mask) {
  const uint32_t p = w.predicate(i, 1);
  uint32_t result = 0;
  for_lanes(mask, [&](int lane) {
    const auto named = get<uint32_t>(w.row(i, 2), lane);
    const uint32_t yes = p & named;
    if (kVote == Vote::ballot) put(w.row(i, 0), lane, yes);
    const bool value = kVote == Vote::all   ? yes == named
                       : kVote == Vote::any ? yes != 0
                                            : yes == named || yes == 0;
    result |= static_cast<uint32_t>(value) << lane;
  });
  if (kVote != Vote::ballot) w.set_predicate(i, 0, mask, result);
}

template <class T>
void match_any(Warp& w, const Instr& i, uint32_t mask) {
  const Row value = w.row(i, 2);
  for_lanes(mask, [&](int lane) {
    const auto named = get<uint32_t>(w.row(i, 3), lane);
    uint32_t same = 0;
    for_lanes(named, [&](int other) {
      same |= static_cast<uint32_t>(get<T>(value, other) == get<T>(value, lane)) << other;
    });
    put(w.row(i, 0), lane, same);
  });
}
template <class T>
void match_all(Warp& w, const Instr& i, uint32_t mask) {
  const Row value = w.row(i, 2);
  uint32_t all = 0;
  for_lanes(mask, [&](int lane) {
    const auto named = get<uint32_t>(w.row(i, 3), lane);
    bool same = true;
    for_lanes(named, [&](int other) { same &= get<T>(value, other) == get<T>(value, lane); });
    put(w.row(i, 0), lane, same ? named : 0u);
    all |= static_cast<uint32_t>(same) << lane;
  });
  w.set_predicate(i, 1, mask, all);
}

template <class T>
void reduce(Warp& w, const Instr& i, uint32_t mask) {
  const Mnemonic op(i.opcode);
  const Row value = w.row(i, 1);
  for_lanes(mask, [&](int lane) {
    const auto named = get<uint32_t>(w.row(i, 2), lane);
    bool first = true;
    T total{};
    for_lanes(named, [&](int other) {
      const T v = get<T>(value, other);
      total = first ? v
              : op.has("add")
                  ? static_cast<T>(static_cast<uint32_t>(total) + static_cast<uint32_t>(v))
              : op.has("min") ? std::min(total, v)
              : op.has("max") ? std::max(total, v)
              : op.has("and") ? total & v
              : op.has("or")  ? total | v
                              : total ^ v;
      first = false;
    });
    put(w.row(i, 0), lane, total);
  });
}

void active_mask(Warp& w, const Instr& i, uint32_t mask) {
  for_lanes(mask, [&](int lane) { put(w.row(i, 0), lane, mask); });
}

/// elect.sync d|p, mask: the lowest lane wins.
void elect(Warp& w, const Instr& i, uint32_t mask) {
  uint32_t winners = 0;
  for_lanes(mask, [&](int lane) {
    const int winner = __builtin_ctz(get<uint32_t>(w.row(i, 2), lane));
    put(w.row(i, 0), lane, static_cast<uint32_t>(winner));
    winners |= static_cast<uint32_t>(winner == lane) << lane;
  });
  w.set_predicate(i, 1, mask, winners);
}

/// A fence: what was observed atomically before it is acquired, what comes after it is released.
void fence(Warp& w, const Instr& i, uint32_t mask) {
  if (i.block_scope) return;
  for_lanes(mask, [&](int lane) {
    Ordering& mine = w.ordering[lane];
    mine.fence_epoch = w.block->epoch;
    for (const uint64_t address : mine.observed) acquire(w, lane, address);
    mine.observed.clear();
  });
}

}  // namespace

void acquire(Warp& warp, int lane, std::uint64_t address) {
  const auto found = warp.launch->releases.find(address);
  if (found == warp.launch->releases.end()) return;
  for (const Release& release : found->second) {
    if (release.block == warp.block->number) continue;
    warp.block->acquired[release.block].push_back({release, warp.block->epoch,
                                                   static_cast<std::uint8_t>(warp.index),
                                                   static_cast<std::uint8_t>(lane)});
  }
}

void release(Warp& warp, int lane, std::uint64_t address) {
  const Ordering& mine = warp.ordering[lane];
  if (mine.fence_epoch < 0) return;
  auto& list = warp.launch->releases[address];
  const Block& block = *warp.block;
  list.push_back({block.number, static_cast<uint32_t>(mine.fence_epoch),
                  static_cast<std::uint8_t>(warp.index), static_cast<std::uint8_t>(lane)});
  for (const auto& [number, seen] : block.acquired) {  // and what this thread has seen itself
    for (const Acquisition& one : seen) {
      if (block.epoch > one.epoch || (one.warp == warp.index && one.lane == lane)) {
        list.push_back(one.release);
      }
    }
  }
}

Action find_warp(const Mnemonic& op, Instr& instr) {
  if (op.base == "shfl") {
    instr.mask_arg = 5;
    if (op.has("up")) return shuffle<Shuffle::up>;
    if (op.has("down")) return shuffle<Shuffle::down>;
    return op.has("bfly") ? shuffle<Shuffle::butterfly> : shuffle<Shuffle::index>;
  }
  if (op.base == "vote") {
    instr.mask_arg = 2;
    if (op.has("ballot")) return vote<Vote::ballot>;
    if (op.has("all")) return vote<Vote::all>;
    return op.has("any") ? vote<Vote::any> : vote<Vote::uniform>;
  }
  if (op.base == "match") {
    instr.mask_arg = 3;
    const bool wide = op.type() == "b64";
    if (op.has("any")) return wide ? match_any<uint64_t> : match_any<uint32_t>;
    return wide ? match_all<uint64_t> : match_all<uint32_t>;
  }
  if (op.base == "redux") {
    instr.mask_arg = 2;
    return op.type() == "s32" ? reduce<int32_t> : reduce<uint32_t>;
  }
  if (op.base == "elect") {
    instr.mask_arg = 2;
    return elect;
  }
  if (op.base == "activemask") return active_mask;
  if (op.base == "membar" || op.base == "fence") {
    instr.block_scope = op.has("cta");
    return fence;
  }
  if (op.base != "bar" && op.base != "barrier") return nullptr;
  if (op.has("warp")) {
    instr.mask_arg = 0;
    return [](Warp&, const Instr&, uint32_t) {};
  }
  instr.flow = Flow::barrier;
  instr.aligned = op.base == "bar" || op.has("aligned");
  instr.barrier_kind = op.has("arrive") ? 1
                       : op.has("popc") ? 2
                       : op.has("and")  ? 3
                       : op.has("or")   ? 4
                                        : 0;
  return nullptr;
}

}  // namespace emu
