// Weights and scores of rows on the CPU: what the filter does without looking at the rows.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "src/detail/iterative_filter_backend.hpp"
#include "src/detail/row_passes.hpp"
#include "src/detail/thread_pool.hpp"
#include "src/detail/uniform_hash.hpp"

namespace tamis::detail {

inline constexpr double kBudgetSlack = 1e-9;  ///< rows

/// A weight in units of 2^-32: sums of integers depend on no order.
inline std::uint64_t units(double weight) {
  return static_cast<std::uint64_t>(std::llround(weight * kOne));
}

/// One weight and one score a row. Scores may carry a sign, which means nothing here.
template <class T>
class RowWeights {
 public:
  RowWeights(T* weights, T* scores, std::int64_t n, int num_threads)
      : weights_(weights), scores_(scores), n_(n), num_threads_(num_threads) {}

  /// Rows of weight 0 come back, least severe first, until `excess` of them have.
  void give_back(double excess) {
    const auto lost = [&](std::int64_t i) { return weights_[i] > T(0) ? 0.0 : 1.0; };
    const Threshold threshold = select(excess - kBudgetSlack, lost);
    for (std::int64_t i = 0; i < n_; ++i) {
      if (lost(i) > 0.0 && threshold.includes(magnitude(i), i)) weights_[i] = T(1);
    }
  }

  std::vector<double> tau_masses(double top) {
    std::vector<std::uint64_t> sums(kTauBins, 0);
    for (std::int64_t i = 0; i < n_; ++i) {
      if (!(weights_[i] > T(0))) continue;
      const double share = std::max(static_cast<double>(scores_[i]) / top, 0x1p-60);
      const double position = std::floor(kOctaveBins * std::log2(share));
      const double bin = std::clamp(position + kTauBins, 0.0, kTauBins - 1.0);
      sums[static_cast<std::size_t>(bin)] += units(static_cast<double>(weights_[i]));
    }
    std::vector<double> out(sums.size());
    for (std::size_t b = 0; b < out.size(); ++b) out[b] = static_cast<double>(sums[b]) / kOne;
    return out;
  }

  double tau_bound(std::int64_t count) {
    std::int64_t alive = 0;
    for (std::int64_t i = 0; i < n_; ++i) alive += weights_[i] > T(0);
    const auto one = [&](std::int64_t i) { return weights_[i] > T(0) ? 1.0 : 0.0; };
    const double below = static_cast<double>(alive - std::min(count, alive)) + 0.5;
    return static_cast<double>(select(below, one).key);
  }

  Change reweigh(const Reweighting& how, double budget) {
    const auto fresh = [&](std::int64_t i) { return new_weight(how, i); };
    const Chunks chunks(n_, 0);
    std::vector<double> masses(static_cast<std::size_t>(chunks.count), 0.0);
    over_chunks(chunks, [&](std::int64_t c, std::int64_t i) {
      masses[static_cast<std::size_t>(c)] += static_cast<double>(fresh(i));
    });
    double mass = 0.0;
    for (const double part : masses) mass += part;
    Change total;
    const double excess = (static_cast<double>(n_) - mass) - budget;
    total.limited = excess > kBudgetSlack;
    Threshold threshold{T(0), 0};
    if (total.limited) {
      threshold = select(excess - kBudgetSlack,
                         [&](std::int64_t i) { return 1.0 - static_cast<double>(fresh(i)); });
    }
    std::vector<Change> changes(masses.size());
    over_chunks(chunks, [&](std::int64_t c, std::int64_t i) {
      T next = fresh(i);
      if (total.limited && next < T(1) && threshold.includes(magnitude(i), i)) next = T(1);
      const double change = static_cast<double>(next) - static_cast<double>(weights_[i]);
      changes[static_cast<std::size_t>(c)].moved += std::abs(change);
      changes[static_cast<std::size_t>(c)].returned += std::max(change, 0.0);
      weights_[i] = next;
    });
    for (const Change& c : changes) {
      total.moved += c.moved;
      total.returned += c.returned;
    }
    return total;
  }

 private:
  using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;

  /// Rows up to a severity: those below `key`, and of those at it the ones up to `last`.
  struct Threshold {
    T key;
    std::int64_t last;
    bool includes(T severity, std::int64_t i) const {
      return severity < key || (severity == key && i <= last);
    }
  };

  template <class Visit>
  void over_chunks(const Chunks& chunks, const Visit& visit) {
    parallel_for(chunks.count, num_threads_, [&](std::int64_t c) {
      const std::int64_t end = std::min(n_, (c + 1) * chunks.rows);
      for (std::int64_t i = c * chunks.rows; i < end; ++i) visit(c, i);
    });
  }

  T magnitude(std::int64_t i) const { return std::abs(scores_[i]); }

  T new_weight(const Reweighting& how, std::int64_t i) const {
    const double w = static_cast<double>(weights_[i]);
    const double tau = static_cast<double>(scores_[i]);
    if (how.rule == FilterOptions::Rule::fixed_fraction)
      return tau >= how.bound ? T(0) : weights_[i];
    const double survive = std::pow(std::clamp(1.0 - tau / how.top, 0.0, 1.0), how.power);
    if (how.rule == FilterOptions::Rule::soft) return static_cast<T>(w * survive);
    const double u = uniform_hash(how.seed, how.stream, static_cast<std::uint64_t>(i));
    return u < survive ? weights_[i] : T(0);
  }

  /// The rows of least severity whose masses first add up to `wanted`: a radix search over the bits
  /// of the severities (non-negative floats sort like their bits), ties in row order.
  template <class Mass>
  Threshold select(double wanted, const Mass& mass) const {
    constexpr int kDigit = 16;
    std::vector<std::uint64_t> sums;
    Bits prefix = 0;
    auto left = static_cast<std::uint64_t>(std::llround(std::max(wanted, 0.0) * kOne));
    for (int shift = static_cast<int>(8 * sizeof(T)) - kDigit; shift >= 0; shift -= kDigit) {
      sums.assign(std::size_t{1} << kDigit, 0);
      for (std::int64_t i = 0; i < n_; ++i) {
        const Bits bits = std::bit_cast<Bits>(magnitude(i));
        const Bits above = static_cast<Bits>(
            shift + kDigit < static_cast<int>(8 * sizeof(T)) ? bits >> (shift + kDigit) : 0);
        if (above == prefix) sums[(bits >> shift) & 0xffffu] += units(mass(i));
      }
      std::size_t digit = 0;
      while (digit + 1 < sums.size() && sums[digit] < left) left -= sums[digit++];
      prefix = static_cast<Bits>((prefix << kDigit) | digit);
    }
    const T key = std::bit_cast<T>(prefix);
    std::int64_t last = -1;
    for (std::int64_t i = 0; i < n_ && left > 0; ++i) {
      if (magnitude(i) != key) continue;
      const std::uint64_t part = units(mass(i));
      if (part == 0) continue;
      last = i;
      left -= std::min(left, part);
    }
    return {key, last};
  }

  T* weights_;
  T* scores_;
  std::int64_t n_;
  int num_threads_;
};

}  // namespace tamis::detail
