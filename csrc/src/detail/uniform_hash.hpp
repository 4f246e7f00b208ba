// Counter-based randomness for row samples and starting vectors: a function of (seed, stream, i).
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

namespace tamis::detail {

/// What a number is drawn for; different streams are independent.
enum Stream : std::uint64_t {
  kSampleStream = 0,
  kStartStream = 1,
  kFewStream = 2,
  kPairFirstStream = 3,
  kPairSecondStream = 4,
  kFilterStartStream = 5,
  kAtomStream = 6,
  kDropStream = 16,    ///< + the number of the draw
  kFillStream = 1000,  ///< + the attempt
};

/// A double in [0, 1), a multiple of 2^-53, by the splitmix64 finaliser. Source: Steele, Lea and
/// Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
inline double uniform_hash(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  constexpr std::uint64_t golden = 0x9E3779B97F4A7C15u;
  std::uint64_t z = seed * golden + (stream + 1) * 0xD1B54A32D192ED03u + (index + 1) * golden;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  z ^= z >> 31;
  return static_cast<double>(z >> 11) * 0x1p-53;
}

/// `size` row numbers of n, ascending: one uniform draw from each of `size` equal strata, so that
/// an adversary cannot place rows where they are never looked at. All rows if size >= n.
inline std::vector<std::int64_t> sample_rows(std::int64_t n, std::int64_t size, std::uint64_t seed,
                                             std::uint64_t stream) {
  std::vector<std::int64_t> rows(static_cast<std::size_t>(size < n ? size : n));
  const double step = static_cast<double>(n) / static_cast<double>(size);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const auto at = static_cast<double>(i);
    const auto row = size < n
                         ? static_cast<std::int64_t>((at + uniform_hash(seed, stream, i)) * step)
                         : static_cast<std::int64_t>(i);
    rows[i] = row < n ? row : n - 1;
  }
  return rows;
}

/// k vectors of d standard normal numbers, one after the other. The numbers are those of a (d, k)
/// row-major block: entry (j, c) is draw j * k + c.
inline std::vector<double> gaussian_block(std::int64_t d, std::int64_t k, std::uint64_t seed,
                                          std::uint64_t stream) {
  std::vector<double> block(static_cast<std::size_t>(d * k));
  for (std::int64_t j = 0; j < d; ++j) {
    for (std::int64_t c = 0; c < k; ++c) {
      const auto draw = 2 * static_cast<std::uint64_t>(j * k + c);
      const double u = uniform_hash(seed, stream, draw);
      const double v = uniform_hash(seed, stream, draw + 1);
      block[static_cast<std::size_t>(c * d + j)] =
          std::sqrt(-2.0 * std::log1p(-u)) * std::cos(2.0 * M_PI * v);
    }
  }
  return block;
}

}  // namespace tamis::detail
