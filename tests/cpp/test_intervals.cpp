// Oracles: histograms of exactly Gaussian counts, with and without planted rows; sorted samples;
// the definition of an eigenpair.
#include "src/detail/intervals.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "check.hpp"
#include "src/detail/symmetric_eigen.hpp"

namespace {

using tamis::detail::Cut;
using tamis::detail::Histogram;
using tamis::detail::Spread;

double cdf(double t) { return 0.5 * std::erfc(-t / std::sqrt(2.0)); }

/// n standard normal rows, spread over the bins as expected.
Histogram gaussian(double n) {
  Histogram h;
  h.grid = {0.0, 1.0 / tamis::detail::kBinsPerScale};
  for (int b = 1; b <= tamis::detail::kBins; ++b) {
    h.counts[static_cast<std::size_t>(b)] = n * (cdf(h.grid.edge(b)) - cdf(h.grid.edge(b - 1)));
  }
  return h;
}

Cut cut_for(const Histogram& h) {
  Cut cut;
  cut.grid = h.grid;
  return cut;
}

}  // namespace

TEST_CASE(clean_tails_are_left_alone) {
  const Histogram h = gaussian(1e5);
  CHECK(!tail_cut(h, cut_for(h), Spread{}).active());
  CHECK(!variance_cut(h, cut_for(h), {.variance_lo = 1.0}).active());
}

TEST_CASE(a_planted_cluster_is_cut_off) {
  Histogram h = gaussian(9e4);
  h.counts[static_cast<std::size_t>(h.grid.bin(6.01))] += 1e4;
  const Cut tail = tail_cut(h, cut_for(h), {.factor = 3.0});
  CHECK(tail.hi > 3.5 && tail.hi <= 6.0);
  CHECK_EQ(tail.lo, -tamis::detail::kInfinity);
  CHECK_NEAR(tail.centre, 0.0, 0.02);
  CHECK_NEAR(tail.scale, 1.0, 0.03);
  const Cut variance = variance_cut(h, cut_for(h), {.variance_lo = 1.0});
  CHECK(variance.hi > 3.5 && variance.hi <= 6.0);
  CHECK_NEAR(rows_between(h, cut_for(h), tail), 1e4, 30.0);
}

TEST_CASE(overflow_bins_count) {
  Histogram h = gaussian(1e4);
  h.counts[0] = 50.0;
  h.square[0] = 50.0 * 1e6;
  CHECK_NEAR(h.middle(0), -1000.0, 1e-9);
  const Cut cut = tail_cut(h, cut_for(h), Spread{});
  CHECK(std::isfinite(cut.lo) && cut.lo < -3.0);
}

TEST_CASE(noise_edge_is_marchenko_pastur_plus_tracy_widom) {
  // n = 10001, d = 100: a = 100, b = 10; (110^2 + 4 * 110 (1/100 + 1/10)^(1/3)) / 10001.
  CHECK_NEAR(tamis::detail::noise_edge(10001, 100), (12100.0 + 440.0 * std::cbrt(0.11)) / 10001.0,
             1e-12);
}

TEST_CASE(quantiles_interpolate) {
  std::vector<double> z = {5, 1, 4, 2, 3};
  CHECK_EQ(tamis::detail::quantile_of(z, 0.5), 3.0);
  CHECK_NEAR(tamis::detail::quantile_of(z, 0.4), 2.6, 1e-15);
  std::vector<double> odd = {1, std::nan(""), 2};
  CHECK_EQ(tamis::detail::quantile_of(odd, 0.5), 2.0);
  std::vector<double> sample(10001);
  std::mt19937_64 generator(3);
  std::normal_distribution<double> normal(7.0, 2.0);
  for (double& x : sample) x = normal(generator);
  const auto [centre, scale] = tamis::detail::robust_scale(sample);
  CHECK_NEAR(centre, 7.0, 0.15);
  CHECK_NEAR(scale, 2.0, 0.13);  // six standard errors: 1.04 * 2 / 100
}

TEST_CASE(small_eigenproblems) {
  std::mt19937_64 generator(1);
  std::normal_distribution<double> normal;
  for (const std::int64_t m : {1, 2, 3, 5, 17, 64}) {
    for (int kind = 0; kind < 4; ++kind) {
      std::vector<double> a(static_cast<std::size_t>(m * m));
      for (std::int64_t i = 0; i < m; ++i) {
        for (std::int64_t j = 0; j <= i; ++j) {
          const double x = kind == 0   ? normal(generator)
                           : kind == 1 ? static_cast<double>(i == j)
                           : kind == 2
                               ? 1.0
                               : normal(generator) * std::pow(10.0, -static_cast<double>(i + j));
          a[static_cast<std::size_t>(i * m + j)] = a[static_cast<std::size_t>(j * m + i)] = x;
        }
      }
      const auto pairs = tamis::detail::symmetric_eigen(a, m);
      CHECK(std::is_sorted(pairs.values.rbegin(), pairs.values.rend()));
      const double size = std::max(std::abs(pairs.values.front()), std::abs(pairs.values.back()));
      for (std::int64_t c = 0; c < m; ++c) {
        const double* v = pairs.vectors.data() + c * m;
        double norm = 0.0;
        for (std::int64_t i = 0; i < m; ++i) {
          double image = 0.0;
          for (std::int64_t j = 0; j < m; ++j)
            image += a[static_cast<std::size_t>(i * m + j)] * v[j];
          CHECK_NEAR(image, pairs.values[static_cast<std::size_t>(c)] * v[i], 1e-13 * size);
          norm += v[i] * v[i];
        }
        CHECK_NEAR(norm, 1.0, 1e-13);
      }
    }
  }
}
