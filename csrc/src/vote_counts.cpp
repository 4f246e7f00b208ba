#include "tamis/vote_counts.hpp"

#include <algorithm>
#include <string>

#include "src/detail/check.hpp"
#include "src/detail/vote_counts_backend.hpp"

namespace tamis {
namespace {

/// `size`: how many numbers lie at counts.
void check(const ConstMatrixView& logits, const std::int64_t* counts, std::int64_t size) {
  using detail::text;
  const auto fail = [](const std::string& expected, const std::string& got) {
    detail::fail("vote_counts", expected, got);
  };
  if (logits.rows < 0 || logits.cols < 1) {
    fail("logits of shape (B, C) with C >= 1", text("(", logits.rows, ", ", logits.cols, ")"));
  }
  if (logits.rows > 1 && logits.row_stride < logits.cols) {
    fail(text("logits.row_stride >= ", logits.cols), text(logits.row_stride));
  }
  if (counts == nullptr || (logits.data == nullptr && logits.rows > 0)) {
    fail("non-null data", "null");
  }
  if (logits.rows > 0) {
    const auto* in = static_cast<const char*>(logits.data);
    const auto* in_end =
        in + ((logits.rows - 1) * logits.row_stride + logits.cols) * size_of(logits.dtype);
    const auto* out = reinterpret_cast<const char*>(counts);
    if (out < in_end && in < out + size * 8) {
      fail("counts apart from logits", "overlapping memory");
    }
  }
}

std::int64_t count_on_cpu(const ConstMatrixView& logits, std::int64_t* counts) {
  std::fill_n(counts, logits.cols, 0);
  switch (detail::active()) {
#define TAMIS_CASE(isa)  \
  case detail::Isa::isa: \
    return cpu::isa::vote_counts(logits, counts);
    TAMIS_FOR_EACH_ISA(TAMIS_CASE)
#undef TAMIS_CASE
    default:
      return cpu::baseline::vote_counts(logits, counts);
  }
}

}  // namespace

void vote_counts(ConstMatrixView logits, std::int64_t* counts, const Exec& exec) {
  check(logits, counts, logits.cols);
  const std::int64_t nan_row = exec.device.kind == Device::Kind::cuda
                                   ? cuda::vote_counts(logits, counts, exec)
                                   : count_on_cpu(logits, counts);
  if (nan_row >= 0) throw NanRowError(nan_row);
}

void vote_counts_deferred(ConstMatrixView logits, std::int64_t* result, const Exec& exec) {
  check(logits, result, logits.cols + 1);
  if (exec.device.kind == Device::Kind::cuda) {
    cuda::vote_counts_deferred(logits, result, exec);
  } else {
    result[logits.cols] = count_on_cpu(logits, result);
  }
}

}  // namespace tamis
