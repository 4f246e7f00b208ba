// Oracle: counts worked out by hand, and a plain argmax over doubles.
#include "tamis/vote_counts.hpp"

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "check.hpp"
#include "src/detail/half.hpp"

namespace {

using tamis::DType;
using Counts = std::vector<std::int64_t>;

const float kNan = std::numeric_limits<float>::quiet_NaN();
const float kInf = std::numeric_limits<float>::infinity();

template <class T>
constexpr DType dtype_of = DType::float32;
template <>
constexpr DType dtype_of<double> = DType::float64;
template <>
constexpr DType dtype_of<tamis::detail::Float16> = DType::float16;
template <>
constexpr DType dtype_of<tamis::detail::BFloat16> = DType::bfloat16;

void assign(float v, double& out) { out = v; }
template <class T>
void assign(float v, T& out) {
  tamis::detail::from_float32(v, out);
}

/// Small integers, exact in every type, with many ties; rows `stride` apart, NaN in the padding.
template <class T>
void compare(std::int64_t rows, std::int64_t cols) {
  const std::int64_t stride = cols + 3;
  std::vector<T> logits(static_cast<std::size_t>(rows * stride));
  for (auto& v : logits) assign(kNan, v);
  Counts want(static_cast<std::size_t>(cols), 0);
  for (std::int64_t i = 0; i < rows; ++i) {
    std::int64_t best = 0;
    double best_value = -1e9;
    for (std::int64_t c = 0; c < cols; ++c) {
      const auto v = static_cast<float>((i * 7919 + c * 104729 + i * c) % 13 - 6);
      assign(v, logits[static_cast<std::size_t>(i * stride + c)]);
      if (v > best_value) {
        best_value = v;
        best = c;
      }
    }
    ++want[static_cast<std::size_t>(best)];
  }
  Counts got(static_cast<std::size_t>(cols), -5);
  tamis::vote_counts({logits.data(), rows, cols, stride, dtype_of<T>}, got.data());
  CHECK(got == want);
}

Counts count(const std::vector<float>& logits, std::int64_t cols) {
  Counts got(static_cast<std::size_t>(cols), -5);
  const auto rows = static_cast<std::int64_t>(logits.size()) / cols;
  tamis::vote_counts({logits.data(), rows, cols, cols}, got.data());
  return got;
}

}  // namespace

TEST_CASE(the_forced_instruction_set_is_the_one_that_runs) {
  const char* forced = std::getenv("TAMIS_FORCE_ISA");
  if (forced != nullptr) CHECK_EQ(tamis::active_isa(), std::string(forced));
}

TEST_CASE(every_type_and_size) {
  for (const std::int64_t cols : {1, 2, 3, 7, 8, 9, 10, 31, 33, 100, 1000}) {
    for (const std::int64_t rows : {0, 1, 2, 31, 257}) {
      compare<float>(rows, cols);
      compare<double>(rows, cols);
      compare<tamis::detail::Float16>(rows, cols);
      compare<tamis::detail::BFloat16>(rows, cols);
    }
  }
}

TEST_CASE(ties_and_infinities) {
  CHECK(count({1, 1, 0, /**/ 0, 2, 2, /**/ 3, 3, 3}, 3) == (Counts{2, 1, 0}));
  CHECK(count({-kInf, -kInf, /**/ -kInf, kInf, /**/ kInf, kInf}, 2) == (Counts{2, 1}));
  CHECK(count({-0.0f, 0.0f, /**/ 0.0f, -0.0f}, 2) == (Counts{2, 0}));
}

TEST_CASE(nan_rows_are_named) {
  for (const std::size_t position : {6u, 7u, 8u}) {  // any column of row 2
    std::vector<float> logits{0, 1, 2, 3, 4, 5, 6, 7, 8, kNan, 0, 0};
    logits[position] = kNan;
    try {
      count(logits, 3);
      check::failed(__FILE__, __LINE__, "no exception");
    } catch (const tamis::NanRowError& error) {
      CHECK_EQ(error.row(), 2);
      CHECK(std::string(error.what()).find("row 2") != std::string::npos);
    }
  }
}

TEST_CASE(broken_contracts) {
  std::vector<float> logits(12);
  Counts counts(4);
  CHECK_THROWS_AS(tamis::vote_counts({logits.data(), 3, 0, 4}, counts.data()),
                  std::invalid_argument);
  CHECK_THROWS_AS(tamis::vote_counts({logits.data(), -1, 4, 4}, counts.data()),
                  std::invalid_argument);
  CHECK_THROWS_AS(tamis::vote_counts({logits.data(), 3, 4, 3}, counts.data()),
                  std::invalid_argument);
  CHECK_THROWS_AS(tamis::vote_counts({nullptr, 3, 4, 4}, counts.data()), std::invalid_argument);
  CHECK_THROWS_AS(tamis::vote_counts({logits.data(), 3, 4, 4}, nullptr), std::invalid_argument);
}

TEST_CASE(deferred_counts_end_with_the_first_nan_row_or_minus_one) {
  std::vector<float> logits{0, 1, 2, 3, 4, 3, 6, 7, 8};
  Counts result(4, 99);
  tamis::vote_counts_deferred({logits.data(), 3, 3, 3}, result.data());
  CHECK(result == (Counts{0, 1, 2, -1}));
  logits[7] = kNan;
  tamis::vote_counts_deferred({logits.data(), 3, 3, 3}, result.data());
  CHECK_EQ(result[3], 2);
  tamis::vote_counts_deferred({logits.data(), 0, 3, 3}, result.data());
  CHECK(result == (Counts{0, 0, 0, -1}));
}
