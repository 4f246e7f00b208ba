// Who touched a byte last, and was that ordered before the present access?
//
// Two accesses to one byte by different threads of a launch race, if at least one is a plain write
// (or one is plain and the other atomic and writing) and nothing orders them. What orders:
//   threads of a warp      a warp-level synchronisation between them (__syncwarp, a shuffle, a
//   vote) threads of a block     a barrier of the whole block between them different blocks the
//   first block releases (a fence, then an atomic by the same thread) and
//                          the second acquires (an atomic on that address, then a fence); in the
//                          rest of the block that holds after the next barrier
// The last rule is the PTX memory model's release and acquire pattern, reduced to what the "last
// block to finish reduces" idiom needs.
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

namespace emu {

/// The moment of an access in the life of its thread.
struct Moment {
  std::uint32_t block, epoch, warp_epoch;
  std::uint8_t warp, lane;
};

/// Everything block `block` did before `epoch`, and what its one thread did in that epoch.
struct Release {
  std::uint32_t block, epoch;
  std::uint8_t warp, lane;
};

/// A release that this block has seen, through one thread, in one of its own epochs.
struct Acquisition {
  Release release;
  std::uint32_t epoch;
  std::uint8_t warp, lane;
};
using Acquired = std::unordered_map<std::uint32_t, std::vector<Acquisition>>;  // by block

/// The fences and atomics of one thread that are not yet matched up.
struct Ordering {
  std::int64_t fence_epoch = -1;        ///< of the thread's last fence
  std::vector<std::uint64_t> observed;  ///< addresses read atomically since that fence
};

/// The last access of one kind; `scope` tells how many threads it stands for.
struct Record {
  enum Scope : std::uint8_t { nobody, thread, warp, block, grid };
  Moment at{};
  Scope scope = nobody;
};

enum class Kind : std::uint8_t { read, write, atomic, strong_read, strong_write, read_only };

/// What is known of `unit` bytes of memory.
struct Cell {
  Record write, read, atomic;
  bool was_read = false, was_written = false, was_read_only = false;
};

/// What the check needs to know of the blocks' ordering.
struct OrderView {
  const Acquired* acquired;
  std::uint32_t blocks_started;
};

/// Cells of one region, made when first touched, forgotten by `reset`.
class Shadow {
 public:
  struct Fault {
    const char* what = nullptr;  ///< null: no fault
    Moment other{};
  };
  /// Notes an access of `bytes` at `offset`. Adds the bytes that were not read or not written
  /// before to `fresh_read` and `fresh_written`.
  Fault touch(std::uint64_t offset, std::uint32_t bytes, Kind kind, const Moment& me,
              const OrderView& order, std::uint64_t& fresh_read, std::uint64_t& fresh_written);
  void reset();

 private:
  static constexpr std::uint32_t kPage = 4096;
  struct Page {
    std::uint32_t unit = 4;  ///< bytes a cell stands for: 4 until a smaller access comes, then 1
    std::vector<Cell> cells;
  };
  Page& page(std::uint64_t index, bool small);

  std::vector<std::unique_ptr<Page>> pages_;
  std::vector<std::uint64_t> touched_;
};

}  // namespace emu
