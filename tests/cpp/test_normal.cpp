// Oracle: Box-Muller of the same uniforms in long double (64-bit mantissa where the machine has
// one; on AArch64, 113 bits in software). The contract is 4 ulp of the correctly rounded result.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>

#include "check.hpp"
#include "tamis/normal.hpp"

namespace {

/// |value - exact| in units of the last place of the float32 nearest to exact.
double ulp_error(float value, long double exact) {
  const float nearest = static_cast<float>(exact);
  const float magnitude = std::max(std::fabs(nearest), std::numeric_limits<float>::min());
  const long double ulp = static_cast<long double>(
      std::nextafter(magnitude, std::numeric_limits<float>::infinity()) - magnitude);
  return static_cast<double>(std::fabs(static_cast<long double>(value) - exact) / ulp);
}

struct Exact {
  long double z0, z1;
};
Exact exact(std::uint32_t a, std::uint32_t b) {
  const float u =
      std::fma(static_cast<float>(static_cast<std::int32_t>(a >> 1)), 0x1p-31f, 0x1p-32f);
  const float t = static_cast<float>(static_cast<std::int32_t>((b << 2) | 2u)) * 0x1p-31f;
  const long double pi = std::acos(-1.0L);
  const long double r = std::sqrt(-2.0L * std::log(static_cast<long double>(u)));
  const long double c = std::cos(pi / 4 * t), s = std::sin(pi / 4 * t);
  switch (b >> 30) {  // exact quarter turns
    case 0:
      return {r * c, r * s};
    case 1:
      return {r * -s, r * c};
    case 2:
      return {r * -c, r * -s};
    default:
      return {r * s, r * -c};
  }
}

/// Quadruple precision in software, under an emulator, would take minutes: fewer words there.
constexpr std::uint32_t kThin = std::numeric_limits<long double>::digits > 64 ? 50 : 1;

double worst = 0;

void compare(std::uint32_t a, std::uint32_t b) {
  float z0, z1;
  tamis::box_muller<tamis::ScalarLanes>(static_cast<std::int32_t>(a), static_cast<std::int32_t>(b),
                                        z0, z1);
  const Exact e = exact(a, b);
  if (e.z0 == 0) {  // u = 1: the radius, and so both normals, are exactly zero
    CHECK(z0 == 0 && z1 == 0);
    return;
  }
  const double error = std::max(ulp_error(z0, e.z0), ulp_error(z1, e.z1));
  worst = std::max(worst, error);
  if (error > 4) {
    check::failed(__FILE__, __LINE__,
                  "error of " + std::to_string(error) + " ulp at words " + std::to_string(a) +
                      ", " + std::to_string(b));
  }
}

/// A fixed sequence of words that does not come from the generator under test.
struct Lcg {
  std::uint64_t state = 1;
  std::uint32_t operator()() {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return static_cast<std::uint32_t>(state >> 32);
  }
};

}  // namespace

TEST_CASE(random_words) {
  Lcg next;
  for (std::uint32_t k = 0; k < 300'000 / kThin; ++k) {
    const std::uint32_t a = next();
    compare(a, next());
  }
  std::printf("     largest error %.3f ulp\n", worst);
}

TEST_CASE(far_tail_and_near_one) {
  Lcg next;
  for (std::uint32_t k = 0; k < 20'000 / kThin; ++k) {
    compare(k, next());                // u from 2^-32 up: radius up to 6.66
    compare(0xffffffffu - k, next());  // u down from 1: radius down to 0
    compare(1u << (k % 32), next());   // every exponent
  }
  std::printf("     largest error so far %.3f ulp\n", worst);
}

TEST_CASE(every_octant_and_its_edges) {
  Lcg next;
  for (std::uint32_t octant = 0; octant < 8; ++octant) {
    for (std::uint32_t k = 0; k < 5'000 / kThin; ++k) {
      compare(next(), (octant << 29) + k);
      compare(next(), (octant << 29) - 1 - k);
      compare(next(), (octant << 29) + (next() >> 3));
    }
  }
  std::printf("     largest error so far %.3f ulp\n", worst);
}

TEST_CASE(quarter_turns_are_exact_symmetries) {
  Lcg next;
  for (int k = 0; k < 10'000; ++k) {
    const auto a = static_cast<std::int32_t>(next());
    const std::uint32_t b = next();
    float x[4], y[4];
    for (std::uint32_t q = 0; q < 4; ++q) {
      tamis::box_muller<tamis::ScalarLanes>(a, static_cast<std::int32_t>(b + (q << 30)), x[q],
                                            y[q]);
    }
    CHECK(x[2] == -x[0] && y[2] == -y[0]);
    CHECK(x[3] == -x[1] && y[3] == -y[1]);
    CHECK(x[1] == -y[0] && y[1] == x[0]);
  }
}

TEST_CASE(normal4_is_the_documented_function_of_the_counter) {
  const auto words = tamis::philox4x32_10({{5, 6, 7, 8}}, 0x0123456789abcdefull);
  const auto z = tamis::normal4(0x0123456789abcdefull, 5, 6, 7, 8);
  for (int pair = 0; pair < 2; ++pair) {
    float z0, z1;
    tamis::box_muller<tamis::ScalarLanes>(static_cast<std::int32_t>(words.w[2 * pair]),
                                          static_cast<std::int32_t>(words.w[2 * pair + 1]), z0, z1);
    CHECK_EQ(z.z[2 * pair], z0);
    CHECK_EQ(z.z[2 * pair + 1], z1);
  }
}
