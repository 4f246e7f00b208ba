// Oracles: covariances with known eigenpairs, and the residual computed from the definition.
#include "tamis/power_iteration.hpp"

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "check.hpp"

namespace {

using Method = tamis::PowerIterationOptions::Method;

/// Rows +-sqrt(d l_j) e_j: the covariance is exactly diag(l), whatever the repetition.
std::vector<double> diagonal_rows(const std::vector<double>& l, int repeat) {
  const std::size_t d = l.size();
  std::vector<double> x;
  for (int r = 0; r < repeat; ++r) {
    for (std::size_t j = 0; j < d; ++j) {
      for (const double sign : {1.0, -1.0}) {
        std::vector<double> row(d, 0.0);
        row[j] = sign * std::sqrt(l[j] * static_cast<double>(d));
        x.insert(x.end(), row.begin(), row.end());
      }
    }
  }
  return x;
}

tamis::EigenResult top(const std::vector<double>& x, std::int64_t d, std::int64_t k,
                       tamis::PowerIterationOptions options = {}) {
  const auto n = static_cast<std::int64_t>(x.size()) / d;
  return tamis::power_iteration({x.data(), n, d, d, tamis::DType::float64}, k, {}, nullptr,
                                options);
}

}  // namespace

TEST_CASE(finds_known_eigenpairs) {
  const std::vector<double> l = {1, 9, 2, 4, 3, 1, 1, 2, 0.5, 6};
  const auto x = diagonal_rows(l, 3);
  for (const Method method : {Method::lanczos, Method::power}) {
    const auto r = top(x, 10, 3, {.method = method, .tol = 1e-10, .max_iter = 2000});
    CHECK(r.converged);
    CHECK_NEAR(r.values[0], 9.0, 1e-9);
    CHECK_NEAR(r.values[1], 6.0, 1e-9);
    CHECK_NEAR(r.values[2], 4.0, 1e-9);
    CHECK_NEAR(r.vectors[1 * 3 + 0], 1.0, 1e-9);
    CHECK_NEAR(r.vectors[9 * 3 + 1], 1.0, 1e-9);
    CHECK_NEAR(r.vectors[3 * 3 + 2], 1.0, 1e-9);
    CHECK(!r.clustered);
  }
}

TEST_CASE(repeated_eigenvalues_converge_and_say_so) {
  std::vector<double> l(40, 1.0);
  for (int j = 0; j < 6; ++j) l[static_cast<std::size_t>(5 * j)] = 5.0;
  const auto r = top(diagonal_rows(l, 2), 40, 2, {.tol = 1e-8});
  CHECK(r.converged);
  CHECK(r.clustered);
  CHECK_NEAR(r.values[0], 5.0, 1e-7);
  CHECK_NEAR(r.values[1], 5.0, 1e-7);
}

TEST_CASE(degenerate_data) {
  const auto one = top({1.0, 2.0, 3.0}, 3, 2);  // one row: no variance
  CHECK(one.converged);
  CHECK_EQ(one.values[0], 0.0);
  double norm = 0.0;
  for (int j = 0; j < 3; ++j)
    norm +=
        one.vectors[static_cast<std::size_t>(2 * j)] * one.vectors[static_cast<std::size_t>(2 * j)];
  CHECK_NEAR(norm, 1.0, 1e-12);
  const auto scalar = top({0.0, 2.0, 4.0}, 1, 1);
  CHECK_NEAR(scalar.values[0], 8.0 / 3.0, 1e-12);
  std::vector<double> rank_one;
  for (int i = 0; i < 50; ++i) {
    for (int j = 0; j < 7; ++j) rank_one.push_back((i - 24.5) * (j == 3 ? 2.0 : 1.0));
  }
  const auto r = top(rank_one, 7, 3, {.tol = 1e-9});
  CHECK(r.converged);
  CHECK_NEAR(r.values[0], 10.0 * (50.0 * 50.0 - 1.0) / 12.0, 1e-6);
  CHECK_NEAR(r.values[1], 0.0, 1e-6);
}

TEST_CASE(limits_are_data_and_checkpoints_stop) {
  std::vector<double> l(200);
  for (std::size_t j = 0; j < l.size(); ++j) l[j] = 1.0 + 1e-4 * static_cast<double>(j);
  const auto x = diagonal_rows(l, 1);
  const auto r = top(x, 200, 1, {.tol = 1e-12, .max_iter = 2});
  CHECK(!r.converged);
  CHECK_EQ(r.iterations, 2);
  CHECK(r.residuals[0] > 0.0);
  CHECK_THROWS_AS(top(x, 200, 1, {.checkpoint = [] { throw std::runtime_error("stop"); }}),
                  std::runtime_error);
  CHECK_THROWS_AS(top(x, 200, 201), std::invalid_argument);
  CHECK_THROWS_AS(top(x, 200, 1, {.tol = 0.0}), std::invalid_argument);
  CHECK_THROWS_AS(top(x, 200, 1, {.max_iter = 0}), std::invalid_argument);
}

TEST_CASE(starts_where_it_is_told) {
  const std::vector<double> l = {1, 9, 2, 4, 3, 1, 1, 2, 0.5, 6};
  const auto x = diagonal_rows(l, 40);
  std::vector<double> init(10, 0.0);
  init[1] = 1.0;
  const auto r = top(x, 10, 1, {.tol = 1e-6, .init = init.data(), .init_columns = 1});
  CHECK_EQ(r.iterations, 1);
  CHECK_NEAR(r.values[0], 9.0, 1e-9);
}
