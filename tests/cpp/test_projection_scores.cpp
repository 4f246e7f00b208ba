// Oracle: the definition in long double.
#include "tamis/projection_scores.hpp"

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "check.hpp"

namespace {

template <class T>
void compare(std::int64_t n, std::int64_t d, std::int64_t k, bool centred) {
  constexpr auto dtype = sizeof(T) == 4 ? tamis::DType::float32 : tamis::DType::float64;
  std::mt19937_64 generator(static_cast<std::uint64_t>(n * 100 + d));
  std::normal_distribution<double> normal(3.0, 1.0);
  const std::int64_t stride = d + 1;
  std::vector<T> x(static_cast<std::size_t>(n * stride), std::numeric_limits<T>::quiet_NaN());
  std::vector<double> v(static_cast<std::size_t>(d * k));
  std::vector<double> given(static_cast<std::size_t>(d), 2.9);
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < d; ++j) {
      x[static_cast<std::size_t>(i * stride + j)] = static_cast<T>(normal(generator));
    }
  }
  for (double& e : v) e = static_cast<float>(normal(generator) - 3.0);
  std::vector<T> scores(static_cast<std::size_t>(n), T(-1));
  tamis::projection_scores({x.data(), n, d, stride, dtype}, v.data(), k, {scores.data(), n, dtype},
                           centred ? given.data() : nullptr);
  for (std::int64_t i = 0; i < n; ++i) {
    long double sum = 0;
    long double size = 0;
    for (std::int64_t c = 0; c < k; ++c) {
      long double z = 0;
      long double terms = 0;
      for (std::int64_t j = 0; j < d; ++j) {
        long double mean = given[static_cast<std::size_t>(j)];
        if (!centred) {
          mean = 0;
          for (std::int64_t r = 0; r < n; ++r) {
            mean += static_cast<long double>(x[static_cast<std::size_t>(r * stride + j)]) / n;
          }
        }
        const long double term = (x[static_cast<std::size_t>(i * stride + j)] - mean) *
                                 v[static_cast<std::size_t>(j * k + c)];
        z += term;
        terms += std::fabs(term) + std::fabs(v[static_cast<std::size_t>(j * k + c)]);
      }
      sum += z * z;
      size += terms * terms;
    }
    // Each z errs by (d + 4) eps times its terms; a square doubles that.
    const long double eps = std::numeric_limits<T>::epsilon();
    CHECK_NEAR(static_cast<double>(scores[static_cast<std::size_t>(i)]), static_cast<double>(sum),
               static_cast<double>(4 * static_cast<long double>(d + k + 4) * eps * size));
  }
}

}  // namespace

TEST_CASE(matches_the_definition) {
  for (const std::int64_t n : {1, 2, 33, 130}) {
    for (const std::int64_t d : {1, 7, 16, 33}) {
      for (const std::int64_t k : {1, 3, 9}) {
        compare<float>(n, d, k, true);
        compare<double>(n, d, k, true);
        compare<float>(n, d, k, false);
        compare<double>(n, d, k, false);
      }
    }
  }
}

TEST_CASE(no_rows_give_nothing) {
  const std::vector<double> v(3, 1.0);
  tamis::projection_scores({nullptr, 0, 3, 3, tamis::DType::float64}, v.data(), 1,
                           {nullptr, 0, tamis::DType::float64});
  CHECK(true);
}

TEST_CASE(contract_violations) {
  std::vector<float> x(20, 1.0f), scores(4);
  const std::vector<double> v(5, 1.0);
  const auto call = [&](tamis::VectorView out) {
    tamis::projection_scores({x.data(), 4, 5, 5, tamis::DType::float32}, v.data(), 1, out);
    return 0;
  };
  CHECK_EQ(call({scores.data(), 4, tamis::DType::float32}), 0);
  CHECK_THROWS_AS(call({scores.data(), 3, tamis::DType::float32}), std::invalid_argument);
  CHECK_THROWS_AS(call({scores.data(), 4, tamis::DType::float64}), std::invalid_argument);
  CHECK_THROWS_AS(call({x.data() + 16, 4, tamis::DType::float32}), std::invalid_argument);
  CHECK_THROWS_AS(call({nullptr, 4, tamis::DType::float32}), std::invalid_argument);
  x[13] = std::numeric_limits<float>::quiet_NaN();
  CHECK_THROWS_AS(call({scores.data(), 4, tamis::DType::float32}), tamis::NonFiniteError);
}
