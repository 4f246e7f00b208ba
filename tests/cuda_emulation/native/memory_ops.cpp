// Loads, stores and atomics, with all their checks.
#include <algorithm>

#include "executor.hpp"
#include "floats.hpp"

namespace emu {
namespace {

using std::int32_t, std::int64_t, std::uint16_t, std::uint32_t, std::uint64_t, std::uint8_t;

/// One lane's bytes, found and checked.
struct Target {
  uint8_t* data;
  uint8_t* written;  ///< null where that is not tracked
};

[[noreturn]] void fail(const Warp& w, int lane, const std::string& what) {
  throw Violation(what + ", " + place(w, lane));
}

std::string who(const Warp& w, const Moment& other) {
  Warp stand_in;
  Block block;
  block.number = other.block;
  stand_in.launch = w.launch;
  stand_in.block = &block;
  stand_in.index = other.warp;
  return place(stand_in, other.lane);
}

/// The addresses of one warp-wide access, for the counts.
class Tally {
 public:
  void add(uint64_t address) { addresses_[count_++] = address; }

  /// Adds the bytes, each once, and the sectors of 32 bytes that they lie in.
  void count(uint32_t bytes, uint64_t& total, uint64_t& sectors) {
    if (count_ == 0) return;
    std::sort(addresses_, addresses_ + count_);
    uint64_t end = 0, last_sector = ~uint64_t{0};
    for (int k = 0; k < count_; ++k) {
      const uint64_t begin = std::max(addresses_[k], end);
      end = std::max(end, addresses_[k] + bytes);
      total += end - std::min(begin, end);
      for (uint64_t s = addresses_[k] / 32; s <= (addresses_[k] + bytes - 1) / 32; ++s) {
        if (last_sector == ~uint64_t{0} || s > last_sector) {
          sectors += 32;
          last_sector = s;
        }
      }
    }
  }

 private:
  uint64_t addresses_[kLanes];
  int count_ = 0;
};

Space space_of(uint64_t& address, Space space) {
  if (space != Space::generic) return space;
  if (address < kSharedWindow) return Space::global;
  const Space result = address < kLocalWindow   ? Space::shared
                       : address < kParamWindow ? Space::local
                                                : Space::param;
  address %= kWindowSize;
  return result;
}

/// An access of a warp: finds each lane's bytes, checks them, counts them.
class Access {
 public:
  Access(Warp& w, const Instr& i, Kind kind)
      : w_(w),
        i_(i),
        kind_(kind),
        bytes_(uint32_t{i.bytes} * i.vector),
        order_{&w.block->acquired, w.launch->blocks_started} {}

  ~Access() {
    if (region_ == nullptr) return;
    Traffic& traffic = region_->traffic;  // lanes in several allocations count for the last
    const bool reads = !stores(), writes = stores() || kind_ == Kind::atomic;
    uint64_t total = 0, sectors = 0;
    tally_.count(bytes_, total, sectors);
    if (reads) traffic.read += total, traffic.sectors_read += sectors;
    if (writes) traffic.written += total, traffic.sectors_written += sectors;
  }
  Access(const Access&) = delete;
  Access& operator=(const Access&) = delete;

  Target lane(int lane, uint64_t address) {
    if (address % bytes_ != 0) {
      fail(w_, lane, "misaligned access of " + std::to_string(bytes_) + " bytes" + at(address));
    }
    switch (space_of(address, i_.space)) {
      case Space::global:
        return global(lane, address);
      case Space::shared:
        return in_shared(lane, address);
      case Space::local: {
        ++w_.launch->local_accesses;
        const uint64_t size = w_.launch->kernel.local;
        if (address > size || bytes_ > size - address) {
          fail(w_, lane,
               "local memory out of bounds, byte " + std::to_string(address) + " of " +
                   std::to_string(size));
        }
        const auto thread = static_cast<uint64_t>(w_.index * kLanes + lane);
        return {w_.block->local.data() + thread * size + address, nullptr};
      }
      default: {
        auto& parameters = w_.launch->parameters;
        if (kind_ != Kind::read || address > parameters.size() ||
            bytes_ > parameters.size() - address) {
          fail(w_, lane, "kernel parameters out of bounds, byte " + std::to_string(address));
        }
        return {parameters.data() + address, nullptr};
      }
    }
  }

 private:
  bool stores() const { return kind_ == Kind::write || kind_ == Kind::strong_write; }
  static std::string at(uint64_t address) {
    return address < kSharedWindow && address > 1u << 20 ? "" : " at " + std::to_string(address);
  }

  Target global(int lane, uint64_t address) {
    if (region_ == nullptr || address < region_->base ||
        address - region_->base + bytes_ > region_->size() || !region_->live) {
      region_ = w_.launch->memory.find(address, bytes_);
      if (region_ == nullptr) {
        fail(w_, lane,
             "global memory out of bounds: " + std::to_string(bytes_) + " bytes at " +
                 w_.launch->memory.describe(address));
      }
      if (region_->device != w_.launch->device && region_->device != Region::kEveryDevice) {
        fail(w_, lane, "memory of another device: " + w_.launch->memory.describe(address));
      }
    }
    const uint64_t offset = address - region_->base;
    touch(*region_, offset, lane);
    tally_.add(address);
    return {region_->data.data() + offset, region_->written.data() + offset};
  }

  Target in_shared(int lane, uint64_t address) {
    Region& shared = w_.block->shared;
    if (address > shared.size() || bytes_ > shared.size() - address) {
      fail(w_, lane,
           "shared memory out of bounds: byte " + std::to_string(address) + " of " +
               std::to_string(shared.size()));
    }
    touch(shared, address, lane);
    return {shared.data.data() + address, shared.written.data() + address};
  }

  void touch(Region& region, uint64_t offset, int lane) {
    const bool global = &region != &w_.block->shared;
    const auto where = [&](uint64_t byte) {
      return global ? "global memory, " + w_.launch->memory.describe(region.base + byte)
                    : "shared memory, byte " + std::to_string(byte);
    };
    const uint8_t* written_here = region.written.data() + offset;
    if (!stores() && std::memchr(written_here, 0, bytes_) != nullptr) {
      const auto* first = static_cast<const uint8_t*>(std::memchr(written_here, 0, bytes_));
      fail(w_, lane,
           "read of uninitialised " + where(static_cast<uint64_t>(first - region.written.data())));
    }
    const Moment me{w_.block->number, w_.block->epoch, w_.epoch, static_cast<uint8_t>(w_.index),
                    static_cast<uint8_t>(lane)};
    const auto fault =
        region.shadow.touch(offset, bytes_, kind_, me, order_, region.traffic.unique_read,
                            region.traffic.unique_written);
    if (fault.what != nullptr) {
      throw Violation(std::string(fault.what) + ", in " + where(offset) + ": first " +
                      who(w_, fault.other) + ", then " + place(w_, lane));
    }
  }

  Warp& w_;
  const Instr& i_;
  Kind kind_;
  uint32_t bytes_;
  OrderView order_;
  Region* region_ = nullptr;
  Tally tally_;
};

template <class T>
void load(Warp& w, const Instr& i, uint32_t mask) {
  const Kind kind = i.strong ? Kind::strong_read : i.read_only ? Kind::read_only : Kind::read;
  Access access(w, i, kind);
  const Row address = w.row(i, i.vector);  // a copy: the load may overwrite it
  for_lanes(mask, [&](int l) {
    const uint64_t at = get<uint64_t>(address, l) + static_cast<uint64_t>(i.offset);
    const Target target = access.lane(l, at);
    for (int k = 0; k < i.vector; ++k) {
      T value;
      std::memcpy(&value, target.data + static_cast<std::size_t>(k) * sizeof(T), sizeof(T));
      put<T>(w.row(i, k), l, value);
    }
    if (i.strong && !i.block_scope) {
      if (i.acquire) acquire(w, l, at);
      w.ordering[l].observed.push_back(at);
    }
  });
}

template <class T>
void store(Warp& w, const Instr& i, uint32_t mask) {
  Access access(w, i, i.strong ? Kind::strong_write : Kind::write);
  for_lanes(mask, [&](int l) {
    const uint64_t at = get<uint64_t>(w.row(i, 0), l) + static_cast<uint64_t>(i.offset);
    const Target target = access.lane(l, at);
    for (int k = 0; k < i.vector; ++k) {
      const T value = get<T>(w.row(i, k + 1), l);
      std::memcpy(target.data + static_cast<std::size_t>(k) * sizeof(T), &value, sizeof(T));
    }
    if (target.written != nullptr) std::memset(target.written, 1, i.bytes * i.vector);
    if (i.strong && !i.block_scope) {
      if (i.release) w.ordering[l].fence_epoch = w.block->epoch;
      release(w, l, at);
    }
  });
}

// ---- atomics: T old -> new; `a` and `b` are the operands
struct AtomAdd {
  template <class T>
  static T apply(T old, T a, T) {
    if constexpr (std::is_floating_point_v<T>)
      return old + a;
    else
      return static_cast<T>(static_cast<std::make_unsigned_t<T>>(old) +
                            static_cast<std::make_unsigned_t<T>>(a));
  }
};
struct AtomMin {
  template <class T>
  static T apply(T old, T a, T) {
    return std::min(old, a);
  }
};
struct AtomMax {
  template <class T>
  static T apply(T old, T a, T) {
    return std::max(old, a);
  }
};
struct AtomAnd {
  template <class T>
  static T apply(T old, T a, T) {
    return old & a;
  }
};
struct AtomOr {
  template <class T>
  static T apply(T old, T a, T) {
    return old | a;
  }
};
struct AtomXor {
  template <class T>
  static T apply(T old, T a, T) {
    return old ^ a;
  }
};
struct AtomExchange {
  template <class T>
  static T apply(T, T a, T) {
    return a;
  }
};
struct AtomCompareAndSwap {
  template <class T>
  static T apply(T old, T a, T b) {
    return old == a ? b : old;
  }
};
struct AtomIncrement {
  template <class T>
  static T apply(T old, T a, T) {
    return old >= a ? T{0} : old + 1;
  }
};
struct AtomDecrement {
  template <class T>
  static T apply(T old, T a, T) {
    return old == 0 || old > a ? a : old - 1;
  }
};

/// atom d, [a], b(, c) and red [a], b. Lanes go one after another, in the launch's order.
template <class T, class Op>
void atomic(Warp& w, const Instr& i, uint32_t mask) {
  const bool returns = i.opcode[0] == 'a';
  const int first = returns ? 1 : 0;
  Access access(w, i, Kind::atomic);
  Row results = w.row(i, 0);
  const auto one = [&](int l) {
    const uint64_t at = get<uint64_t>(w.row(i, first), l) + static_cast<uint64_t>(i.offset);
    const Target target = access.lane(l, at);
    T old;
    std::memcpy(&old, target.data, sizeof old);
    const T a = get<T>(w.row(i, first + 1), l);
    const T b = i.args > first + 2 ? get<T>(w.row(i, first + 2), l) : T{};
    const T value = Op::template apply<T>(old, a, b);
    std::memcpy(target.data, &value, sizeof value);
    if (returns) put<T>(results, l, old);
    if (i.block_scope) return;
    if (i.release) w.ordering[l].fence_epoch = w.block->epoch;
    release(w, l, at);
    if (i.acquire) acquire(w, l, at);
    if (returns) w.ordering[l].observed.push_back(at);
  };
  if (w.launch->order == 0) {
    for_lanes(mask, one);
  } else {
    for (uint32_t left = mask; left != 0;) {
      const int lane = 31 - __builtin_clz(left);
      one(lane);
      left &= ~(1u << lane);
    }
  }
  if (returns) w.row(i, 0) = results;
}

template <class T, bool kInteger>
Action atomic_of(const Mnemonic& op) {
  if (op.has("add")) return atomic<T, AtomAdd>;
  if (op.has("exch")) return atomic<T, AtomExchange>;
  if constexpr (kInteger) {
    if (op.has("min")) return atomic<T, AtomMin>;
    if (op.has("max")) return atomic<T, AtomMax>;
    if (op.has("and")) return atomic<T, AtomAnd>;
    if (op.has("or")) return atomic<T, AtomOr>;
    if (op.has("xor")) return atomic<T, AtomXor>;
    if (op.has("cas")) return atomic<T, AtomCompareAndSwap>;
    if (op.has("inc")) return atomic<T, AtomIncrement>;
    if (op.has("dec")) return atomic<T, AtomDecrement>;
  }
  return nullptr;
}

Action typed_load(const std::string& type) {
  if (type == "s8") return load<std::int8_t>;
  if (type.back() == '8' && type.size() == 2) return load<uint8_t>;
  if (type == "s16") return load<std::int16_t>;
  if (type == "s32") return load<int32_t>;
  const auto bits = type.find("x2") != std::string::npos ? "32" : type.substr(type.size() - 2);
  return bits == "16" ? load<uint16_t> : bits == "32" ? load<uint32_t> : load<uint64_t>;
}
Action typed_store(uint8_t bytes) {
  return bytes == 1   ? store<uint8_t>
         : bytes == 2 ? store<uint16_t>
         : bytes == 4 ? store<uint32_t>
                      : store<uint64_t>;
}

}  // namespace

Action find_memory(const Mnemonic& op, Instr& instr) {
  const bool loads = op.base == "ld" || op.base == "ldu", stores = op.base == "st";
  const bool atomics = op.base == "atom" || op.base == "red";
  const std::string type = op.type();
  if ((!loads && !stores && !atomics) || type.empty()) return nullptr;
  instr.space = op.has("global")   ? Space::global
                : op.has("shared") ? Space::shared
                : op.has("local")  ? Space::local
                : op.has("param")  ? Space::param
                                   : Space::generic;
  const bool pair = type.find("x2") != std::string::npos;
  instr.bytes =
      static_cast<uint8_t>(pair                 ? 4
                           : type.back() == '8' ? 1
                                                : std::stoi(type.substr(type.size() - 2)) / 8);
  instr.vector = op.has("v8") ? 8 : op.has("v4") ? 4 : op.has("v2") ? 2 : 1;
  instr.read_only = loads && op.has("nc");
  instr.acquire = op.has("acquire") || op.has("acq_rel");
  instr.release = op.has("release") || op.has("acq_rel");
  instr.strong = op.has("volatile") || op.has("relaxed") || instr.acquire || instr.release;
  instr.block_scope = op.has("cta");
  if (loads) return typed_load(type);
  if (stores) return typed_store(instr.bytes);
  if (type == "f32") return atomic_of<float, false>(op);
  if (type == "f64") return atomic_of<double, false>(op);
  if (type == "s32") return atomic_of<int32_t, true>(op);
  if (type == "s64") return atomic_of<int64_t, true>(op);
  if (type == "b16") return atomic_of<uint16_t, true>(op);
  if (instr.bytes == 4 && !pair) return atomic_of<uint32_t, true>(op);
  return instr.bytes == 8 ? atomic_of<uint64_t, true>(op) : nullptr;
}

}  // namespace emu
