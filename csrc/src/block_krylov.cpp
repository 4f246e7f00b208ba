#include "src/detail/block_krylov.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "src/detail/symmetric_eigen.hpp"
#include "src/detail/uniform_hash.hpp"

namespace tamis::detail {
namespace {

constexpr std::int64_t kBasisLimit = 256;
constexpr double kTiny = std::numeric_limits<double>::min();

double dot(const double* a, const double* b, std::int64_t d) {
  double part[4] = {};  // four chains, so that one addition need not wait for the last
  std::int64_t j = 0;
  for (; j + 4 <= d; j += 4) {
    for (int p = 0; p < 4; ++p) part[p] += a[j + p] * b[j + p];
  }
  for (; j < d; ++j) part[0] += a[j] * b[j];
  return (part[0] + part[1]) + (part[2] + part[3]);
}

/// |a|, also where its square overflows or underflows.
double norm(const double* a, std::int64_t d) {
  const double plain = std::sqrt(dot(a, a, d));
  if (plain > 1e-140 && plain < 1e140) return plain;
  double largest = 0.0;
  for (std::int64_t j = 0; j < d; ++j) largest = std::max(largest, std::abs(a[j]));
  if (!(largest > 0.0)) return 0.0;
  double sum = 0.0;
  for (std::int64_t j = 0; j < d; ++j) sum += (a[j] / largest) * (a[j] / largest);
  return largest * std::sqrt(sum);
}

void add_scaled(double* y, double factor, const double* x, std::int64_t d) {
  for (std::int64_t j = 0; j < d; ++j) y[j] += factor * x[j];
}

/// The Krylov space: an orthonormal basis, its image, and the projected operator.
struct Space {
  Block q;
  Block image;
  std::vector<double> projected;  ///< row-major m x m

  /// Takes in new basis vectors and their image.
  void grow(const Block& fresh, const Block& fresh_image) {
    const std::int64_t old = q.count();
    const std::int64_t m = old + fresh.count();
    std::vector<double> t(static_cast<std::size_t>(m * m));
    for (std::int64_t i = 0; i < old; ++i) {
      std::copy_n(projected.begin() + i * old, old, t.begin() + i * m);
    }
    q.append(fresh);
    image.append(fresh_image);
    for (std::int64_t j = old; j < m; ++j) {
      for (std::int64_t i = 0; i <= j; ++i) {
        // Both halves of new-new pairs exist: their mean is symmetric to the last bit.
        const double forward = dot(q[i], image[j], q.d);
        const double value = i < old ? forward : 0.5 * (forward + dot(q[j], image[i], q.d));
        t[static_cast<std::size_t>(i * m + j)] = value;
        t[static_cast<std::size_t>(j * m + i)] = value;
      }
    }
    projected = std::move(t);
  }

  /// Linear combinations of a block's vectors with the leading eigenvectors of the projection.
  Block combine(const Block& of, const SmallEigen& small, std::int64_t count) const {
    const std::int64_t m = of.count();
    Block out{of.d, std::vector<double>(static_cast<std::size_t>(count * of.d), 0.0)};
    for (std::int64_t c = 0; c < count; ++c) {
      for (std::int64_t i = 0; i < m; ++i) {
        add_scaled(out[c], small.vectors[static_cast<std::size_t>(c * m + i)], of[i], of.d);
      }
    }
    return out;
  }
};

RitzPairs ritz_pairs(const Space& space, const SmallEigen& small, std::int64_t count) {
  RitzPairs out;
  out.vectors = space.combine(space.q, small, count);
  out.remainder = space.combine(space.image, small, count);
  for (std::int64_t c = 0; c < count; ++c) {
    const double value = small.values[static_cast<std::size_t>(c)];
    add_scaled(out.remainder[c], -value, out.vectors[c], space.q.d);
    out.residuals.push_back(norm(out.remainder[c], space.q.d));
    out.values.push_back(std::max(value, 0.0));
  }
  return out;
}

bool small_residuals(const RitzPairs& ritz, const KrylovOptions& options) {
  const double rounding = options.rounding == nullptr ? 0.0 : *options.rounding;
  const double bound = std::max(options.tol * std::max(ritz.values[0], kTiny), rounding);
  const auto wanted =
      std::min<std::size_t>(static_cast<std::size_t>(options.wanted), ritz.values.size());
  return std::all_of(ritz.residuals.begin(),
                     ritz.residuals.begin() + static_cast<std::ptrdiff_t>(wanted),
                     [&](double r) { return r <= bound; });
}

KrylovResult result_of(RitzPairs ritz, const SmallEigen& small, std::int64_t passes,
                       const KrylovOptions& options) {
  const auto count = std::min<std::int64_t>(options.returned, ritz.vectors.count());
  ritz.values.resize(static_cast<std::size_t>(count));
  ritz.residuals.resize(static_cast<std::size_t>(count));
  ritz.vectors.resize(count);
  KrylovResult out{std::move(ritz.values), std::move(ritz.vectors), std::move(ritz.residuals),
                   passes, small.values};
  for (double& value : out.spectrum) value = std::max(value, 0.0);
  return out;
}

}  // namespace

RitzPairs rayleigh_ritz(const Block& q, const Block& image) {
  Space space{Block{q.d, {}}, Block{q.d, {}}, {}};
  space.grow(q, image);
  const std::int64_t m = q.count();
  return ritz_pairs(space, symmetric_eigen(space.projected, m), m);
}

void orient(Block& block) {
  for (std::int64_t c = 0; c < block.count(); ++c) {
    double* v = block[c];
    const double* largest = std::max_element(
        v, v + block.d, [](double a, double b) { return std::abs(a) < std::abs(b); });
    if (*largest >= 0.0) continue;
    for (std::int64_t j = 0; j < block.d; ++j) v[j] = -v[j];
  }
}

Block orthonormalise(const Block& block, const Block& basis, bool fill, std::uint64_t seed) {
  const std::int64_t d = block.d;
  const std::int64_t old = basis.count();
  Block fresh{d, {}};
  std::vector<double> vector(static_cast<std::size_t>(d));
  for (std::int64_t j = 0; j < block.count(); ++j) {
    std::copy_n(block[j], d, vector.begin());
    for (int attempt = 0; attempt < 3 && old + fresh.count() < d; ++attempt) {
      const double before = norm(vector.data(), d);
      for (int twice = 0; twice < 2; ++twice) {
        for (std::int64_t i = 0; i < old; ++i) {
          add_scaled(vector.data(), -dot(basis[i], vector.data(), d), basis[i], d);
        }
        for (std::int64_t i = 0; i < fresh.count(); ++i) {
          add_scaled(vector.data(), -dot(fresh[i], vector.data(), d), fresh[i], d);
        }
      }
      const double after = norm(vector.data(), d);
      if (after > 1e-10 * before && after > 0.0) {
        for (double& x : vector) x /= after;
        fresh.numbers.insert(fresh.numbers.end(), vector.begin(), vector.end());
        break;
      }
      if (!fill) break;
      vector =
          gaussian_block(d, 1, seed, kFillStream + static_cast<std::uint64_t>(3 * j + attempt));
    }
  }
  return fresh;
}

KrylovResult block_krylov(const Operator& apply, const Block& start, const KrylovOptions& options) {
  Space space{Block{start.d, {}}, Block{start.d, {}}, {}};
  Block fresh = orthonormalise(start, space.q, true, options.seed);
  const std::int64_t width = fresh.count();
  for (std::int64_t passes = 1;; ++passes) {
    space.grow(fresh, apply(fresh));
    const std::int64_t m = space.q.count();
    const SmallEigen small = symmetric_eigen(space.projected, m);
    RitzPairs ritz = ritz_pairs(space, small, std::min(m, std::max(width, options.returned)));
    if (small_residuals(ritz, options) || passes >= options.max_passes || m >= start.d) {
      return result_of(std::move(ritz), small, passes, options);
    }
    // The newest directions are the residuals of the leading Ritz pairs: in exact arithmetic the
    // same space as the three-term recurrence, and safe after a restart.
    Block next{start.d, {}};
    next.numbers.assign(ritz.remainder.numbers.begin(),
                        ritz.remainder.numbers.begin() + width * start.d);
    if (m + width > kBasisLimit) {
      const std::int64_t keep = std::max(width, kBasisLimit / 2);
      space.q = space.combine(space.q, small, keep);
      space.image = space.combine(space.image, small, keep);
      space.projected.assign(static_cast<std::size_t>(keep * keep), 0.0);
      for (std::int64_t i = 0; i < keep; ++i) {
        space.projected[static_cast<std::size_t>(i * keep + i)] =
            small.values[static_cast<std::size_t>(i)];
      }
    }
    fresh = orthonormalise(next, space.q, false, options.seed);
    if (fresh.count() == 0) {  // an invariant subspace: every residual is rounding
      return result_of(std::move(ritz), small, passes, options);
    }
  }
}

KrylovResult orthogonal_iteration(const Operator& apply, const Block& start,
                                  const KrylovOptions& options) {
  Block q = orthonormalise(start, Block{start.d, {}}, true, options.seed);
  for (std::int64_t passes = 1;; ++passes) {
    Space space{Block{start.d, {}}, Block{start.d, {}}, {}};
    space.grow(q, apply(q));
    const std::int64_t m = space.q.count();
    const SmallEigen small = symmetric_eigen(space.projected, m);
    RitzPairs ritz = ritz_pairs(space, small, m);
    if (small_residuals(ritz, options) || passes >= options.max_passes) {
      return result_of(std::move(ritz), small, passes, options);
    }
    q = orthonormalise(space.combine(space.image, small, m), Block{start.d, {}}, true,
                       options.seed);
  }
}

}  // namespace tamis::detail
