// Sums over chunks of rows, by any number of threads to the same bits.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "src/detail/row_passes.hpp"
#include "src/detail/thread_pool.hpp"

namespace tamis::detail {

/// The sum, in chunk order, of what `sum(begin, end, scratch, out)` adds to `size` zeros for every
/// chunk of rows. It adds to a number of `out` once for every kFlush rows. `Scratch` is what it
/// needs besides, made by `make()`, once for all chunks that one thread sums alone.
template <class Make, class Sum>
Aligned<double> sum_chunks(const Chunks& chunks, std::int64_t rows, std::int64_t size,
                           int num_threads, const Make& make, const Sum& sum) {
  const auto length = static_cast<std::size_t>(size);
  const auto end_of = [&](std::int64_t c) { return std::min(rows, (c + 1) * chunks.rows); };
  Aligned<double> total(length, 0.0);
  const auto add = [&](const Aligned<double>& own) {
    for (std::size_t e = 0; e < length; ++e) total[e] += own[e];
  };
  if (num_threads == 0) num_threads = default_num_threads();
  if (num_threads == 1 || chunks.count == 1) {
    auto scratch = make();
    // Adding to the total what would else be added to zeros first gives the same bits.
    const bool at_once = chunks.rows == kFlush || chunks.count == 1;
    Aligned<double> own(at_once ? 0 : length);
    for (std::int64_t c = 0; c < chunks.count; ++c) {
      if (!at_once) own.assign(length, 0.0);
      sum(c * chunks.rows, end_of(c), scratch, at_once ? total.data() : own.data());
      if (!at_once) add(own);
    }
    return total;
  }
  std::vector<Aligned<double>> sums(static_cast<std::size_t>(chunks.count));
  parallel_for(chunks.count, num_threads, [&](std::int64_t c) {
    auto scratch = make();
    auto& own = sums[static_cast<std::size_t>(c)];
    own.assign(length, 0.0);
    sum(c * chunks.rows, end_of(c), scratch, own.data());
  });
  for (const auto& own : sums) add(own);
  return total;
}

}  // namespace tamis::detail
