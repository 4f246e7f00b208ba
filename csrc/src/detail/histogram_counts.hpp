// Histograms of projections, counted by many tasks at once.
#pragma once

#include <cstdint>
#include <mutex>
#include <utility>
#include <vector>

#include "src/detail/intervals.hpp"

namespace tamis::detail {

/// Counts of all tasks: integers, so that it does not matter which task adds where.
class HistogramCounts {
 public:
  std::vector<std::uint64_t> take() {
    const std::lock_guard lock(mutex_);
    if (idle_.empty()) return {};
    std::vector<std::uint64_t> out = std::move(idle_.back());
    idle_.pop_back();
    return out;
  }
  void give(std::vector<std::uint64_t> counts) {
    const std::lock_guard lock(mutex_);
    idle_.push_back(std::move(counts));
  }
  /// `squares`: of every chunk, in order.
  std::vector<Histogram> histograms(const std::vector<Cut>& cuts,
                                    const std::vector<std::vector<double>>& squares) const {
    std::vector<Histogram> out(cuts.size());
    for (std::size_t j = 0; j < cuts.size(); ++j) {
      Histogram& h = out[j];
      h.grid = cuts[j].grid;
      for (std::size_t b = 0; b < kSlots; ++b) {
        std::uint64_t sum = 0;
        for (const auto& counts : idle_) sum += counts[j * kSlots + b];
        h.counts[b] = static_cast<double>(sum) / kOne;
      }
      for (const auto& square : squares) {
        for (std::size_t side = 0; side < 2; ++side) h.square[side] += square[2 * j + side];
      }
    }
    return out;
  }

 private:
  std::mutex mutex_;
  std::vector<std::vector<std::uint64_t>> idle_;  // of finished tasks, taken up by the next
};

/// Counts the rows of one task.
template <class T>
class HistogramCounter {
 public:
  HistogramCounter(HistogramCounts& all, const std::vector<Cut>& cuts, std::vector<double>& square)
      : all_(all), cuts_(cuts), square_(square), counts_(all.take()) {
    counts_.resize(cuts.size() * kSlots, 0);
    square_.assign(2 * cuts.size(), 0.0);
  }
  HistogramCounter(const HistogramCounter&) = delete;
  HistogramCounter& operator=(const HistogramCounter&) = delete;
  ~HistogramCounter() { all_.give(std::move(counts_)); }

  /// A row inside every interval counts in all; another only for the first that excludes it.
  void charge(const T* z, std::uint64_t amount) {
    const std::size_t m = cuts_.size();
    if (m == 0) return;
    std::size_t excluding = 0;
    while (excluding < m && cuts_[excluding].keeps(static_cast<double>(z[excluding]))) ++excluding;
    const auto bin = [&](std::size_t j) { return cuts_[j].grid.bin(static_cast<double>(z[j])); };
    if (excluding < m) {
      count(excluding, z[excluding], bin(excluding), amount);
    } else {
      for (std::size_t j = 0; j < m; ++j) count(j, z[j], bin(j), amount);
    }
  }
  /// The same of a row that counts 1, where its bins and the first cut that excludes it are known.
  void charge(const T* z, const std::int32_t* bins, std::int32_t excluding) {
    constexpr auto amount = static_cast<std::uint64_t>(kOne);
    const auto m = static_cast<std::int32_t>(cuts_.size());
    if (excluding < m) {
      count(static_cast<std::size_t>(excluding), z[excluding], bins[excluding], amount);
    } else {
      for (std::int32_t j = 0; j < m; ++j) {
        count(static_cast<std::size_t>(j), z[j], bins[j], amount);
      }
    }
  }

 private:
  void count(std::size_t j, T z, int bin, std::uint64_t amount) {
    counts_[j * kSlots + static_cast<std::size_t>(bin)] += amount;
    if (bin == 0 || bin == kSlots - 1) {
      const double offset = static_cast<double>(z) - cuts_[j].grid.origin;
      square_[2 * j + (bin != 0)] += static_cast<double>(amount) / kOne * offset * offset;
    }
  }

  HistogramCounts& all_;
  const std::vector<Cut>& cuts_;
  std::vector<double>& square_;
  std::vector<std::uint64_t> counts_;
};

}  // namespace tamis::detail
