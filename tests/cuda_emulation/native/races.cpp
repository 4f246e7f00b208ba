#include "races.hpp"

#include <algorithm>

namespace emu {
namespace {

bool same_thread(const Moment& a, const Moment& b) {
  return a.block == b.block && a.warp == b.warp && a.lane == b.lane;
}

/// Has `me` seen a release that covers this record of another block?
bool acquired(const Record& record, const Moment& me, const OrderView& order) {
  // A record of several blocks is covered where every other block's releases have been seen.
  if (record.scope == Record::grid) return order.acquired->size() + 1 >= order.blocks_started;
  const auto found = order.acquired->find(record.at.block);
  if (found == order.acquired->end()) return false;
  for (const Acquisition& one : found->second) {
    const bool known = me.epoch > one.epoch || (me.warp == one.warp && me.lane == one.lane);
    const Release& release = one.release;
    const bool covered = record.at.epoch < release.epoch ||
                         (record.at.epoch == release.epoch && record.scope == Record::thread &&
                          record.at.warp == release.warp && record.at.lane == release.lane);
    if (known && covered) return true;
  }
  return false;
}

/// Did everything that the record stands for happen before the present access?
bool ordered(const Record& record, const Moment& me, const OrderView& order) {
  if (record.scope == Record::nobody) return true;
  if (record.scope == Record::grid || record.at.block != me.block) {
    return acquired(record, me, order);
  }
  if (record.at.epoch < me.epoch) return true;
  if (record.scope == Record::block || record.at.warp != me.warp) return false;
  if (record.scope == Record::thread && record.at.lane == me.lane) return true;
  return record.at.warp_epoch < me.warp_epoch;
}

/// Adds the present access to a record of its kind.
void merge(Record& record, const Moment& me, const OrderView& order) {
  if (record.scope == Record::nobody || ordered(record, me, order)) {
    record = {me, Record::thread};
    return;
  }
  Record::Scope scope = record.at.block != me.block  ? Record::grid
                        : record.at.warp != me.warp  ? Record::block
                        : same_thread(record.at, me) ? Record::thread
                                                     : Record::warp;
  record = {me, std::max(scope, record.scope)};
}

}  // namespace

Shadow::Page& Shadow::page(std::uint64_t index, bool small) {
  if (index >= pages_.size()) pages_.resize(index + 1);
  if (!pages_[index]) pages_[index] = std::make_unique<Page>();
  Page& page = *pages_[index];
  if (page.cells.empty()) {
    page.cells.resize(kPage / page.unit);
    touched_.push_back(index);
  }
  if (small && page.unit > 1) {
    std::vector<Cell> fine(kPage);
    for (std::uint32_t k = 0; k < kPage; ++k) fine[k] = page.cells[k / page.unit];
    page.cells = std::move(fine);
    page.unit = 1;
  }
  return page;
}

Shadow::Fault Shadow::touch(std::uint64_t offset, std::uint32_t bytes, Kind kind, const Moment& me,
                            const OrderView& order, std::uint64_t& fresh_read,
                            std::uint64_t& fresh_written) {
  const bool writes = kind == Kind::write || kind == Kind::atomic || kind == Kind::strong_write;
  const bool reads = !writes || kind == Kind::atomic;
  const bool plain = kind == Kind::write || kind == Kind::read || kind == Kind::read_only;
  // Aligned accesses of 1, 2, 4, 8 or 16 bytes never straddle a page.
  Page& page = this->page(offset / kPage, bytes % 4 != 0);
  const std::uint32_t unit = page.unit;
  const std::uint32_t first = static_cast<std::uint32_t>(offset % kPage) / unit;
  for (std::uint32_t k = first; k < first + bytes / unit; ++k) {
    Cell& cell = page.cells[k];
    const auto fault = [&](const char* what, const Record& record) {
      return Fault{what, record.at};
    };
    if (writes && cell.was_read_only) {
      return fault("write to memory that this launch reads with ld.global.nc", cell.read);
    }
    if (kind == Kind::read_only && cell.was_written) {
      return fault("ld.global.nc of memory that this launch writes", cell.write);
    }
    if (!ordered(cell.write, me, order)) {
      return fault(kind == Kind::write ? "race: two writes"
                   : writes            ? "race: plain write, then atomic"
                                       : "race: write, then read",
                   cell.write);
    }
    if (plain && !ordered(cell.atomic, me, order)) {
      return fault("race: atomic, then plain access", cell.atomic);
    }
    if (writes && !ordered(cell.read, me, order)) {
      return fault("race: read, then write", cell.read);
    }
    if (kind == Kind::write) {
      cell.write = {me, Record::thread};
      cell.read = cell.atomic = Record{};  // whoever is ordered after us is ordered after them
    } else if (writes) {
      merge(cell.atomic, me, order);
    } else if (plain) {
      merge(cell.read, me, order);
    }
    if (kind == Kind::read_only) cell.was_read_only = true;
    if (reads && !cell.was_read) {
      cell.was_read = true;
      fresh_read += unit;
    }
    if (writes && !cell.was_written) {
      cell.was_written = true;
      fresh_written += unit;
    }
  }
  return {};
}

void Shadow::reset() {
  for (const std::uint64_t index : touched_) {
    pages_[index]->cells.clear();  // keeps its capacity
    pages_[index]->unit = 4;
  }
  touched_.clear();
}

}  // namespace emu
