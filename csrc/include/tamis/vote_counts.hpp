// vote_counts: how many rows of a logits block vote for each class.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

#include "tamis/exec.hpp"
#include "tamis/views.hpp"

namespace tamis {

/// A row of the logits holds a NaN, so its vote is undefined.
class NanRowError : public std::invalid_argument {
 public:
  explicit NanRowError(std::int64_t row)
      : std::invalid_argument("[vote_counts] expected logits without NaN, got NaN in row " +
                              std::to_string(row)),
        row_(row) {}
  /// The first such row.
  std::int64_t row() const noexcept { return row_; }

 private:
  std::int64_t row_;
};

/// counts[c] = number of rows i with argmax_j logits[i, j] = c; ties go to the lowest index.
///
/// - Shapes: logits (B, C) with any row stride >= C, C >= 1 (and < 2^31 on CUDA); counts has C
///   elements and is overwritten. B = 0 gives zeros.
/// - Types: float32, float16, bfloat16 or float64. +Inf and -Inf are ordinary values.
/// - Aliasing: counts must not overlap logits; logits are never modified.
/// - Determinism: integer counts, exact.
/// - Workspace: none on the CPU, 8 bytes on CUDA. On CUDA counts lies on the device too, and the
///   call waits for exec.stream, because a NaN row is an error the caller must see.
/// @throws NanRowError naming the first row with a NaN (counts is then unspecified);
/// std::invalid_argument for shapes; std::runtime_error on a CUDA failure.
void vote_counts(ConstMatrixView logits, std::int64_t* counts, const Exec& exec = {});

/// The same without waiting: result has C + 1 elements, the counts and then the first row with a
/// NaN (the counts are then unspecified), or -1 if there is none.
///
/// On CUDA result lies on the device and is complete when exec.stream gets there: the call
/// allocates nothing and synchronises nothing, so that a caller can enqueue one batch while another
/// runs. On the CPU it is complete on return. Everything else is as above.
/// @throws as above, except for NanRowError.
void vote_counts_deferred(ConstMatrixView logits, std::int64_t* result, const Exec& exec = {});

}  // namespace tamis
