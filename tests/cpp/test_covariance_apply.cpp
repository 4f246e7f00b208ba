// Oracle: the definition in long double.
#include "tamis/covariance_apply.hpp"

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

struct Options {
  double offset = 0.0;
  bool weighted = false;
  bool centred = false;  ///< is a mean given?
};

template <class T>
void compare(std::int64_t n, std::int64_t d, std::int64_t k, const Options& options) {
  std::mt19937_64 generator(static_cast<std::uint64_t>(n * 100 + d));
  std::normal_distribution<double> normal;
  const std::int64_t stride = d + 2;
  std::vector<T> x(static_cast<std::size_t>(n * stride), std::numeric_limits<T>::quiet_NaN());
  std::vector<T> w(static_cast<std::size_t>(n), T(1));
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < d; ++j) {
      x[static_cast<std::size_t>(i * stride + j)] =
          static_cast<T>(options.offset + normal(generator));
    }
    if (options.weighted) w[static_cast<std::size_t>(i)] = static_cast<T>(i % 3) / 2;
  }
  if (options.weighted && n < 2) w[0] = T(1);
  if (options.weighted && n > 3) {  // of weight 0: not looked at
    x[static_cast<std::size_t>(3 * stride)] = std::numeric_limits<T>::infinity();
  }
  std::vector<double> v(static_cast<std::size_t>(d * k));
  for (double& e : v) e = static_cast<float>(normal(generator));  // exact in either type
  std::vector<long double> mean(static_cast<std::size_t>(d), 0.0L);
  std::vector<double> given(static_cast<std::size_t>(d));
  long double mass = 0;
  for (const T wi : w) mass += wi;
  for (std::int64_t j = 0; j < d; ++j) {
    for (std::int64_t i = 0; i < n; ++i) {
      if (w[static_cast<std::size_t>(i)] > 0) {
        mean[static_cast<std::size_t>(j)] +=
            static_cast<long double>(w[static_cast<std::size_t>(i)]) *
            x[static_cast<std::size_t>(i * stride + j)] / mass;
      }
    }
    given[static_cast<std::size_t>(j)] = options.offset + 0.25;
    if (options.centred) mean[static_cast<std::size_t>(j)] = given[static_cast<std::size_t>(j)];
  }
  std::vector<double> y(static_cast<std::size_t>(d * k), -1.0);
  const tamis::ConstVectorView weights{options.weighted ? w.data() : nullptr, n, dtype_of<T>};
  tamis::covariance_apply({x.data(), n, d, stride, dtype_of<T>}, v.data(), k, y.data(), weights,
                          options.centred ? given.data() : nullptr);
  // Terms are about d in size; sums round (d + 128 + chunks) times in T at worst, and a shift near
  // the mean leaves no cancellation. A wide margin over the typical error, far below any mistake.
  const double tolerance = 64.0 * static_cast<double>(d + 160) * std::numeric_limits<T>::epsilon();
  for (std::int64_t c = 0; c < k; ++c) {
    std::vector<long double> want(static_cast<std::size_t>(d), 0.0L);
    for (std::int64_t i = 0; i < n; ++i) {
      if (!(w[static_cast<std::size_t>(i)] > 0)) continue;
      long double z = 0;
      for (std::int64_t j = 0; j < d; ++j) {
        z += (x[static_cast<std::size_t>(i * stride + j)] - mean[static_cast<std::size_t>(j)]) *
             v[static_cast<std::size_t>(j * k + c)];
      }
      for (std::int64_t j = 0; j < d; ++j) {
        want[static_cast<std::size_t>(j)] +=
            w[static_cast<std::size_t>(i)] * z *
            (x[static_cast<std::size_t>(i * stride + j)] - mean[static_cast<std::size_t>(j)]) /
            mass;
      }
    }
    for (std::int64_t j = 0; j < d; ++j) {
      CHECK_NEAR(y[static_cast<std::size_t>(j * k + c)],
                 static_cast<double>(want[static_cast<std::size_t>(j)]), tolerance);
    }
  }
}

template <class T>
void compare_all() {
  for (const std::int64_t n : {1, 2, 7, 128, 129, 1023}) {
    for (const std::int64_t d : {1, 7, 16, 33}) {
      compare<T>(n, d, 1, {});
      compare<T>(n, d, 5, {.weighted = true});
      compare<T>(n, d, 3, {.weighted = true, .centred = true});
    }
  }
  compare<T>(3001, 40, 9, {.offset = 1000.0});
  compare<T>(3001, 40, 9, {.offset = 1000.0, .centred = true});
}

std::string message_of(const std::vector<float>& x, std::int64_t d) {
  const auto n = static_cast<std::int64_t>(x.size()) / d;
  const std::vector<double> v(static_cast<std::size_t>(d), 1.0);
  std::vector<double> y(v.size());
  try {
    tamis::covariance_apply({x.data(), n, d, d, tamis::DType::float32}, v.data(), 1, y.data());
  } catch (const tamis::NonFiniteError& error) {
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
  constexpr std::int64_t n = 20001, d = 19, k = 3;
  std::vector<float> x(n * d);
  for (float& e : x) e = normal(generator);
  const std::vector<double> v(d * k, 0.5);
  std::vector<double> first(d * k), other(d * k);
  for (const int threads : {1, 2, 3, 8}) {
    auto& y = threads == 1 ? first : other;
    tamis::covariance_apply({x.data(), n, d, d, tamis::DType::float32}, v.data(), k, y.data(), {},
                            nullptr, {.num_threads = threads});
    if (threads > 1) CHECK(first == other);
  }
}

TEST_CASE(bad_rows_are_named) {
  std::vector<float> x(50, 1.0f);
  x[23] = std::numeric_limits<float>::quiet_NaN();
  x[41] = -std::numeric_limits<float>::infinity();
  CHECK(message_of(x, 5).find("got NaN in row 4, column 3") != std::string::npos);
  x[23] = 1.0f;
  CHECK(message_of(x, 5).find("got -inf in row 8, column 1") != std::string::npos);
  x[41] = 1e30f;
  CHECK(message_of(x, 5).find("rescale") != std::string::npos);
  x[41] = 1.0f;
  CHECK_EQ(message_of(x, 5), "");
}

TEST_CASE(contract_violations) {
  const std::vector<float> x(20, 1.0f);
  std::vector<double> v(5, 1.0), y(5);
  std::vector<float> w(4, 1.0f);
  const tamis::ConstMatrixView good{x.data(), 4, 5, 5, tamis::DType::float32};
  const auto call = [&](const tamis::ConstMatrixView& m, std::int64_t k,
                        const float* weights = nullptr, std::int64_t size = 4) {
    tamis::covariance_apply(m, v.data(), k, y.data(), {weights, size, tamis::DType::float32});
    return 0;
  };
  CHECK_EQ(call(good, 1), 0);
  CHECK_THROWS_AS(call({x.data(), 0, 5, 5, tamis::DType::float32}, 1), std::invalid_argument);
  CHECK_THROWS_AS(call({x.data(), 4, 5, 4, tamis::DType::float32}, 1), std::invalid_argument);
  CHECK_THROWS_AS(call({x.data(), 4, 5, 5, tamis::DType::float16}, 1), std::invalid_argument);
  CHECK_THROWS_AS(call({nullptr, 4, 5, 5, tamis::DType::float32}, 1), std::invalid_argument);
  CHECK_THROWS_AS(call(good, 0), std::invalid_argument);
  CHECK_THROWS_AS(call(good, 257), std::invalid_argument);
  CHECK_THROWS_AS(call(good, 1, w.data(), 3), std::invalid_argument);
  w[2] = -1.0f;
  CHECK_THROWS_AS(call(good, 1, w.data()), std::invalid_argument);
  w.assign(4, 0.0f);
  CHECK_THROWS_AS(call(good, 1, w.data()), std::invalid_argument);
  v[1] = std::numeric_limits<double>::infinity();
  CHECK_THROWS_AS(call(good, 1), std::invalid_argument);
}
