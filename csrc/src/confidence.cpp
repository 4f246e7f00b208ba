// Everything here rests on one function: the lower tail of a Beta(a, b) variable with whole a, b.
// It is written in the log-odds t = log(x / (1 - x)), where the density
//
//   phi(t) = x^a (1 - x)^b / B(a, b),   phi' / phi = a (1 - x) - b x
//
// is log-concave with its mode at x = a / (a + b). Three things follow:
//   - log(tail) is concave and increasing in t: Newton steps cannot diverge, and x and 1 - x both
//     keep their relative accuracy because the odds are updated by a factor;
//   - tail / phi is a sum of b positive terms, used where at most 500 of them matter, and otherwise
//     the integral of exp(-psi) with psi convex, psi(0) = 0, which one Gauss-Legendre rule over the
//     stretch psi <= 38 gives however large a and b are. A continued fraction would take about
//     sqrt(a + b) steps near the median;
//   - an error in log(tail) is divided by phi / tail, about sqrt(min(a, b)) or more, on its way to
//     the odds: cancellation that would ruin the tail at 1e9 trials leaves the bound untouched.
//
// Further sources: [Loader00] Loader 2000, Fast and accurate computation of binomial probabilities,
// for the saddle-point form of the density; Barndorff-Nielsen 1986, Biometrika 73, for the modified
// signed root that starts the search; Winitzki 2008 for the start of the normal quantile.
//
// Past 400 lines because the bounds share this core and nothing else uses it.

#include "tamis/confidence.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <iomanip>
#include <limits>
#include <numbers>
#include <string>

#include "src/detail/check.hpp"

namespace tamis {
namespace {

constexpr double kLogSqrt2Pi = 0.91893853320467274178;
constexpr std::int64_t kMaxTrials = std::int64_t{1} << 53;  // exact in a double
constexpr double kBelowOne = 1.0 - std::numeric_limits<double>::epsilon() / 2.0;

// ---- errors -------------------------------------------------------------------------------------

using detail::text;

std::string exact(const char* name, double value) {
  return text(name, " = ", std::setprecision(17), value);
}

void check_counts(const char* op, std::int64_t successes, std::int64_t trials,
                  std::int64_t min_trials) {
  if (trials < min_trials || trials > kMaxTrials) {
    detail::fail(op, text(min_trials, " <= trials <= 2^53"), text("trials = ", trials));
  }
  if (successes < 0 || successes > trials) {
    detail::fail(op, "0 <= successes <= trials",
                 text("successes = ", successes, ", trials = ", trials));
  }
}

void check_alpha(const char* op, double alpha) {
  if (!(alpha > 0.0 && alpha < 1.0)) detail::fail(op, "0 < alpha < 1", exact("alpha", alpha));
}

void check_probability(const char* op, const char* name, double p) {
  if (!(p >= 0.0 && p <= 1.0)) {
    detail::fail(op, text(name, " to be a probability in [0, 1]"), exact(name, p));
  }
}

void check_sigma(const char* op, double sigma) {
  if (!(sigma > 0.0 && std::isfinite(sigma))) {
    detail::fail(op, "a finite sigma > 0", exact("sigma", sigma));
  }
}

// ---- building blocks ----------------------------------------------------------------------------

// Gauss-Legendre rule on [0, 1]. For the integrands below 24 nodes and 40 differ by 4e-15.
struct GaussLegendre {
  static constexpr int kNodes = 28;
  std::array<double, kNodes> node{};
  std::array<double, kNodes> weight{};

  // Newton on the Legendre recurrence from the usual cosine guess; pairs share their root.
  GaussLegendre() {
    for (int i = 0; i < kNodes / 2; ++i) {
      double root = std::cos(std::numbers::pi * (i + 0.75) / (kNodes + 0.5));
      double slope = 1.0;
      for (int step = 0; step < 6; ++step) {
        double previous = 1.0;
        double value = root;
        for (int n = 2; n <= kNodes; ++n) {
          const double next = ((2 * n - 1) * root * value - (n - 1) * previous) / n;
          previous = value;
          value = next;
        }
        slope = kNodes * (previous - root * value) / (1.0 - root * root);
        root -= value / slope;
      }
      const double w = 1.0 / ((1.0 - root * root) * slope * slope);
      const auto low = static_cast<std::size_t>(i);
      const auto high = static_cast<std::size_t>(kNodes - 1 - i);
      node[low] = 0.5 * (1.0 - root);
      node[high] = 0.5 * (1.0 + root);
      weight[low] = weight[high] = w;
    }
  }
};

const GaussLegendre& gauss_legendre() {
  static const GaussLegendre rule;
  return rule;
}

// log(n!) - log(sqrt(2 pi n) (n / e)^n) for n >= 1, to a few 1e-17. [Loader00]
double stirling_error(double n) {
  // The step from n to n + 1 is (n + 1/2) log(1 + 1/n) - 1 = atanh(w) / w - 1, w = 1 / (2n + 1):
  // a series of positive terms, so small n climb to where the Stirling series is exact.
  double climbed = 0.0;
  for (; n < 16.0; n += 1.0) {
    const double w2 = 1.0 / ((2.0 * n + 1.0) * (2.0 * n + 1.0));
    double power = w2;
    for (double odd = 3.0; power > 1e-18; odd += 2.0, power *= w2) climbed += power / odd;
  }
  const double r = 1.0 / n;
  const double r2 = r * r;
  // Bernoulli numbers B_2j / (2j (2j - 1)), j = 1..7; the next term is below 1e-18 from n = 16.
  double series = 1.0 / 156.0;
  series = -691.0 / 360360.0 + r2 * series;
  series = 1.0 / 1188.0 + r2 * series;
  series = -1.0 / 1680.0 + r2 * series;
  series = 1.0 / 1260.0 + r2 * series;
  series = -1.0 / 360.0 + r2 * series;
  series = 1.0 / 12.0 + r2 * series;
  return climbed + r * series;
}

// k log(k / m) + m - k >= 0, without the cancellation near k = m. [Loader00]
double deviance(double k, double m) {
  const double difference = k - m;
  const double v = difference / (k + m);
  if (std::fabs(v) >= 0.1) return k * std::log(k / m) - difference;
  // k log(k / m) = 2 k atanh(v), and 2 k v - (k - m) = (k - m) v. v^2 < .01: ten terms at most.
  const double v2 = v * v;
  double power = 2.0 * k * v * v2;
  double sum = difference * v;
  for (double odd = 3.0; odd < 25.0; odd += 2.0, power *= v2) {
    const double next = sum + power / odd;
    if (next == sum) break;
    sum = next;
  }
  return sum;
}

// A probability and its complement, both to full relative accuracy.
struct Split {
  double x;
  double y;
};

Split from_odds(double odds) { return {odds / (1.0 + odds), 1.0 / (1.0 + odds)}; }

// ---- the Beta(a, b) tail in log-odds ------------------------------------------------------------

constexpr double kNegligible = 38.0;  // exp(-38) is below a quarter ulp

// Integral of exp(-psi) over [0, inf) for a convex psi with psi(0) = 0 and psi -> inf;
// psi(v, slope) returns psi(v) and sets psi'(v). slope0 = psi'(0), curvature0 = psi''(0).
template <typename Psi>
double integrate_decay(const Psi& psi, double slope0, double curvature0) {
  // End of the stretch: the root of the local parabola, then Newton. psi is convex, so every Newton
  // point lies on the far side of psi = 38: stopping early only makes the stretch longer.
  double end =
      2.0 * kNegligible / (slope0 + std::sqrt(slope0 * slope0 + 2.0 * kNegligible * curvature0));
  for (int step = 0; step < 40; ++step) {
    double slope = 0.0;
    const double excess = psi(end, slope) - kNegligible;
    if (excess >= 0.0 && excess < 2.0) break;
    end -= excess / slope;
  }
  const GaussLegendre& rule = gauss_legendre();
  double sum = 0.0;
  for (std::size_t i = 0; i < rule.node.size(); ++i) {
    double unused = 0.0;
    sum += rule.weight[i] * std::exp(-psi(end * rule.node[i], unused));
  }
  return end * sum;
}

class BetaLogOdds {
 public:
  BetaLogOdds(double a, double b)
      : a_(a),
        b_(b),
        n_(a + b),
        log_mode_(0.5 * std::log(a * (b / n_)) - kLogSqrt2Pi + stirling_error(n_) -
                  stirling_error(a) - stirling_error(b)) {}

  // Standard deviation of the log-odds, as the curvature at the mode gives it.
  [[nodiscard]] double deviation() const { return std::sqrt(1.0 / a_ + 1.0 / b_); }

  // log of the density at its mode, and anywhere.
  [[nodiscard]] double log_mode() const { return log_mode_; }
  [[nodiscard]] double log_density(Split p) const { return log_mode_ - total_deviance(p); }

  // (log density)' in the log-odds.
  [[nodiscard]] double log_slope(Split p) const { return a_ * p.y - b_ * p.x; }

  // tail(p) / density(p), the tail being P(X <= p).
  [[nodiscard]] double mills(Split p) const {
    const double odds = p.x / p.y;
    return sum_is_short(odds) ? mills_by_sum(p.y, odds) : mills_by_quadrature(p);
  }

  // For whole a, b the tail is the binomial sum over j >= a of a + b - 1 trials. Its terms fall
  // about as exp(-i first - i^2 second / 2), and at 2 to 3 ns a term five hundred of them cost as
  // much as the quadrature.
  [[nodiscard]] bool sum_is_short(double odds) const {
    const double first = 1.0 - (b_ - 1.0) / (a_ + 1.0) * odds;
    const double second = 1.0 / a_ + 1.0 / b_;
    const double terms =
        2.0 * kNegligible / (first + std::sqrt(first * first + 2.0 * kNegligible * second));
    return std::min(terms, b_) < 500.0;
  }

  [[nodiscard]] double mills_by_sum(double y, double odds) const {
    double term = 1.0;
    double sum = 1.0;
    for (double j = 1.0; j < b_ && term > 1e-18 * sum; j += 1.0) {
      term *= (b_ - j) / (a_ + j) * odds;
      sum += term;
    }
    return sum / (a_ * y);
  }

  [[nodiscard]] double mills_by_quadrature(Split p) const {
    const double slope = log_slope(p);
    const double curvature = n_ * p.x * p.y;
    // Two forms of the same psi; the one in the smaller of x and y does not subtract large numbers.
    if (p.x < p.y) {
      const auto psi = [this, p](double v, double& derivative) {
        const double fall = std::expm1(-v);
        const double rest = p.x * fall;
        derivative = a_ - n_ * p.x * (1.0 + fall) / (1.0 + rest);
        return a_ * v + n_ * std::log1p(rest);
      };
      return integrate_decay(psi, slope, curvature);
    }
    const auto psi = [this, p](double v, double& derivative) {
      const double rise = std::expm1(v);
      const double rest = p.y * rise;
      derivative = n_ * p.y * (1.0 + rise) / (1.0 + rest) - b_;
      return n_ * std::log1p(rest) - b_ * v;
    };
    return integrate_decay(psi, slope, curvature);
  }

  // Odds whose signed root r of twice the deviance solves r + correct * log(q / r) / r = target, to
  // about 1e-4 standard deviations. With correct = 1 this is Barndorff-Nielsen's modified root, and
  // target = z makes the tail close to Phi(z): a start that leaves one or two exact evaluations.
  [[nodiscard]] double odds_at_root(double target, double correct) const {
    const double mode = a_ / b_;  // t counts from here
    const double rise = 1.0 / deviation();
    // r is about rise * t around t = 0, and the correction tends to:
    const double limit = correct * (b_ - a_) / (3.0 * n_ * rise);
    double t = (target - limit) / rise;
    for (int step = 0; step < 16; ++step) {
      const Split p = from_odds(mode * std::exp(t));
      const double r = std::copysign(std::sqrt(2.0 * total_deviance(p)), t);
      double value = r + limit;
      double slope = rise;
      if (std::fabs(r) > 0.05) {
        slope = -log_slope(p) / r;
        value = r + correct * std::log(slope / rise) / r;
      }
      double move = (target - value) / slope;
      // Beyond the target the squared root is the safer function: convex in t, so Newton on it
      // (this factor turns one step into the other) cannot jump back over the mode.
      if (target != 0.0 && value / target > 1.0) move *= 0.5 * (1.0 + target / value);
      t += move;
      if (std::fabs(move) * rise < 1e-4) break;
    }
    return mode * std::exp(t);
  }

 private:
  [[nodiscard]] double total_deviance(Split p) const {
    return deviance(a_, n_ * p.x) + deviance(b_, n_ * p.y);
  }

  double a_, b_, n_;
  double log_mode_;
};

// What a root search needs of a function g at one point, derivatives in the log-odds.
struct Jet {
  double newton;  // -g / g'
  double bend;    // g'' / (2 g')
  double bend2;   // g''' / (6 g')
};

// Root of a monotone function by steps of fourth order (Householder), inside a shrinking bracket;
// jet_at(split) gives the Jet. `scale` is the standard deviation of the log-odds: a step of u
// leaves an error of order (u / scale)^4 scale, nothing once u is below 1e-4 scale. From
// odds_at_root one or two evaluations do; the most seen in 2e6 random calls is 5 for
// Clopper-Pearson, 17 for wealth.
template <typename JetAt>
Split solve_log_odds(double odds, double scale, const JetAt& jet_at) {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  double log_odds = std::log(odds);
  for (int step = 0; step < 60; ++step) {
    if (odds < std::numeric_limits<double>::min()) return {0.0, 1.0};  // subnormal: give up safely
    const auto [newton, bend, bend2] = jet_at(from_odds(odds));
    (newton > 0.0 ? low : high) = log_odds;
    double move = newton / (1.0 + newton * (bend + (bend2 - bend * bend) * newton));
    if (!(move * newton > 0.0 && std::fabs(move) < 4.0 * std::fabs(newton))) move = newton;
    if (log_odds + move < low || log_odds + move > high) move = 0.5 * (low + high) - log_odds;
    odds *= std::exp(move);
    log_odds += move;
    if (std::fabs(move) < 1e-4 * scale) break;
  }
  return from_odds(odds);
}

double upper_z(double q);  // normal quantile, below

// (x, 1 - x) with P(X <= x) = p for X ~ Beta(a, b), a, b >= 1 whole; p + q = 1, both exact.
Split beta_quantile(double a, double b, double p, double q) {
  if (p > 0.5) {
    const Split swapped = beta_quantile(b, a, q, p);
    return {swapped.y, swapped.x};
  }
  if (b == 1.0) {  // tail = x^a
    const double log_x = std::log(p) / a;
    return {std::exp(log_x), -std::expm1(log_x)};
  }
  if (a == 1.0) {  // tail = 1 - (1 - x)^b
    const double log_y = std::log1p(-p) / b;
    return {-std::expm1(log_y), std::exp(log_y)};
  }
  const BetaLogOdds beta(a, b);
  const double log_p = std::log(p);
  const auto log_tail = [&](Split at) {
    // g = log(tail) - log p. With h = density / tail and s = (log density)':
    // g' = h, h' = h (s - h), s' = -(a + b) x y.
    const double mills = beta.mills(at);
    const double g = beta.log_density(at) + std::log(mills) - log_p;
    const double h = 1.0 / mills;
    const double bend = beta.log_slope(at) - h;
    const double bend_slope = -(a + b) * at.x * at.y - h * bend;
    return Jet{-g * mills, bend / 2.0, (bend * bend + bend_slope) / 6.0};
  };
  return solve_log_odds(beta.odds_at_root(-upper_z(p), 1.0), beta.deviation(), log_tail);
}

// (x, 1 - x) with W(x) = 1 / alpha, W the wealth in confidence.hpp, 1 <= k <= n. With a = k + 1 and
// b = n - k + 1, substituting theta = x + (1 - x) u gives W = x P(X > x) / density(x), all of it in
// terms of the same Beta(a, b).
Split wealth_root(double k, double n, double alpha) {
  const double a = k + 1.0;
  const double b = n - k + 1.0;
  const BetaLogOdds beta(a, b);
  const BetaLogOdds mirrored(b, a);
  // All successes: W tends to 1 at x = 1, so a level within rounding of 1 has no crossing to find.
  const double log_target = std::max(-std::log(alpha), 1e-12);
  const auto log_wealth = [&](Split at) {
    const double s = beta.log_slope(at);
    // log(upper tail / density), on the left of the mode as 1 minus the lower tail.
    double log_mills = 0.0;
    if (s < 0.0) {
      log_mills = std::log(mirrored.mills({at.y, at.x}));
    } else {
      const double log_density = beta.log_density(at);
      log_mills = std::log1p(-std::exp(log_density) * beta.mills(at)) - log_density;
    }
    const double g = std::log(at.x) + log_mills - log_target;
    // h = density / upper tail, h' = h (s + h), s' = -(a + b) x y, x' = x y, g' = y - h - s.
    const double xy = at.x * at.y;
    const double h = std::exp(-log_mills);
    const double h_slope = h * (s + h);
    const double first = at.y - h - s;
    const double second = (a + b - 1.0) * xy - h_slope;
    const double third =
        (a + b - 1.0) * xy * (at.y - at.x) - h_slope * (s + h) - h * (h_slope - (a + b) * xy);
    return Jet{-g / first, second / (2.0 * first), third / (6.0 * first)};
  };
  // Start: ignore the tail, take x at the mode, and read off the deviance that W = 1 / alpha needs.
  const double half_square = std::max(log_target + beta.log_mode() - std::log(a / (a + b)), 0.0);
  const double odds = beta.odds_at_root(-std::sqrt(2.0 * half_square), 0.0);
  return solve_log_odds(odds, beta.deviation(), log_wealth);
}

// ---- normal quantile ----------------------------------------------------------------------------

// log P(Z > z) for z >= 0, and the hazard density / P(Z > z).
double log_normal_tail(double z, double& hazard) {
  const double log_density = -0.5 * z * z - kLogSqrt2Pi;
  if (z < 30.0) {
    const double log_tail = std::log(0.5 * std::erfc(z * std::numbers::sqrt2 / 2.0));
    hazard = std::exp(log_density - log_tail);
    return log_tail;
  }
  // Laplace's continued fraction z + 1 / (z + 2 / (z + ...)): erfc would run into subnormals, and
  // from z = 30 on eight levels are exact.
  hazard = z;
  for (double level = 8.0; level >= 1.0; level -= 1.0) hazard = z + level / hazard;
  return log_density - std::log(hazard);
}

// The z >= 0 with P(Z > z) = q, 0 < q <= 1/2.
double upper_z(double q) {
  // Start: Winitzki 2008, "A handy approximation for the error function and its inverse", relative
  // error below 5e-3 everywhere; two steps of fourth order follow.
  constexpr double pi = std::numbers::pi;
  constexpr double shape = 8.0 * (pi - 3.0) / (3.0 * pi * (4.0 - pi));
  const double central = 2.0 * (0.5 - q);  // erf(z / sqrt 2), exact
  const double log_complement =
      q > 0.25 ? std::log1p(-central * central) : std::log(4.0 * q) + std::log1p(-q);
  const double half = 2.0 / (pi * shape) + 0.5 * log_complement;
  const double root = std::sqrt(half * half - log_complement / shape);
  double z = std::numbers::sqrt2 *
             std::sqrt(half > 0.0 ? -log_complement / shape / (root + half) : root - half);
  const double log_q = std::log(q);
  for (int step = 0; step < 6; ++step) {
    double u = 0.0;
    double bend = 0.0;        // g'' / (2 g')
    double bend_slope = 0.0;  // g''' / (6 g') - bend^2
    if (q > 0.25) {           // g = erf(z / sqrt 2) - central
      const double density = 2.0 * std::exp(-0.5 * z * z - kLogSqrt2Pi);
      u = (central - std::erf(z * std::numbers::sqrt2 / 2.0)) / density;
      bend = -0.5 * z;
      bend_slope = (z * z - 1.0) / 6.0 - bend * bend;
    } else {  // g = log P(Z > z) - log q; with h the hazard, g' = -h and h' = h (h - z)
      double h = 0.0;
      const double g = log_normal_tail(z, h) - log_q;  // sets h, so the division must wait
      u = g / h;
      bend = 0.5 * (h - z);
      bend_slope = ((h - z) * (2.0 * h - z) - 1.0) / 6.0 - bend * bend;
    }
    const double move = u / (1.0 + u * (bend + bend_slope * u));
    z += move;
    if (std::fabs(move) <= 1e-4 * z) break;
  }
  return z;
}

}  // namespace

// ---- public functions ---------------------------------------------------------------------------

double normal_quantile(double p) {
  check_probability("normal_quantile", "p", p);
  if (p == 0.0) return -std::numeric_limits<double>::infinity();
  if (p == 1.0) return std::numeric_limits<double>::infinity();
  if (p == 0.5) return 0.0;
  return p < 0.5 ? -upper_z(p) : upper_z(1.0 - p);
}

double normal_upper_quantile(double q) {
  check_probability("normal_upper_quantile", "q", q);
  return -normal_quantile(q);
}

double clopper_pearson_lower(std::int64_t successes, std::int64_t trials, double alpha) {
  check_counts("clopper_pearson_lower", successes, trials, 1);
  check_alpha("clopper_pearson_lower", alpha);
  if (successes == 0) return 0.0;
  const auto k = static_cast<double>(successes);
  const auto n = static_cast<double>(trials);
  return std::min(beta_quantile(k, n - k + 1.0, alpha, 1.0 - alpha).x, kBelowOne);
}

double clopper_pearson_upper(std::int64_t successes, std::int64_t trials, double alpha) {
  check_counts("clopper_pearson_upper", successes, trials, 1);
  check_alpha("clopper_pearson_upper", alpha);
  if (successes == trials) return 1.0;
  // The mirror image: the complement of the lower bound for the failures.
  const auto k = static_cast<double>(successes);
  const auto n = static_cast<double>(trials);
  return beta_quantile(n - k, k + 1.0, alpha, 1.0 - alpha).y;
}

double binomial_test_half(std::int64_t successes, std::int64_t trials) {
  check_counts("binomial_test_half", successes, trials, 0);
  const std::int64_t fewer = std::min(successes, trials - successes);
  if (trials - 2 * fewer <= 1) return 1.0;
  // P(count <= fewer) is the tail of Beta(trials - fewer, fewer + 1) at 1/2.
  const auto a = static_cast<double>(trials - fewer);
  const auto b = static_cast<double>(fewer) + 1.0;
  const BetaLogOdds beta(a, b);
  double mills = 0.0;
  if (beta.sum_is_short(1.0)) {
    mills = beta.mills_by_sum(0.5, 1.0);
  } else {
    // At 1/2 psi is (a - b) v / 2 + n log cosh(v / 2), which subtracts nothing: unlike a bound, a
    // p-value has no factor sqrt(n) to forgive rounding in it.
    const double drift = 0.5 * (a - b);
    const auto psi = [drift, n = a + b](double v, double& derivative) {
      const double sinh_half = std::sinh(0.5 * v);
      derivative = drift + 0.5 * n * std::tanh(0.5 * v);
      return drift * v + 0.5 * n * std::log1p(sinh_half * sinh_half);
    };
    mills = integrate_decay(psi, drift, 0.25 * (a + b));
  }
  return std::min(2.0 * std::exp(beta.log_density({0.5, 0.5})) * mills, 1.0);
}

double confidence_sequence_lower(std::int64_t successes, std::int64_t trials, double alpha) {
  check_counts("confidence_sequence_lower", successes, trials, 0);
  check_alpha("confidence_sequence_lower", alpha);
  if (successes == 0) return 0.0;
  const auto k = static_cast<double>(successes);
  const auto n = static_cast<double>(trials);
  return std::min(wealth_root(k, n, alpha).x, kBelowOne);
}

double confidence_sequence_upper(std::int64_t successes, std::int64_t trials, double alpha) {
  check_counts("confidence_sequence_upper", successes, trials, 0);
  check_alpha("confidence_sequence_upper", alpha);
  if (successes == trials) return 1.0;
  return wealth_root(static_cast<double>(trials - successes), static_cast<double>(trials), alpha).y;
}

double certified_radius(double p_lower, double sigma) {
  check_probability("certified_radius", "p_lower", p_lower);
  check_sigma("certified_radius", sigma);
  return p_lower <= 0.5 ? 0.0 : sigma * normal_quantile(p_lower);
}

double certified_radius(double p_lower, double sigma, double p_upper) {
  check_probability("certified_radius", "p_lower", p_lower);
  check_probability("certified_radius", "p_upper", p_upper);
  check_sigma("certified_radius", sigma);
  if (p_lower <= p_upper) return 0.0;
  return sigma * (0.5 * (normal_quantile(p_lower) - normal_quantile(p_upper)));
}

}  // namespace tamis
