// FilterStream: iterative_filter for rows that come in chunks.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "tamis/iterative_filter.hpp"

namespace tamis {

/// Finds intervals on a sample of the rows that fits in memory, and carries them to all rows.
///
///     stream.fit(sample)                 // the filter itself, on the sample
///     for each pass: absorb every chunk, then finish_pass() until it returns true
///
/// A pass applies the present intervals, sums the rows that stay, counts one histogram per
/// direction over all rows, and multiplies the survivors' covariance into a block of candidate
/// directions (one step of subspace iteration). finish_pass() finds the intervals anew from the
/// histograms and records candidates with an unexplained tail; it is done when the number of kept
/// rows settles and no candidate is new.
///
/// - Rules: gaussian_tail and bounded_covariance decide row by row. The others weigh rows against
///   one another, so on a stream they are replaced by the hard rule of their family after fit():
///   a row stays if it is in the ball and in every interval.
/// - Chunks: (m, d), float32 or float64, any m >= 0 and row stride, of the sample's type. How rows
///   are cut into chunks changes results by rounding only.
/// - Memory: the sample (which must stay alive and unchanged), two numbers a row of it and of the
///   largest chunk, and O(d) per direction. CPU only.
/// - The budget ends the passes (`limited`), it does not bring rows back as in memory.
/// - Not safe for calls from two threads at once. After an exception from absorb() the pass is
///   lost: fit() again.
/// @throws as iterative_filter; std::logic_error if called before fit().
class FilterStream {
 public:
  FilterStream(const FilterOptions& options, int num_threads);
  ~FilterStream();
  FilterStream(FilterStream&&) noexcept;
  FilterStream& operator=(FilterStream&&) noexcept;

  FilterResult fit(ConstMatrixView sample);
  /// keep[i] = 1 if row i of the chunk is in the ball and in every interval, else 0.
  void keep(ConstMatrixView chunk, std::uint8_t* keep);
  void absorb(ConstMatrixView chunk);
  /// Ends a pass. True when there is nothing left to correct.
  bool finish_pass();

  const std::vector<double>& mean() const;  ///< d: of the rows kept in the last pass, else fit's
  double kept() const;                      ///< rows of the last pass that stayed, else fit's
  double seen() const;                      ///< rows of the last pass, else fit's
  std::int64_t passes() const;              ///< finished
  bool limited() const;                     ///< more would have gone than max_removed allows

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tamis
