// confidence: bounds for a Bernoulli mean, and the certified radius they give.
//
// Shared contract
//   - Pure functions of their arguments: no state, no workspace, thread-safe, and a bounded number
//     of steps whatever the arguments. Bits depend on the C library's exp, log and erf only.
//   - Counts are 64-bit, 0 <= successes <= trials <= 2^53 (so that each is exact in a double).
//     Accuracies were measured against 45-digit arithmetic for trials up to 1e9.
//   - @throws std::invalid_argument for a NaN, a count out of range, a level outside (0, 1).
//
// Sources
//   [ClopperPearson34]  Clopper and Pearson 1934, Biometrika 26
//   [Cohen19]           Cohen, Rosenfeld and Kolter 2019: Theorem 1, Certify, Predict
//   [Ville39]           Ville 1939: a nonnegative supermartingale that starts at 1 reaches
//                       1 / alpha with probability at most alpha
//   [Robbins70]         Robbins 1970, Ann. Math. Statist. 41: mixture martingales
//   [Howard21]          Howard, Ramdas, McAuliffe and Sekhon 2021, Ann. Statist. 49
//   [WSR24]             Waudby-Smith and Ramdas 2024, J. R. Statist. Soc. B 86: betting
#pragma once

#include <cstdint>

namespace tamis {

// ---- fixed sample size --------------------------------------------------------------------------

/// One-sided Clopper-Pearson bounds at level alpha each, trials >= 1. The two-sided interval at
/// level alpha is the pair at alpha / 2. [ClopperPearson34]
///
///     lower = BetaInv(alpha; k, n - k + 1)       0 for k = 0
///     upper = BetaInv(1 - alpha; k + 1, n - k)   1 for k = n
///
/// - Accuracy: relative error below 1e-12 for every alpha in (0, 1), subnormal ones included,
///   wherever the bound is a normal number; below 1e-14 for alpha >= 1e-12 (measured).
/// - lower < 1 always: one that would round to 1 is returned as the double below it, so that no
///   certificate becomes infinite by rounding.
/// - 1 - upper(k, n) is lower(n - k, n). Where upper is close to 1 that has the same relative
///   accuracy, which a number rounded next to 1 cannot carry.
[[nodiscard]] double clopper_pearson_lower(std::int64_t successes, std::int64_t trials,
                                           double alpha);
[[nodiscard]] double clopper_pearson_upper(std::int64_t successes, std::int64_t trials,
                                           double alpha);

/// Two-sided exact p-value of `successes` in `trials` tosses of a fair coin, trials >= 0: the
/// probability of a count at least as far from trials / 2. In Predict of [Cohen19] successes is the
/// top count and trials the sum of the top two. Exactly 1 when heads and tails differ by at most
/// one. Relative error below 1e-12 where the value is a normal number; it underflows to 0.
[[nodiscard]] double binomial_test_half(std::int64_t successes, std::int64_t trials);

// ---- any sample size ----------------------------------------------------------------------------

/// One-sided confidence sequences at level alpha each, trials >= 0: with probability at least
/// 1 - alpha the bound is right after every single trial. One may therefore look after each batch,
/// stop when the bound is good enough, and keep the best bound seen so far. The pair at alpha / 2
/// is a two-sided confidence sequence at level alpha. No trials give 0 and 1.
///
/// The lower bound inverts the wealth of a gambler who bets that the mean exceeds p and stakes a
/// fraction u of the wealth on every success, averaged over u uniform on [0, 1]:
///
///     W(p) = int_0^1 (1 + u (1 - p) / p)^k (1 - u)^(n - k) du
///
/// This is the beta-binomial mixture ([Robbins70], [Howard21]) with the uniform prior cut down to
/// the alternatives above p, and in the terms of [WSR24] a mixture of constant bets. Under every
/// mean <= p, W is a nonnegative supermartingale from 1, so [Ville39] applies; W decreases in p,
/// and lower is the p with W(p) = 1 / alpha (0 for k = 0). upper(k, n) = 1 - lower(n - k, n).
///
/// - Accuracy: relative error below 1e-12 for alpha <= 1/2 (absolute above), lower <= k / n, and
///   lower < 1. A level above 1 - 1e-12 counts as that one, on the safe side; a lower bound that
///   would be subnormal is returned as 0.
[[nodiscard]] double confidence_sequence_lower(std::int64_t successes, std::int64_t trials,
                                               double alpha);
[[nodiscard]] double confidence_sequence_upper(std::int64_t successes, std::int64_t trials,
                                               double alpha);

// ---- normal quantile and radius -----------------------------------------------------------------

/// Inverse of the standard normal distribution function for p in [0, 1]: -inf at 0, +inf at 1.
/// Relative error below 1e-15 (measured 3.8e-16), in both tails and next to 1/2.
[[nodiscard]] double normal_quantile(double p);

/// The z with P(Z > z) = q: for probabilities next to 1, whose digits 1 - q would lose.
[[nodiscard]] double normal_upper_quantile(double q);

/// Certified l2 radius in the units of sigma, sigma > 0 and finite. [Cohen19] Theorem 1
///
///     sigma PhiInv(p_lower)                                  runner-up bound 1 - p_lower
///     sigma / 2 (PhiInv(p_lower) - PhiInv(p_upper))          separate runner-up bound
///
/// Never negative: 0 where nothing is certified (p_lower <= 1/2, or p_lower <= p_upper). A radius
/// of 0 does not tell an abstention from a certificate of radius 0; the comparison does.
/// p_lower = 1 or p_upper = 0 claims certainty and gives +inf.
[[nodiscard]] double certified_radius(double p_lower, double sigma);
[[nodiscard]] double certified_radius(double p_lower, double sigma, double p_upper);

}  // namespace tamis
