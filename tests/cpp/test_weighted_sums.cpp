// Oracle: the definition in long double.
#include "tamis/weighted_sums.hpp"

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "check.hpp"

namespace {

template <class T>
constexpr tamis::DType dtype_of = sizeof(T) == 4 ? tamis::DType::float32 : tamis::DType::float64;

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

/// Room after every row of x and u holds NaN. A third of the rows have no weight; one of those is
/// not finite.
template <class T>
void compare(std::int64_t n, std::int64_t d, std::int64_t j) {
  std::mt19937_64 generator(static_cast<std::uint64_t>(n * 100 + d));
  std::normal_distribution<double> normal;
  const std::int64_t stride = d + 2, u_stride = n + 3;
  std::vector<T> x(at(n * stride), std::numeric_limits<T>::quiet_NaN());
  std::vector<T> u(at(j * u_stride), std::numeric_limits<T>::quiet_NaN());
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t e = 0; e < d; ++e) x[at(i * stride + e)] = static_cast<T>(normal(generator));
    for (std::int64_t c = 0; c < j; ++c) {
      u[at(c * u_stride + i)] = i % 3 == 2 ? T(0) : static_cast<T>(normal(generator));
    }
  }
  if (n > 5) x[at(5 * stride)] = std::numeric_limits<T>::infinity();
  std::vector<double> y(at(j * d), -1.0);
  tamis::weighted_sums({x.data(), n, d, stride, dtype_of<T>},
                       {u.data(), j, n, u_stride, dtype_of<T>}, y.data());
  for (std::int64_t c = 0; c < j; ++c) {
    for (std::int64_t e = 0; e < d; ++e) {
      long double want = 0, size = 0;
      for (std::int64_t i = 0; i < n; ++i) {
        if (i % 3 == 2) continue;
        const auto term = static_cast<long double>(u[at(c * u_stride + i)]) * x[at(i * stride + e)];
        want += term;
        size += std::fabs(term);
      }
      // at most 128 roundings in T, each of half an epsilon of the sum of absolute values; those of
      // the float64 sums, n / 128 of them, are fewer
      const double tolerance =
          static_cast<double>(size) *
          (64.0 * std::numeric_limits<T>::epsilon() + static_cast<double>(n) * 0x1p-60);
      CHECK_NEAR(y[at(c * d + e)], static_cast<double>(want), tolerance);
    }
  }
}

template <class T>
void compare_all() {
  for (const std::int64_t n : {1, 2, 7, 128, 129, 1023}) {
    for (const std::int64_t d : {1, 7, 16, 33}) {
      for (const std::int64_t j : {1, 3, 8}) compare<T>(n, d, j);
    }
  }
  compare<T>(3001, 41, 9);
  compare<T>(8321, 3, 2);  // more than one block a chunk
  compare<T>(5, 9, 256);
}

std::string message_of(const std::vector<float>& x, const std::vector<float>& u) {
  const auto n = static_cast<std::int64_t>(u.size());
  const std::int64_t d = static_cast<std::int64_t>(x.size()) / n;
  std::vector<double> y(at(d));
  try {
    tamis::weighted_sums({x.data(), n, d, d, tamis::DType::float32},
                         {u.data(), 1, n, n, tamis::DType::float32}, y.data());
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE(matches_the_definition_float32) { compare_all<float>(); }
TEST_CASE(matches_the_definition_float64) { compare_all<double>(); }

TEST_CASE(same_bits_for_any_number_of_threads) {
  std::mt19937_64 generator(5);
  std::normal_distribution<float> normal;
  for (const std::int64_t n : {3001, 20001}) {
    constexpr std::int64_t d = 19, j = 3;
    std::vector<float> x(at(n * d)), u(at(j * n));
    for (float& e : x) e = normal(generator);
    for (float& e : u) e = normal(generator);
    std::vector<double> first(d * j), other(d * j);
    for (const int threads : {1, 2, 3, 8}) {
      auto& y = threads == 1 ? first : other;
      tamis::weighted_sums({x.data(), n, d, d, tamis::DType::float32},
                           {u.data(), j, n, n, tamis::DType::float32}, y.data(),
                           {.num_threads = threads});
      if (threads > 1) CHECK(first == other);
    }
  }
}

TEST_CASE(bad_numbers_are_named) {
  std::vector<float> x(50, 1.0f), u(10, 1.0f);
  x[23] = std::numeric_limits<float>::quiet_NaN();
  x[41] = -std::numeric_limits<float>::infinity();
  CHECK(message_of(x, u).find("got NaN in row 4, column 3") != std::string::npos);
  u[4] = 0.0f;
  CHECK(message_of(x, u).find("got -inf in row 8, column 1") != std::string::npos);
  u[8] = -0.0f;
  CHECK_EQ(message_of(x, u), "");
  u[9] = std::numeric_limits<float>::infinity();
  CHECK(message_of(x, u).find("U: finite numbers, got inf in row 0, column 9") !=
        std::string::npos);
  u[9] = 1e20f;
  x[45] = 1e20f;
  CHECK(message_of(x, u).find("rescale") != std::string::npos);
}

TEST_CASE(contract_violations) {
  std::vector<double> room(20, 1.0);  // float32 numbers: X, then y
  const auto* x = reinterpret_cast<const float*>(room.data());
  const std::vector<float> u(1024, 1.0f);
  std::vector<double> y(256 * 5);
  constexpr tamis::DType f4 = tamis::DType::float32;
  const tamis::ConstMatrixView good{x, 4, 5, 5, f4};
  const tamis::ConstMatrixView weights{u.data(), 1, 4, 4, f4};
  const auto call = [&](const tamis::ConstMatrixView& m, const tamis::ConstMatrixView& w,
                        double* out) {
    tamis::weighted_sums(m, w, out);
    return 0;
  };
  CHECK_EQ(call(good, weights, y.data()), 0);
  CHECK_EQ(call(good, {u.data(), 256, 4, 4, f4}, y.data()), 0);
  CHECK_EQ(call(good, weights, room.data() + 10), 0);
  CHECK_THROWS_AS(call(good, weights, room.data() + 9), std::invalid_argument);
  CHECK_THROWS_AS(call(good, weights, nullptr), std::invalid_argument);
  CHECK_THROWS_AS(call({x, 0, 5, 5, f4}, {u.data(), 1, 0, 0, f4}, y.data()), std::invalid_argument);
  CHECK_THROWS_AS(call({x, 4, 5, 4, f4}, weights, y.data()), std::invalid_argument);
  CHECK_THROWS_AS(call({x, 4, 5, 5, tamis::DType::float16}, weights, y.data()),
                  std::invalid_argument);
  CHECK_THROWS_AS(call({nullptr, 4, 5, 5, f4}, weights, y.data()), std::invalid_argument);
  CHECK_THROWS_AS(call(good, {u.data(), 0, 4, 4, f4}, y.data()), std::invalid_argument);
  CHECK_THROWS_AS(call(good, {u.data(), 257, 4, 4, f4}, y.data()), std::invalid_argument);
  CHECK_THROWS_AS(call(good, {u.data(), 1, 3, 3, f4}, y.data()), std::invalid_argument);
  CHECK_THROWS_AS(call(good, {u.data(), 2, 4, 3, f4}, y.data()), std::invalid_argument);
  CHECK_THROWS_AS(call(good, {nullptr, 1, 4, 4, f4}, y.data()), std::invalid_argument);
  CHECK_THROWS_AS(call(good, {u.data(), 1, 4, 4, tamis::DType::float64}, y.data()),
                  std::invalid_argument);
}
