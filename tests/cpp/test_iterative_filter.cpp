// Oracles: planted outliers, the clean rows' own mean, and the promises of the header.
#include "tamis/iterative_filter.hpp"

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "check.hpp"

namespace {

using Rule = tamis::FilterOptions::Rule;
using Stop = tamis::FilterResult::StopReason;

constexpr std::int64_t kD = 12;

/// n normal rows; the first `bad` of them lie at 5 in every coordinate.
std::vector<float> planted(std::int64_t n, std::int64_t bad) {
  std::mt19937_64 generator(11);
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<std::size_t>(n * kD));
  for (float& e : x) e = normal(generator);
  for (std::int64_t i = 0; i < bad * kD; ++i) x[static_cast<std::size_t>(i)] = 5.0f;
  return x;
}

struct Run {
  std::vector<float> weights, scores;
  tamis::FilterResult result;
};

Run filter(const std::vector<float>& x, const tamis::FilterOptions& options = {}, int threads = 1) {
  const auto n = static_cast<std::int64_t>(x.size()) / kD;
  Run run{std::vector<float>(static_cast<std::size_t>(n), -1.0f),
          std::vector<float>(static_cast<std::size_t>(n), -1.0f),
          {}};
  run.result = tamis::iterative_filter(
      {x.data(), n, kD, kD, tamis::DType::float32}, {run.weights.data(), n, tamis::DType::float32},
      {run.scores.data(), n, tamis::DType::float32}, options, {.num_threads = threads});
  return run;
}

}  // namespace

TEST_CASE(every_rule_removes_planted_rows) {
  const auto x = planted(2000, 200);
  for (const Rule rule : {Rule::gaussian_tail, Rule::bounded_covariance, Rule::fixed_fraction,
                          Rule::soft, Rule::randomized}) {
    const Run run = filter(x, {.rule = rule});
    double bad = 0.0;
    double removed = 0.0;
    for (std::size_t i = 0; i < run.weights.size(); ++i) {
      if (i < 200) bad += static_cast<double>(run.weights[i]);
      removed += 1.0 - static_cast<double>(run.weights[i]);
      CHECK(run.weights[i] >= 0.0f && run.weights[i] <= 1.0f);
      CHECK(run.scores[i] >= 0.0f && std::isfinite(run.scores[i]));
    }
    CHECK_EQ(bad, 0.0);
    CHECK(removed <= 0.25 * 2000);
    CHECK_NEAR(run.result.contamination, removed / 2000, 1e-12);
    double weight = 0.0;
    for (const float w : run.weights) weight += static_cast<double>(w);
    for (std::int64_t j = 0; j < kD; ++j) {  // mean = weights . X / sum of weights
      double sum = 0.0;
      for (std::size_t i = 0; i < run.weights.size(); ++i) {
        sum += static_cast<double>(run.weights[i]) *
               static_cast<double>(x[i * kD + static_cast<std::size_t>(j)]);
      }
      CHECK_NEAR(run.result.mean[static_cast<std::size_t>(j)], sum / weight, 1e-6);
    }
  }
}

TEST_CASE(same_bits_for_any_number_of_threads) {
  const auto x = planted(20001, 2000);
  const Run one = filter(x);
  for (const int threads : {2, 8}) {
    const Run more = filter(x, {}, threads);
    CHECK(one.weights == more.weights);
    CHECK(one.scores == more.scores);
    CHECK(one.result.mean == more.result.mean);
    CHECK(one.result.directions == more.result.directions);
  }
}

TEST_CASE(the_budget_binds) {
  const auto x = planted(2000, 600);
  const Run run = filter(x, {.contamination = 0.05, .max_removed = 2.0});
  double removed = 0.0;
  for (const float w : run.weights) removed += 1.0 - static_cast<double>(w);
  CHECK(removed <= 200.0);
  CHECK(run.result.stop_reason == Stop::removal_limit);
}

TEST_CASE(huge_rows_are_pruned_and_named_without_pruning) {
  auto x = planted(500, 20);
  for (int i = 0; i < 20 * kD; ++i)
    x[static_cast<std::size_t>(i)] = 1e30f * (i % 2 == 0 ? 1.0f : -1.0f);
  const Run run = filter(x);
  for (int i = 0; i < 20; ++i) {
    CHECK_EQ(run.weights[static_cast<std::size_t>(i)], 0.0f);
    CHECK(std::isfinite(run.scores[static_cast<std::size_t>(i)]));
  }
  CHECK_THROWS_AS(filter(x, {.prune = false}), tamis::NonFiniteError);
  x[7] = std::numeric_limits<float>::quiet_NaN();
  CHECK_THROWS_AS(filter(x), tamis::NonFiniteError);
}

TEST_CASE(small_and_degenerate_data) {
  const Run one = filter(std::vector<float>(kD, 2.0f));
  CHECK(one.result.stop_reason == Stop::too_few_rows);
  CHECK_EQ(one.result.mean[3], 2.0);
  CHECK_EQ(one.weights[0], 1.0f);
  const Run same = filter(std::vector<float>(kD * 100, 2.0f));
  CHECK(same.result.stop_reason == Stop::zero_variance);
  CHECK_EQ(same.result.mean[3], 2.0);
  const Run none = filter(planted(100, 0), {.contamination = 0.0});
  CHECK(none.result.stop_reason == Stop::no_contamination);
}

TEST_CASE(contract_violations) {
  const auto x = planted(100, 5);
  CHECK_THROWS_AS(filter(x, {.contamination = 0.5}), std::invalid_argument);
  CHECK_THROWS_AS(filter(x, {.contamination = std::nan("")}), std::invalid_argument);
  CHECK_THROWS_AS(filter(x, {.max_rounds = 0}), std::invalid_argument);
  CHECK_THROWS_AS(filter(x, {.max_removed = 0.5}), std::invalid_argument);
  CHECK_THROWS_AS(filter(x, {.checkpoint = [] { throw std::runtime_error("stop"); }}),
                  std::runtime_error);
}
