#include "memory.hpp"

#include <sys/mman.h>

#include <sstream>
#include <stdexcept>

namespace emu {

Memory::Memory() {
  void* range =
      mmap(nullptr, kReserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (range == MAP_FAILED) throw std::runtime_error("cannot reserve the device address range");
  base_ = reinterpret_cast<std::uint64_t>(range);
  next_ = base_ + 4096;
}

Memory::~Memory() { munmap(reinterpret_cast<void*>(base_), kReserved); }

Region* Memory::allocate(std::uint64_t bytes, int device, bool from_runtime, std::string origin) {
  constexpr std::uint64_t kAlign = 512, kGap = 4096;
  if (bytes > capacity_ - used_ || next_ + bytes + kGap > base_ + kReserved) return nullptr;
  auto region = std::make_unique<Region>();
  region->base = next_;
  region->data.assign(bytes, 0xcd);  // a value that shows
  region->written.assign(bytes, 0);
  region->device = device;
  region->from_runtime = from_runtime;
  region->origin = std::move(origin);
  next_ = (next_ + bytes + kGap + kAlign - 1) / kAlign * kAlign;
  used_ += bytes;
  Region* result = region.get();
  regions_[region->base] = std::move(region);
  return result;
}

bool Memory::release(std::uint64_t address) {
  const auto found = regions_.find(address);
  if (found == regions_.end() || !found->second->live) return false;
  Region& region = *found->second;
  used_ -= region.size();
  region.live = false;
  const std::size_t size = region.data.size();
  region.data = {};
  region.written = {};
  region.shadow = {};
  region.origin += ", freed, was " + std::to_string(size) + " bytes";
  return true;
}

Region* Memory::find(std::uint64_t address) {
  auto after = regions_.upper_bound(address);
  return after == regions_.begin() ? nullptr : std::prev(after)->second.get();
}

Region* Memory::find(std::uint64_t address, std::uint64_t bytes) {
  Region* region = find(address);
  const bool inside = region != nullptr && region->live &&
                      address - region->base <= region->size() &&
                      bytes <= region->size() - (address - region->base);
  return inside ? region : nullptr;
}

std::vector<const Region*> Memory::live_from_runtime() const {
  std::vector<const Region*> result;
  for (const auto& [base, region] : regions_) {
    if (region->live && region->from_runtime) result.push_back(region.get());
  }
  return result;
}

void Memory::forget_accesses() {
  for (auto& [base, region] : regions_) {
    region->shadow.reset();
    region->traffic = {};
  }
}

std::vector<const Region*> Memory::touched() const {
  std::vector<const Region*> result;
  for (const auto& [base, region] : regions_) {
    if (region->traffic.read + region->traffic.written > 0) result.push_back(region.get());
  }
  return result;
}

void Memory::clear() {
  std::erase_if(regions_,
                [](const auto& one) { return one.second->device != Region::kEveryDevice; });
  used_ = 0;  // addresses are not used again all the same
}

std::string Memory::describe(std::uint64_t address) {
  std::ostringstream text;
  text << std::hex << "0x" << address << std::dec;
  const Region* region = find(address);
  if (region == nullptr) {
    text << ", which no allocation holds";
  } else if (!region->live) {
    text << ", in memory no longer allocated (" << region->origin << ")";
  } else {
    const std::uint64_t offset = address - region->base;
    text << ", byte " << offset << " of " << region->size() << " (" << region->origin << ")";
  }
  return text.str();
}

}  // namespace emu
