// Memory of the emulated devices: allocations with bounds, and which of their bytes were written.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "races.hpp"

namespace emu {

/// Windows of the generic address space. Global memory lies in a range that the process has
/// reserved but may not touch: host code that dereferences a device pointer crashes, as it should.
inline constexpr std::uint64_t kSharedWindow = 0x0800'0000'0000'0000;
inline constexpr std::uint64_t kLocalWindow = 0x0900'0000'0000'0000;
inline constexpr std::uint64_t kParamWindow = 0x0a00'0000'0000'0000;
inline constexpr std::uint64_t kWindowSize = 0x0100'0000'0000'0000;

/// Bytes that a launch has moved.
struct Traffic {
  /// What the warps asked for: bytes that several lanes of one access share count once.
  std::uint64_t read = 0, written = 0;
  /// Every byte once a launch, as with a perfect cache.
  std::uint64_t unique_read = 0, unique_written = 0;
  /// As `read` and `written`, but in whole sectors of 32 bytes: what uncoalesced access costs.
  std::uint64_t sectors_read = 0, sectors_written = 0;

  void operator+=(const Traffic& other) {
    read += other.read;
    written += other.written;
    unique_read += other.unique_read;
    unique_written += other.unique_written;
    sectors_read += other.sectors_read;
    sectors_written += other.sectors_written;
  }
};

/// A stretch of memory with bounds.
struct Region {
  std::uint64_t base = 0;
  std::vector<std::uint8_t> data;
  std::vector<std::uint8_t> written;  ///< 1 a byte that holds a value
  Shadow shadow;
  Traffic traffic;  ///< of the last launch
  static constexpr int kEveryDevice = -1;
  int device = 0;
  bool live = true;
  bool from_runtime = false;  ///< allocated by the code under test, not by the test itself
  std::string origin;         ///< for messages: what allocated it

  std::uint64_t size() const { return data.size(); }
};

class Memory {
 public:
  Memory();
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  /// New memory, nothing written, at an address that is never used again. Null if none is left.
  Region* allocate(std::uint64_t bytes, int device, bool from_runtime, std::string origin);
  /// False if `address` is not the start of a live allocation.
  bool release(std::uint64_t address);
  /// The region that holds `address`, or the last one that begins before it, or null.
  Region* find(std::uint64_t address);
  /// The live region that holds all `bytes` at `address`, or null.
  Region* find(std::uint64_t address, std::uint64_t bytes);
  /// Is this an address of the reserved range, that is, not the host's?
  bool owns(std::uint64_t address) const { return address >= base_ && address < base_ + kReserved; }
  /// Live allocations of the code under test.
  std::vector<const Region*> live_from_runtime() const;
  void forget_accesses();  ///< before a launch
  /// The regions that the last launch has touched.
  std::vector<const Region*> touched() const;
  void clear();  ///< frees everything but variables of modules
  void set_capacity(std::uint64_t bytes) { capacity_ = bytes; }

  std::string describe(std::uint64_t address);

 private:
  static constexpr std::uint64_t kReserved = std::uint64_t{1} << 40;
  std::uint64_t base_ = 0, next_ = 0, used_ = 0, capacity_ = std::uint64_t{8} << 30;
  std::map<std::uint64_t, std::unique_ptr<Region>> regions_;
};

}  // namespace emu
