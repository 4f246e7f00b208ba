#include "src/detail/symmetric_eigen.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>

namespace tamis::detail {
namespace {

using Matrix = std::vector<double>;  // row-major, m x m

/// Overwrites `a` with the orthogonal Q of A = Q T Q^T; diagonal and subdiagonal of T go out, the
/// entry that couples i - 1 and i at index i.
void tridiagonalise(Matrix& a, std::int64_t m, std::vector<double>& diagonal,
                    std::vector<double>& coupling) {
  const auto at = [&](std::int64_t i, std::int64_t j) -> double& {
    return a[static_cast<std::size_t>(i * m + j)];
  };
  std::vector<std::vector<double>> reflectors;
  std::vector<double> p(static_cast<std::size_t>(m));
  for (std::int64_t s = 0; s + 2 < m; ++s) {
    // Reflect column s below the diagonal onto its first entry.
    const std::int64_t size = m - s - 1;
    std::vector<double> u(static_cast<std::size_t>(size));
    double norm2 = 0.0;
    for (std::int64_t i = 0; i < size; ++i) {
      u[static_cast<std::size_t>(i)] = at(s + 1 + i, s);
      norm2 += u[static_cast<std::size_t>(i)] * u[static_cast<std::size_t>(i)];
    }
    const double rest2 = norm2 - u[0] * u[0];
    if (!(rest2 > 0.0)) {
      reflectors.emplace_back();
      continue;
    }
    const double alpha = u[0] > 0.0 ? -std::sqrt(norm2) : std::sqrt(norm2);
    u[0] -= alpha;
    double length2 = 0.0;
    for (const double x : u) length2 += x * x;
    for (double& x : u) x *= std::sqrt(2.0 / length2);  // H = I - u u^T
    // A' = H A H on the trailing block: A - u w^T - w u^T with w = A u - (u.Au / 2) u.
    double dot = 0.0;
    for (std::int64_t i = 0; i < size; ++i) {
      double sum = 0.0;
      for (std::int64_t j = 0; j < size; ++j)
        sum += at(s + 1 + i, s + 1 + j) * u[static_cast<std::size_t>(j)];
      p[static_cast<std::size_t>(i)] = sum;
      dot += sum * u[static_cast<std::size_t>(i)];
    }
    for (std::int64_t i = 0; i < size; ++i) {
      p[static_cast<std::size_t>(i)] -= 0.5 * dot * u[static_cast<std::size_t>(i)];
    }
    for (std::int64_t i = 0; i < size; ++i) {
      for (std::int64_t j = 0; j < size; ++j) {
        at(s + 1 + i, s + 1 + j) -=
            u[static_cast<std::size_t>(i)] * p[static_cast<std::size_t>(j)] +
            p[static_cast<std::size_t>(i)] * u[static_cast<std::size_t>(j)];
      }
    }
    at(s + 1, s) = alpha;
    reflectors.push_back(std::move(u));
  }
  for (std::int64_t i = 0; i < m; ++i) {
    diagonal[static_cast<std::size_t>(i)] = at(i, i);
    coupling[static_cast<std::size_t>(i)] = i > 0 ? at(i, i - 1) : 0.0;
  }
  // Q = H_0 H_1 ... applied to the identity, last reflector first.
  std::fill(a.begin(), a.end(), 0.0);
  for (std::int64_t i = 0; i < m; ++i) at(i, i) = 1.0;
  for (auto s = static_cast<std::int64_t>(reflectors.size()) - 1; s >= 0; --s) {
    const auto& u = reflectors[static_cast<std::size_t>(s)];
    if (u.empty()) continue;
    const auto size = static_cast<std::int64_t>(u.size());
    std::fill(p.begin(), p.end(), 0.0);
    for (std::int64_t i = 0; i < size; ++i) {
      for (std::int64_t j = 0; j < size; ++j)
        p[static_cast<std::size_t>(j)] += u[static_cast<std::size_t>(i)] * at(s + 1 + i, s + 1 + j);
    }
    for (std::int64_t i = 0; i < size; ++i) {
      for (std::int64_t j = 0; j < size; ++j)
        at(s + 1 + i, s + 1 + j) -= u[static_cast<std::size_t>(i)] * p[static_cast<std::size_t>(j)];
    }
  }
}

/// Diagonalises the tridiagonal matrix by QL steps with Wilkinson's shift. The rows of `q` are
/// rotated along, so they end as eigenvectors. coupling has m + 1 entries: entry i couples i - 1
/// and i, and the last is scratch.
void diagonalise(std::int64_t m, std::vector<double>& diagonal, std::vector<double>& coupling,
                 Matrix& q) {
  const auto d = [&](std::int64_t i) -> double& { return diagonal[static_cast<std::size_t>(i)]; };
  const auto e = [&](std::int64_t i) -> double& {
    return coupling[static_cast<std::size_t>(i + 1)];
  };
  constexpr double eps = std::numeric_limits<double>::epsilon();
  constexpr int kMaxSweeps = 60;  // two or three are usual
  for (std::int64_t low = 0; low < m; ++low) {
    for (int sweep = 0; sweep < kMaxSweeps; ++sweep) {
      std::int64_t high = low;
      while (high + 1 < m &&
             std::abs(e(high)) > eps * (std::abs(d(high)) + std::abs(d(high + 1)))) {
        ++high;
      }
      if (high == low) break;
      const double half = (d(low + 1) - d(low)) / (2.0 * e(low));
      const double root = std::hypot(half, 1.0);
      double g = d(high) - d(low) + e(low) / (half + (half >= 0.0 ? root : -root));
      double s = 1.0;
      double c = 1.0;
      double p = 0.0;
      bool split = false;
      for (std::int64_t i = high - 1; i >= low; --i) {
        const double f = s * e(i);
        const double b = c * e(i);
        const double r = std::hypot(f, g);
        e(i + 1) = r;
        if (r == 0.0) {  // underflow: the matrix falls into two here
          d(i + 1) -= p;
          split = true;
          break;
        }
        s = f / r;
        c = g / r;
        g = d(i + 1) - p;
        const double t = (d(i) - g) * s + 2.0 * c * b;
        p = s * t;
        d(i + 1) = g + p;
        g = c * t - b;
        double* right = q.data() + (i + 1) * m;
        double* left = q.data() + i * m;
        for (std::int64_t k = 0; k < m; ++k) {
          const double x = right[k];
          right[k] = s * left[k] + c * x;
          left[k] = c * left[k] - s * x;
        }
      }
      e(high) = 0.0;
      if (split) continue;
      d(low) -= p;
      e(low) = g;
    }
  }
}

}  // namespace

SmallEigen symmetric_eigen(std::vector<double> a, std::int64_t m) {
  std::vector<double> diagonal(static_cast<std::size_t>(m));
  std::vector<double> coupling(static_cast<std::size_t>(m + 1), 0.0);
  tridiagonalise(a, m, diagonal, coupling);
  for (std::int64_t i = 0; i < m;
       ++i) {  // rows instead of columns: they are rotated in memory order
    for (std::int64_t j = 0; j < i; ++j) {
      std::swap(a[static_cast<std::size_t>(i * m + j)], a[static_cast<std::size_t>(j * m + i)]);
    }
  }
  diagonalise(m, diagonal, coupling, a);
  std::vector<std::int64_t> order(static_cast<std::size_t>(m));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::int64_t i, std::int64_t j) {
    return diagonal[static_cast<std::size_t>(i)] > diagonal[static_cast<std::size_t>(j)];
  });
  SmallEigen result{std::vector<double>(static_cast<std::size_t>(m)), Matrix(a.size())};
  for (std::int64_t i = 0; i < m; ++i) {
    const std::int64_t from = order[static_cast<std::size_t>(i)];
    result.values[static_cast<std::size_t>(i)] = diagonal[static_cast<std::size_t>(from)];
    std::copy_n(a.begin() + from * m, m, result.vectors.begin() + i * m);
  }
  return result;
}

}  // namespace tamis::detail
