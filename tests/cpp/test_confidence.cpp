// Oracles: values computed with mpmath at 45 digits (the Beta tail by Gauss-Legendre panels in the
// log-odds, checked against mpmath.betainc for small counts; the normal quantile by Newton steps on
// mpmath.erfc), binomial sums in long double for small counts, and closed forms.
#include "tamis/confidence.hpp"

#include <cmath>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>

#include "check.hpp"

namespace {

using tamis::binomial_test_half;
using tamis::certified_radius;
using tamis::clopper_pearson_lower;
using tamis::clopper_pearson_upper;
using tamis::confidence_sequence_lower;
using tamis::confidence_sequence_upper;
using tamis::normal_quantile;
using tamis::normal_upper_quantile;

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

#define CHECK_RELATIVE(a, b, tolerance) CHECK_NEAR((a), (b), (tolerance) * std::fabs(b))

struct BoundCase {
  std::int64_t k, n;
  double alpha, lower, one_minus_lower;
};

constexpr BoundCase kClopperPearson[] = {
    {1, 1, 0.05, 0.050000000000000003, 0.95000000000000000},
    {2, 3, 1e-12, 5.7735038030079033e-7, 0.99999942264961970},
    {1, 7, 0.001, 0.00014291840527490637, 0.99985708159472509},
    {5, 9, 0.5, 0.50000000000000000, 0.50000000000000000},
    {31, 33, 0.001, 0.70374612211228156, 0.29625387788771844},
    {517, 1023, 0.05, 0.47918848145279629, 0.52081151854720371},
    {1022, 1023, 0.3, 0.99761730083474083, 0.0023826991652591668},
    {99999, 100000, 0.001, 0.99990766966626545, 9.2330333734554023e-5},
    {50500, 100000, 0.001, 0.50010895173958784, 0.49989104826041216},
    {2, 100000, 1e-100, 1.4142206334939404e-55, 1.0000000000000000},
    {3, 999999937, 0.999, 1.1228872898016737e-8, 0.99999998877112710},
    {499999968, 999999937, 0.5, 0.49999999899999994, 0.50000000100000006},
    {500000000, 1000000000, 0.001, 0.49995113863719624, 0.50004886136280376},
    {999999990, 1000000000, 1e-12, 0.99999994769569043, 5.2304309570545275e-8},
    {999990000, 1000000000, 0.001, 0.99998968711093820, 1.0312889061801843e-5},
    {10007, 1000000000, 0.25, 9.9393472927073890e-6, 0.99999006065270729},
    {123456789, 1000000000, 1e-300, 0.12307174509057556, 0.87692825490942444},
    {999999999, 1000000000, 0.999999999999, 0.99999999999999859, 1.4141985872277246e-15},
};

constexpr BoundCase kSequence[] = {
    {1, 7, 0.001, 1.7859375279052739e-5, 0.0},
    {7, 7, 1e-12, 0.014374731471969890, 0.0},
    {990, 1000, 0.001, 0.97152634731969175, 0.0},
    {50500, 100000, 0.001, 0.49733498222556466, 0.0},
    {99999, 100000, 0.05, 0.99993146613405456, 0.0},
    {3, 999999937, 0.3, 1.2169340447893971e-12, 0.0},
    {500000000, 1000000000, 1e-300, 0.49940829952058557, 0.0},
};

// P(X >= k) for X ~ Binomial(n, p), n small enough for exact binomial coefficients.
long double binomial_upper_tail(int k, int n, long double p) {
  long double coefficient = 1.0L;
  long double sum = 0.0L;
  for (int j = 0; j <= n; ++j) {
    if (j >= k) sum += coefficient * std::pow(p, j) * std::pow(1.0L - p, n - j);
    coefficient = coefficient * (n - j) / (j + 1);
  }
  return sum;
}

std::string message_of(double (*call)()) {
  try {
    call();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "nothing thrown";
}

}  // namespace

TEST_CASE(clopper_pearson_matches_45_digits) {
  for (const auto& c : kClopperPearson) {
    CHECK_RELATIVE(clopper_pearson_lower(c.k, c.n, c.alpha), c.lower, 1e-12);
    // upper(n - k) is the mirror image, and keeps the digits of 1 - lower.
    CHECK_RELATIVE(clopper_pearson_upper(c.n - c.k, c.n, c.alpha), c.one_minus_lower, 1e-12);
  }
}

TEST_CASE(clopper_pearson_is_exact_for_every_small_count) {
  // P(X >= k | lower) = alpha and P(X <= k | upper) = alpha. A relative error e of the bound moves
  // that probability by at most k e (elasticity of a Beta tail), and alpha >= .001 here.
  for (int n = 1; n <= 40; ++n) {
    for (int k = 0; k <= n; ++k) {
      for (const double alpha : {0.001, 0.05, 0.5, 0.975}) {
        const double lower = clopper_pearson_lower(k, n, alpha);
        const double upper = clopper_pearson_upper(k, n, alpha);
        if (k > 0) {
          const auto tail = static_cast<double>(binomial_upper_tail(k, n, lower));
          CHECK_RELATIVE(tail, alpha, n * 1e-13);
        }
        if (k < n) {
          const auto tail = static_cast<double>(binomial_upper_tail(n - k, n, 1.0L - upper));
          CHECK_RELATIVE(tail, alpha, n * 1e-13 / (1.0 - upper));
        }
      }
    }
  }
}

TEST_CASE(clopper_pearson_ends) {
  for (const std::int64_t n : {std::int64_t{1}, std::int64_t{33}, std::int64_t{1} << 53}) {
    CHECK_EQ(clopper_pearson_lower(0, n, 0.001), 0.0);
    CHECK_EQ(clopper_pearson_upper(n, n, 0.001), 1.0);
  }
  // All successes: alpha^(1/n).
  CHECK_RELATIVE(clopper_pearson_lower(100000, 100000, 0.001), std::pow(0.001, 1e-5), 1e-15);
  // Never 1, whatever rounds to it.
  CHECK(clopper_pearson_lower(std::int64_t{1} << 53, std::int64_t{1} << 53, 1.0 - 1e-15) < 1.0);
  // The smallest double is a level like any other.
  const double least = std::numeric_limits<double>::denorm_min();
  CHECK(clopper_pearson_lower(1000, 2000, least) > 0.1);
  CHECK(clopper_pearson_upper(1000, 2000, least) < 0.9);
}

TEST_CASE(confidence_sequence_matches_45_digits) {
  for (const auto& c : kSequence) {
    CHECK_RELATIVE(confidence_sequence_lower(c.k, c.n, c.alpha), c.lower, 1e-12);
    CHECK_NEAR(confidence_sequence_upper(c.n - c.k, c.n, c.alpha), 1.0 - c.lower, 1e-15);
  }
}

TEST_CASE(confidence_sequence_closed_forms) {
  // One success in one trial: W = 1 + (1 - p) / (2 p), so p = alpha / (2 - alpha).
  for (const double alpha : {1e-300, 1e-12, 0.05, 0.5, 0.9}) {
    CHECK_RELATIVE(confidence_sequence_lower(1, 1, alpha), alpha / (2.0 - alpha), 1e-12);
  }
  // n successes: W = ((1 + r)^(n + 1) - 1) / ((n + 1) r) with r = (1 - p) / p.
  for (const std::int64_t n : {2, 9, 33, 1023, 100000}) {
    const double p = confidence_sequence_lower(n, n, 0.001);
    const double r = (1.0 - p) / p;
    const double m = static_cast<double>(n) + 1.0;
    CHECK_RELATIVE(std::expm1(m * std::log1p(r)) / (m * r), 1000.0, 1e-9);
  }
  CHECK_EQ(confidence_sequence_lower(0, 0, 0.05), 0.0);
  CHECK_EQ(confidence_sequence_upper(0, 0, 0.05), 1.0);
  // About alpha / (2 n): a subnormal bound is given up for 0.
  CHECK_EQ(confidence_sequence_lower(1, 1000, 1e-310), 0.0);
  CHECK_EQ(confidence_sequence_upper(999, 1000, 1e-310), 1.0);
  CHECK_EQ(confidence_sequence_lower(0, 31, 0.05), 0.0);
  CHECK_EQ(confidence_sequence_upper(31, 31, 0.05), 1.0);
}

TEST_CASE(confidence_sequence_is_wider_than_one_look) {
  for (const std::int64_t n : {1, 7, 33, 1023, 100000}) {
    for (std::int64_t k = 0; k <= n; k += (n + 8) / 9) {
      for (const double alpha : {1e-12, 0.001, 0.3}) {
        CHECK(confidence_sequence_lower(k, n, alpha) <= clopper_pearson_lower(k, n, alpha));
        CHECK(confidence_sequence_upper(k, n, alpha) >= clopper_pearson_upper(k, n, alpha));
      }
    }
  }
}

TEST_CASE(levels_next_to_one_stay_in_range) {
  for (const std::int64_t n : {1, 2, 4, 6, 17, 34, 679, 1095537}) {
    for (const double alpha :
         {1.0 - 1e-9, 1.0 - 1e-13, 1.0 - 0x3p-53, 1.0 - 0x1p-52, 1.0 - 0x1p-53}) {
      for (const std::int64_t k : {n, n - 1, n / 2}) {
        const double lower = confidence_sequence_lower(k, n, alpha);
        CHECK(lower >= 0.0 && lower <= static_cast<double>(k) / static_cast<double>(n));
        CHECK(lower < 1.0);
      }
    }
  }
}

TEST_CASE(binomial_test_values) {
  CHECK_EQ(binomial_test_half(0, 0), 1.0);
  CHECK_EQ(binomial_test_half(0, 1), 1.0);
  CHECK_EQ(binomial_test_half(16, 33), 1.0);
  CHECK_RELATIVE(binomial_test_half(0, 10), std::ldexp(1.0, -9), 1e-14);
  CHECK_RELATIVE(binomial_test_half(10, 10), std::ldexp(1.0, -9), 1e-14);
  CHECK_RELATIVE(binomial_test_half(1, 4), 0.625, 1e-14);
  CHECK_RELATIVE(binomial_test_half(2, 9), 2.0 * 46.0 / 512.0, 1e-14);
  CHECK_RELATIVE(binomial_test_half(499, 1023), 0.453050147245270449, 1e-12);
  CHECK_RELATIVE(binomial_test_half(0, 1000), 1.86652723700643776e-301, 1e-12);
  CHECK_RELATIVE(binomial_test_half(49000, 100000), 2.58871603834689788e-10, 1e-12);
  CHECK_RELATIVE(binomial_test_half(499950000, 1000000000), 0.00156557226108380758, 1e-12);
  CHECK_RELATIVE(binomial_test_half(499900000, 999999937), 2.57312244177451351e-10, 1e-12);
  CHECK_EQ(binomial_test_half(3, 1000000000), 0.0);
}

TEST_CASE(normal_quantile_matches_45_digits) {
  const struct {
    double p, z;
  } cases[] = {
      {5e-324, -38.4674056171443463}, {1e-300, -37.0470962993611992},
      {1e-12, -7.03448382530113193},  {0.001, -3.09023230616781354},
      {0.1, -1.28155156554460044},    {0.25, -0.674489750196081743},
      {0.3, -0.524400512708040816},   {0.4999999, -2.50662827470310651e-7},
  };
  for (const auto& c : cases) {
    CHECK_RELATIVE(normal_quantile(c.p), c.z, 1e-15);
    CHECK_EQ(normal_upper_quantile(c.p), -normal_quantile(c.p));
  }
  CHECK_EQ(normal_quantile(0.5), 0.0);
  CHECK_EQ(normal_quantile(0.0), -kInf);
  CHECK_EQ(normal_quantile(1.0), kInf);
  CHECK_EQ(normal_quantile(0.75), -normal_quantile(0.25));
}

TEST_CASE(radius_values) {
  // The largest radius n = 100000 votes give at alpha = .001, PhiInv(alpha^(1/n)) by mpmath;
  // p_lower itself has a rounding error of 6e-17 against 1 - p_lower = 7e-5.
  CHECK_RELATIVE(certified_radius(clopper_pearson_lower(100000, 100000, 0.001), 1.0),
                 3.81145656338995189, 1e-12);
  CHECK_RELATIVE(certified_radius(0.9, 0.25), 0.25 * 1.28155156554460044, 1e-14);
  CHECK_RELATIVE(certified_radius(0.9, 0.25, 0.1), 0.25 * 1.28155156554460044, 1e-14);
  CHECK_RELATIVE(certified_radius(0.4999999, 2.0, 0.001), 3.09023230616781354 - 2.50662827e-7,
                 1e-14);
  CHECK_EQ(certified_radius(0.5, 1.0), 0.0);
  CHECK_EQ(certified_radius(0.1, 1.0), 0.0);
  CHECK_EQ(certified_radius(0.3, 1.0, 0.3), 0.0);
  CHECK_EQ(certified_radius(0.3, 1.0, 0.4), 0.0);
  CHECK_EQ(certified_radius(1.0, 1.0), kInf);
  CHECK_EQ(certified_radius(0.9, 1.0, 0.0), kInf);
  CHECK_EQ(certified_radius(1.0, 1.0, 1.0), 0.0);
}

TEST_CASE(errors_name_what_was_expected) {
  const std::int64_t too_many = (std::int64_t{1} << 53) + 1;
  for (const auto bound : {clopper_pearson_lower, clopper_pearson_upper, confidence_sequence_lower,
                           confidence_sequence_upper}) {
    CHECK_THROWS_AS(bound(-1, 10, 0.05), std::invalid_argument);
    CHECK_THROWS_AS(bound(11, 10, 0.05), std::invalid_argument);
    CHECK_THROWS_AS(bound(0, -1, 0.05), std::invalid_argument);
    CHECK_THROWS_AS(bound(1, too_many, 0.05), std::invalid_argument);
    for (const double alpha : {0.0, 1.0, -0.1, 1.5, kNan, kInf}) {
      CHECK_THROWS_AS(bound(1, 10, alpha), std::invalid_argument);
      CHECK_THROWS_AS(bound(0, 10, alpha), std::invalid_argument);
    }
  }
  CHECK_THROWS_AS(clopper_pearson_lower(0, 0, 0.05), std::invalid_argument);
  CHECK_THROWS_AS(binomial_test_half(0, -1), std::invalid_argument);
  CHECK_THROWS_AS(binomial_test_half(2, 1), std::invalid_argument);
  for (const double p : {-0.1, 1.1, kNan}) {
    CHECK_THROWS_AS(normal_quantile(p), std::invalid_argument);
    CHECK_THROWS_AS(normal_upper_quantile(p), std::invalid_argument);
    CHECK_THROWS_AS(certified_radius(p, 1.0), std::invalid_argument);
    CHECK_THROWS_AS(certified_radius(p, 1.0, 0.1), std::invalid_argument);
    CHECK_THROWS_AS(certified_radius(0.9, 1.0, p), std::invalid_argument);
  }
  for (const double sigma : {0.0, -1.0, kInf, kNan}) {
    CHECK_THROWS_AS(certified_radius(0.9, sigma), std::invalid_argument);
    CHECK_THROWS_AS(certified_radius(0.9, sigma, 0.1), std::invalid_argument);
  }
  CHECK_EQ(message_of([] { return clopper_pearson_lower(5, 3, 0.05); }),
           "[clopper_pearson_lower] expected 0 <= successes <= trials, got successes = 5, "
           "trials = 3");
  CHECK_EQ(message_of([] { return certified_radius(0.9, -0.25); }),
           "[certified_radius] expected a finite sigma > 0, got sigma = -0.25");
}
