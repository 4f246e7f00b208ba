// Oracle: the definition in long double.
#include "tamis/linear_gradients.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "check.hpp"

namespace {

using Numbers = std::vector<double>;

template <class T>
constexpr tamis::DType dtype_of = sizeof(T) == 4 ? tamis::DType::float32 : tamis::DType::float64;

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

/// Results, all of them wrong before the call.
struct Found {
  Numbers coefficients, center, sums, product;

  Found(std::int64_t n, std::int64_t d, std::int64_t k)
      : coefficients(at(n), -7.0),
        center(at(d), -7.0),
        sums(at(3 * d), -7.0),
        product(at(d * k), -7.0) {}
  tamis::LinearGradients places() {
    return {coefficients.data(), center.data(), sums.data(), product.data()};
  }
  bool operator==(const Found&) const = default;
};

/// n rows of d numbers between -1 and 1, `stride` apart, with NaN between, and what goes with them.
template <class T>
struct Problem {
  std::int64_t n, d, k, stride;
  std::vector<T> x;
  Numbers coef, y, weights, share, v;
  tamis::LinearModel model;

  Problem(std::int64_t rows, std::int64_t columns, std::int64_t vectors)
      : n(rows),
        d(columns),
        k(vectors),
        stride(columns + 2),
        x(at(rows * stride), std::numeric_limits<T>::quiet_NaN()),
        coef(at(columns)),
        y(at(rows)),
        weights(at(rows)),
        share(at(rows)),
        v(at(columns * vectors)) {
    std::mt19937_64 generator(static_cast<std::uint64_t>(n * 1000 + d));
    std::uniform_real_distribution<double> uniform(-1.0, 1.0);
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t j = 0; j < d; ++j) {
        x[at(i * stride + j)] = static_cast<T>(uniform(generator));
      }
      share[at(i)] = i % 3 == 1 ? 0.0 : 1.0 + uniform(generator) / 2.0;
    }
    for (Numbers* numbers : {&coef, &y, &weights, &v}) {
      for (double& number : *numbers) number = uniform(generator);
    }
    model = {coef.data(), 0.25, y.data(), std::numeric_limits<double>::infinity(), nullptr};
  }
  Found run(const double* center_weights, int threads = 1) const {
    Found found(n, d, k);
    tamis::linear_gradients({x.data(), n, d, stride, dtype_of<T>}, model, center_weights, v.data(),
                            k, found.places(), {.num_threads = threads});
    return found;
  }
};

/// With numbers up to 1, rows lie within 2 of what they are summed about. At most 128 + d roundings
/// in T and n in double, each relative to a sum of absolute values, make an error `unit` times that
/// sum; so does the residual's error with every coefficient. Four sums at most make one number.
template <class T>
void compare(std::int64_t n, std::int64_t d, std::int64_t k, bool huber, bool weighted,
             bool shared) {
  Problem<T> problem(n, d, k);
  if (huber) problem.model.epsilon = 0.5;
  if (weighted) problem.model.weights = problem.weights.data();
  const Found found = problem.run(shared ? problem.share.data() : nullptr);
  using Wide = long double;
  const double unit = (136.0 + static_cast<double>(d)) * std::numeric_limits<T>::epsilon() / 2.0 +
                      static_cast<double>(n) * 0x1p-52;
  const auto x = [&](std::int64_t i, std::int64_t j) {
    return static_cast<Wide>(problem.x[at(i * problem.stride + j)]);
  };
  double slopes = 0.0;
  for (const double slope : problem.coef) slopes += 2.0 * std::fabs(slope);
  const double off = unit * (slopes + 2.0);  // of a coefficient
  std::vector<Wide> a(at(n)), s(at(n), 1.0L), center(at(d), 0.0L);
  Wide mass = 0;
  double shares = 0.0, plain = 0.0, squares = 0.0;  // sums of absolute values, each with its error
  for (std::int64_t i = 0; i < n; ++i) {
    Wide residual = static_cast<Wide>(problem.model.intercept) - problem.y[at(i)];
    for (std::int64_t j = 0; j < d; ++j) residual += x(i, j) * problem.coef[at(j)];
    const Wide bound = problem.model.epsilon;
    a[at(i)] = std::min(std::max(residual, -bound), bound);
    if (weighted) a[at(i)] *= problem.weights[at(i)];
    if (shared) s[at(i)] = problem.share[at(i)];
    mass += s[at(i)];
    for (std::int64_t j = 0; j < d; ++j) center[at(j)] += s[at(i)] * x(i, j);
    CHECK_NEAR(found.coefficients[at(i)], static_cast<double>(a[at(i)]), off);
    const double size = static_cast<double>(std::fabs(a[at(i)]));
    shares += static_cast<double>(s[at(i)]) * (unit * size + off);
    plain += unit * size + off;
    squares += unit * size * size + off * (2.0 * size + off);
  }
  for (std::int64_t j = 0; j < d; ++j) center[at(j)] /= mass;
  for (std::int64_t j = 0; j < d; ++j) {
    CHECK_NEAR(found.center[at(j)], static_cast<double>(center[at(j)]), 4.0 * unit);
    Wide sums[3] = {};
    for (std::int64_t i = 0; i < n; ++i) {
      const Wide centred = x(i, j) - center[at(j)];
      sums[0] += s[at(i)] * a[at(i)] * centred / mass;
      sums[1] += a[at(i)] * centred;
      sums[2] += a[at(i)] * a[at(i)] * centred;
    }
    const double sizes[3] = {shares / static_cast<double>(mass), plain, squares};
    for (int which = 0; which < 3; ++which) {
      CHECK_NEAR(found.sums[at(which * d + j)], static_cast<double>(sums[which]),
                 16.0 * sizes[which]);
    }
  }
  for (std::int64_t c = 0; c < k; ++c) {
    std::vector<Wide> want(at(d), 0.0L);
    double along = 0.0;
    for (std::int64_t j = 0; j < d; ++j) along += 2.0 * std::fabs(problem.v[at(j * k + c)]);
    for (std::int64_t i = 0; i < n; ++i) {
      Wide z = 0;
      for (std::int64_t j = 0; j < d; ++j)
        z += (x(i, j) - center[at(j)]) * problem.v[at(j * k + c)];
      z *= a[at(i)] * a[at(i)];
      for (std::int64_t j = 0; j < d; ++j) want[at(j)] += z * (x(i, j) - center[at(j)]);
    }
    for (std::int64_t j = 0; j < d; ++j) {
      CHECK_NEAR(found.product[at(j * k + c)], static_cast<double>(want[at(j)]),
                 16.0 * squares * along);
    }
  }
}

template <class T>
void compare_all() {
  int way = 0;
  for (const std::int64_t n : {1, 2, 7, 128, 129, 523}) {
    for (const std::int64_t d : {1, 7, 16, 33}) {
      for (const std::int64_t k : {1, 4, 8, 9}) {
        compare<T>(n, d, k, way % 2 == 1, way % 3 == 1, way % 5 > 2);
        ++way;
      }
    }
  }
  compare<T>(2101, 41, 3, true, true, true);
  compare<T>(8321, 3, 2, false, false, true);  // more than one block a chunk
  compare<T>(5, 9, 251, true, true, false);
}

/// What a call says of 10 rows of ones, y = 0 and coef = 1, changed by `change`.
template <class Change>
std::string message_of(const Change& change) {
  Problem<float> problem(10, 5, 1);
  for (std::int64_t i = 0; i < 10; ++i) {
    for (std::int64_t j = 0; j < 5; ++j) problem.x[at(i * problem.stride + j)] = 1.0f;
  }
  std::fill(problem.y.begin(), problem.y.end(), 0.0);
  std::fill(problem.coef.begin(), problem.coef.end(), 1.0);
  problem.model.weights = problem.weights.data();
  change(problem);
  try {
    problem.run(problem.share.data());
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "";
}

bool says(const std::string& message, const char* part) {
  return message.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE(matches_the_definition_float32) { compare_all<float>(); }
TEST_CASE(matches_the_definition_float64) { compare_all<double>(); }

TEST_CASE(same_bits_for_any_number_of_threads) {
  for (const std::int64_t n : {129, 3001, 20001}) {
    const Problem<float> problem(n, 19, 3);
    for (const double* share : {static_cast<const double*>(nullptr), problem.share.data()}) {
      const Found first = problem.run(share, 1);
      for (const int threads : {2, 3, 8}) CHECK(problem.run(share, threads) == first);
    }
  }
}

TEST_CASE(bad_numbers_are_named) {
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  constexpr double inf = std::numeric_limits<double>::infinity();
  using Float = Problem<float>;
  CHECK_EQ(message_of([](Float&) {}), "");
  const auto of_x = message_of([](Float& p) {
    p.x[at(4 * p.stride + 3)] = std::numeric_limits<float>::quiet_NaN();
    p.y[2] = nan;
  });
  CHECK(says(of_x, "X: expected finite values, got NaN in row 4, column 3"));
  for (const double epsilon : {inf, 0.5}) {
    const auto of_y = message_of([&](Float& p) {
      p.model.epsilon = epsilon;
      p.y[7] = -inf;
      p.y[8] = nan;
    });
    CHECK(says(of_y, "y, weights: expected numbers with finite residuals, got nan in row 7"));
    const auto of_weights = message_of([&](Float& p) {
      p.model.epsilon = epsilon;
      p.weights[9] = inf;
    });
    CHECK(says(of_weights, "residuals, got inf in row 9"));
  }
  const auto overflow = message_of([](Float& p) {
    for (std::int64_t i = 0; i < p.n; ++i) p.x[at(i * p.stride)] = i % 2 == 0 ? 1e20f : -1e20f;
  });
  CHECK(says(overflow, "squares can be summed in float32: rescale"));
  CHECK(says(message_of([](Float& p) { p.coef[3] = nan; }), "coef: finite numbers, got"));
  CHECK(says(message_of([](Float& p) { p.v[2] = inf; }), "v: finite numbers, got inf at index 2"));
  CHECK(says(message_of([](Float& p) { p.share[6] = -1.0; }),
             "center_weights: finite numbers >= 0, got -1 at index 6"));
  CHECK(says(message_of([](Float& p) { p.share.assign(10, 0.0); }), "that are not all zero"));
  CHECK(says(message_of([](Float& p) { p.model.intercept = nan; }), "intercept: a finite number"));
  for (const double epsilon : {0.0, -1.0, nan}) {
    CHECK(says(message_of([&](Float& p) { p.model.epsilon = epsilon; }), "expected epsilon > 0"));
  }
}

TEST_CASE(contract_violations) {
  constexpr std::int64_t n = 4, d = 5;
  constexpr tamis::DType f4 = tamis::DType::float32;
  Numbers room(10 + n + d + 3 * d + d + 1, 1.0);  // X in float32, then results
  const auto* x = reinterpret_cast<const float*>(room.data());
  const Numbers coef(d, 1.0), y(n, 1.0), v(d * 251, 1.0), share(n, 1.0);
  Found apart(n, d, 252);
  const tamis::ConstMatrixView good{x, n, d, d, f4};
  const tamis::LinearModel model{.coef = coef.data(), .y = y.data()};
  const auto call = [&](const tamis::ConstMatrixView& m, const tamis::LinearModel& of,
                        const double* block, std::int64_t k, const tamis::LinearGradients& out) {
    tamis::linear_gradients(m, of, share.data(), block, k, out);
    return 0;
  };
  CHECK_EQ(call(good, model, v.data(), 1, apart.places()), 0);
  CHECK_EQ(call(good, model, v.data(), 251, apart.places()), 0);
  CHECK_THROWS_AS(call(good, model, v.data(), 252, apart.places()), std::invalid_argument);
  CHECK_THROWS_AS(call(good, model, v.data(), 0, apart.places()), std::invalid_argument);
  CHECK_THROWS_AS(call(good, model, nullptr, 1, apart.places()), std::invalid_argument);
  CHECK_THROWS_AS(call(good, {.coef = coef.data()}, v.data(), 1, apart.places()),
                  std::invalid_argument);
  CHECK_THROWS_AS(call(good, {.y = y.data()}, v.data(), 1, apart.places()), std::invalid_argument);
  for (const tamis::ConstMatrixView& m :
       {tamis::ConstMatrixView{x, 0, d, d, f4}, tamis::ConstMatrixView{x, n, d, d - 1, f4},
        tamis::ConstMatrixView{nullptr, n, d, d, f4},
        tamis::ConstMatrixView{x, n, d, d, tamis::DType::float16}}) {
    CHECK_THROWS_AS(call(m, model, v.data(), 1, apart.places()), std::invalid_argument);
  }
  // All results behind X; then each in turn a number too early, over what lies before it, or null.
  double* const to = room.data() + 10;
  const tamis::LinearGradients behind{to, to + n, to + n + d, to + n + 4 * d};
  CHECK_EQ(call(good, model, v.data(), 1, behind), 0);
  using Place = double* tamis::LinearGradients::*;
  for (const Place place : {&tamis::LinearGradients::coefficients, &tamis::LinearGradients::center,
                            &tamis::LinearGradients::sums, &tamis::LinearGradients::product}) {
    tamis::LinearGradients out = behind;
    out.*place -= 1;
    CHECK_THROWS_AS(call(good, model, v.data(), 1, out), std::invalid_argument);
    out = apart.places();
    for (const Numbers* taken : {&coef, &y, &v, &share}) {
      out.*place = const_cast<double*>(taken->data()) + taken->size() - 1;
      CHECK_THROWS_AS(call(good, model, v.data(), 251, out), std::invalid_argument);
    }
    out.*place = nullptr;
    CHECK_THROWS_AS(call(good, model, v.data(), 1, out), std::invalid_argument);
  }
}
