// Top eigenpairs of a symmetric operator that is known by its products with blocks of vectors.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

namespace tamis::detail {

/// k vectors of d numbers, one after the other.
struct Block {
  std::int64_t d = 0;
  std::vector<double> numbers;

  std::int64_t count() const { return d > 0 ? static_cast<std::int64_t>(numbers.size()) / d : 0; }
  double* operator[](std::int64_t i) { return numbers.data() + i * d; }
  const double* operator[](std::int64_t i) const { return numbers.data() + i * d; }
  void append(const Block& other) {
    numbers.insert(numbers.end(), other.numbers.begin(), other.numbers.end());
  }
  void resize(std::int64_t k) { numbers.resize(static_cast<std::size_t>(k * d)); }
};

/// y = A v for a block v.
using Operator = std::function<Block(const Block& v)>;

struct KrylovResult {
  std::vector<double> values;  ///< of the wanted pairs, largest first, >= 0
  Block vectors;
  std::vector<double> residuals;
  std::int64_t passes = 0;
  std::vector<double> spectrum;  ///< all Ritz values of the last space, largest first
};

struct KrylovOptions {
  std::int64_t wanted = 1;    ///< pairs whose residuals must be small
  std::int64_t returned = 1;  ///< pairs returned, at least `wanted`; fewer if the space is smaller
  double tol = 1e-4;          ///< of the largest value
  std::int64_t max_passes = 100;
  std::uint64_t seed = 0;
  const double* rounding =
      nullptr;  ///< residuals up to this are rounding; may change between passes
};

/// Columns of `block`, made orthonormal to `basis` and to one another: Gram-Schmidt, twice. One
/// that loses all but 1e-10 of its length is dropped, or replaced by seeded noise if `fill`.
Block orthonormalise(const Block& block, const Block& basis, bool fill, std::uint64_t seed);

/// Gives each vector the sign that makes its largest entry positive: eigenvectors have none.
void orient(Block& block);

/// The operator on the span of an orthonormal block, given its image: Ritz pairs, largest first.
struct RitzPairs {
  std::vector<double> values;  ///< >= 0
  Block vectors;
  Block remainder;  ///< A x - value x
  std::vector<double> residuals;
};
RitzPairs rayleigh_ritz(const Block& q, const Block& image);

/// Block Lanczos with full reorthogonalisation: Rayleigh-Ritz on the whole Krylov space. At 256
/// vectors the space is restarted from its leading Ritz vectors.
KrylovResult block_krylov(const Operator& apply, const Block& start, const KrylovOptions& options);

/// Orthogonal iteration with Rayleigh-Ritz: no memory beyond the block, many more passes.
KrylovResult orthogonal_iteration(const Operator& apply, const Block& start,
                                  const KrylovOptions& options);

}  // namespace tamis::detail
