// Smoothing from C++, end to end: noisy batch, a classifier, votes, bound, radius.
// The classifier is x[0] > 1/2, so the true radius is known: |x[0] - 1/2|.
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
  return radius > 0.25 && radius < 0.3 ? 0 : 1;
}
