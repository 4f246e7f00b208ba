// Both halves from C++. Smoothing, end to end: noisy batch, a classifier, votes, bound, radius. The
// classifier is x[0] > 1/2, so the true radius is known: |x[0] - 1/2|. Filtering: the mean of noise
// around 0, a tenth of whose rows were moved to 5.
#include <array>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "tamis/tamis.hpp"

int main() {
  constexpr std::int64_t d = 3, n = 10'000;
  constexpr double alpha = 0.001;
  constexpr float sigma = 0.25f;
  const std::array<float, d> x{0.8f, 0.1f, 0.4f};

  std::vector<float> batch(n * d);
  tamis::gaussian_noise({x.data(), d}, {batch.data(), n, d, d}, sigma, {.seed = 1});
  std::vector<float> logits(n * 2);
  for (std::int64_t s = 0; s < n; ++s) {
    logits[2 * s] = 0.5f;
    logits[2 * s + 1] = batch[s * d];
  }
  std::array<std::int64_t, 2> counts{};
  tamis::vote_counts({logits.data(), n, 2, 2}, counts.data());

  const double p = tamis::clopper_pearson_lower(counts[1], n, alpha);
  const double radius = tamis::certified_radius(p, sigma);
  std::printf("tamis %s on %s: certified radius %.4f, true radius 0.3\n", tamis::version(),
              tamis::active_isa().c_str(), radius);

  std::vector<float> rows(n * d);
  const std::array<float, d> origin{};
  tamis::gaussian_noise({origin.data(), d}, {rows.data(), n, d, d}, 1.0f, {.seed = 2});
  for (std::int64_t i = 0; i < n / 10 * d; ++i) rows[i] = 5.0f;
  std::vector<float> weights(n), scores(n);
  const auto robust = tamis::iterative_filter({rows.data(), n, d, d}, {weights.data(), n},
                                              {scores.data(), n}, {.contamination = 0.1});
  std::printf("robust mean of column 0: %.4f, %.1f%% of the rows left out\n", robust.mean[0],
              100.0 * robust.contamination);
  const bool near = robust.mean[0] > -0.06 && robust.mean[0] < 0.06;  // six standard errors
  return radius > 0.25 && radius < 0.3 && near ? 0 : 1;
}
