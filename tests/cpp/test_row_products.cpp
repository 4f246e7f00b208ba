// Oracles: plain sums in long double; the baseline's kernels, bit for bit; other groupings of rows
// and columns, bit for bit.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "check.hpp"
#include "src/detail/aligned.hpp"
#include "src/detail/intervals.hpp"
#include "src/detail/row_passes.hpp"
#include "tamis/exec.hpp"

namespace {

using tamis::detail::Aligned;
using tamis::detail::padded;

/// Rows with junk between them, a centre and packed columns.
template <class T>
struct Problem {
  std::int64_t d;
  int rows, k;
  std::vector<T> x;
  std::vector<const T*> pointers;
  Aligned<T> centre, v;
  std::vector<T> a;

  Problem(std::int64_t columns, int count, int vectors) : d(columns), rows(count), k(vectors) {
    std::mt19937_64 generator(static_cast<std::uint64_t>(1000 * d + 10 * rows + k));
    std::normal_distribution<double> normal;
    const auto draw = [&] { return static_cast<T>(normal(generator)); };
    x.resize(static_cast<std::size_t>(rows * (d + 3) + 3), std::numeric_limits<T>::quiet_NaN());
    for (int r = 0; r < rows; ++r) {
      for (std::int64_t j = 0; j < d; ++j)
        x[static_cast<std::size_t>(3 + r * (d + 3) + j)] = draw();
      pointers.push_back(x.data() + 3 + r * (d + 3));
    }
    centre.assign(static_cast<std::size_t>(padded<T>(d)), T(0));
    v.assign(static_cast<std::size_t>(padded<T>(d) * k), T(0));
    for (std::int64_t j = 0; j < d; ++j) {
      centre[static_cast<std::size_t>(j)] = draw();
      for (int c = 0; c < k; ++c) v[static_cast<std::size_t>(c * padded<T>(d) + j)] = draw();
    }
    for (int i = 0; i < rows * k; ++i) a.push_back(draw());
  }
  long double centred(int r, std::int64_t j) const {
    return static_cast<long double>(static_cast<T>(pointers[static_cast<std::size_t>(r)][j] -
                                                   centre[static_cast<std::size_t>(j)]));
  }
  tamis::detail::RowTile<T> tile(int first, int count) const {
    return {pointers.data() + first, count, d};
  }
};

/// What a sweep does in one walk over the rows: the bits of one walk each.
template <class T>
void check_shared_walks(const Problem<T>& p, const std::vector<T>& z, std::vector<T> square) {
  const auto& kernels = tamis::detail::row_kernels<T>();
  std::vector<T> z1(z.size(), T(-1));
  std::vector<T> square1(square.size(), T(-1));
  auto far = p.tile(0, p.rows);
  far.ahead = {std::int64_t{1} << 24, std::int64_t{1} << 40};
  kernels.measure(far, p.centre.data(), p.v.data(), p.k, z1.data(), p.centre.data(),
                  square1.data());
  CHECK(z1 == z && square1 == square);
  kernels.distances2(p.tile(0, p.rows), p.v.data(), square.data());  // about another centre
  kernels.measure(p.tile(0, p.rows), p.centre.data(), p.v.data(), p.k, z1.data(), p.v.data(),
                  square1.data());
  CHECK(z1 == z && square1 == square);
  std::vector<T> with_ones;
  for (int r = 0; r < p.rows; ++r) {
    const auto from = p.a.begin() + r * p.k;
    with_ones.insert(with_ones.end(), from, from + p.k);
    with_ones.push_back(T(1));
  }
  Aligned<T> y(static_cast<std::size_t>(padded<T>(p.d) * (p.k + 1)), T(0.5));
  Aligned<T> y1 = y;
  kernels.accumulate(p.tile(0, p.rows), p.centre.data(), with_ones.data(), p.k + 1, y.data());
  kernels.accumulate_and_add(far, p.centre.data(), p.a.data(), p.k, y1.data());
  CHECK(y1 == y);
}

template <class T>
void check_problem(std::int64_t d, int rows, int k) {
  const Problem<T> p(d, rows, k);
  const auto& kernels = tamis::detail::row_kernels<T>();
  std::vector<T> z(static_cast<std::size_t>(rows * k), T(-1));
  std::vector<T> z0 = z;
  kernels.project(p.tile(0, rows), p.centre.data(), p.v.data(), k, z.data());
  tamis::cpu::baseline::project(p.tile(0, rows), p.centre.data(), p.v.data(), k, z0.data());
  CHECK(z == z0);
  std::vector<T> square(static_cast<std::size_t>(rows), T(-1));
  std::vector<T> square0 = square;
  kernels.distances2(p.tile(0, rows), p.centre.data(), square.data());
  tamis::cpu::baseline::distances2(p.tile(0, rows), p.centre.data(), square0.data());
  CHECK(square == square0);
  Aligned<T> y(p.v.size(), T(0.5));
  Aligned<T> y0 = y;
  Aligned<T> y1 = y;
  kernels.accumulate(p.tile(0, rows), p.centre.data(), p.a.data(), k, y.data());
  tamis::cpu::baseline::accumulate(p.tile(0, rows), p.centre.data(), p.a.data(), k, y0.data());
  CHECK(y == y0);
  auto ahead = p.tile(0, rows);  // memory asked for far beyond the rows: the same bits, no fault
  ahead.ahead = {std::int64_t{1} << 24, std::int64_t{1} << 40};
  std::vector<T> z1(z.size(), T(-1));
  std::vector<T> square1(square.size(), T(-1));
  Aligned<T> y2(p.v.size(), T(0.5));
  kernels.project(ahead, p.centre.data(), p.v.data(), k, z1.data());
  std::vector<T> z2(z.size(), T(-1));
  ahead.one_by_one = true;
  kernels.project(ahead, p.centre.data(), p.v.data(), k, z2.data());
  kernels.distances2(ahead, p.centre.data(), square1.data());
  kernels.accumulate(ahead, p.centre.data(), p.a.data(), k, y2.data());
  CHECK(z1 == z && z2 == z && square1 == square && y2 == y);
  check_shared_walks(p, z, square);
  const int half = rows / 2;  // in two calls: the same bits
  kernels.accumulate(p.tile(0, half), p.centre.data(), p.a.data(), k, y1.data());
  kernels.accumulate(p.tile(half, rows - half), p.centre.data(), p.a.data() + half * k, k,
                     y1.data());
  CHECK(y == y1);
  for (int r = 0; r < rows; ++r) {  // one row and one column at a time: the same bits
    for (int c = 0; c < k; ++c) {
      T alone;
      kernels.project(p.tile(r, 1), p.centre.data(), p.v.data() + c * padded<T>(d), 1, &alone);
      CHECK_EQ(alone, z[static_cast<std::size_t>(r * k + c)]);
    }
  }
  // A sum of m products rounds at most m + 4 times: error <= (m + 4) eps sum |terms|.
  const long double eps = std::numeric_limits<T>::epsilon();
  for (int r = 0; r < rows; ++r) {
    for (int c = 0; c < k; ++c) {
      long double sum = 0, size = 0;
      for (std::int64_t j = 0; j < d; ++j) {
        const long double term =
            p.centred(r, j) * p.v[static_cast<std::size_t>(c * padded<T>(d) + j)];
        sum += term;
        size += std::fabs(term);
      }
      CHECK_NEAR(static_cast<double>(z[static_cast<std::size_t>(r * k + c)]),
                 static_cast<double>(sum),
                 static_cast<double>((static_cast<long double>(d) + 4) * eps * size));
    }
  }
  for (int c = 0; c < k; ++c) {
    for (std::int64_t j = 0; j < d; ++j) {
      long double sum = 0.5L, size = 0.5L;
      for (int r = 0; r < rows; ++r) {
        const long double term = p.centred(r, j) * p.a[static_cast<std::size_t>(r * k + c)];
        sum += term;
        size += std::fabs(term);
      }
      CHECK_NEAR(static_cast<double>(y[static_cast<std::size_t>(c * padded<T>(d) + j)]),
                 static_cast<double>(sum),
                 static_cast<double>((static_cast<long double>(rows) + 4) * eps * size));
    }
  }
}

template <class T>
void check_all() {
  for (const std::int64_t d : {1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 48, 100, 130}) {
    for (const int k : {1, 2, 3, 5, 8, 13}) check_problem<T>(d, d < 40 ? 11 : 5, k);
  }
  for (const std::int64_t d : {700, 1024, 2601}) {  // V in parts
    for (const int k : {1, 2, 4, 11}) check_problem<T>(d, 7, k);
  }
}

}  // namespace

TEST_CASE(kernels_agree_in_every_bit_float32) { check_all<float>(); }
TEST_CASE(kernels_agree_in_every_bit_float64) { check_all<double>(); }

/// Rows judged by m cuts, against Grid, Cut and plain arithmetic.
template <class T>
void check_judging(int m) {
  using namespace tamis::detail;
  constexpr double inf = kInfinity;
  const int stride = m + 3;
  const int groups = (m + kLanes - 1) / kLanes;
  std::mt19937_64 generator(static_cast<std::uint64_t>(m));
  std::normal_distribution<double> normal;
  std::vector<Cut> cuts(static_cast<std::size_t>(m));
  std::vector<double> inverse;
  Aligned<CutLanes> lanes(static_cast<std::size_t>(groups));
  for (int j = 0; j < groups * kLanes; ++j) {
    CutLanes& group = lanes[static_cast<std::size_t>(j / kLanes)];
    const int i = j % kLanes;
    Cut cut;
    if (j < m) {
      cut.grid = {0.1 * normal(generator), 0.01 + 0.001 * j};
      cut.centre = 0.1 * normal(generator);
      if (j % 3 != 1) cut.lo = -4.0;
      if (j % 3 != 2) cut.hi = 4.0 + 0.25 * j;
      inverse.push_back(1.0 / (1.0 + 0.1 * j));
      cuts[static_cast<std::size_t>(j)] = cut;
    }
    group.used[i] = j < m ? -1 : 0;
    const bool bound = j < m && j % 2 == 0;
    group.lo_from[i] = bound ? cut.lo - 0.3 : inf;
    group.lo_to[i] = bound ? cut.lo + 0.2 : -inf;
    group.hi_from[i] = bound ? cut.hi - 0.2 : inf;
    group.hi_to[i] = bound ? cut.hi + 0.3 : -inf;
    group.lo[i] = cut.lo, group.hi[i] = cut.hi;
    group.origin[i] = cut.grid.origin, group.width[i] = cut.grid.width;
    group.centre[i] = cut.centre, group.inverse[i] = j < m ? inverse.back() : 0.0;
  }
  std::vector<T> z;
  const int rows = 400;
  for (int i = 0; i < rows * stride + kLanes; ++i) z.push_back(static_cast<T>(normal(generator)));
  const double odd[] = {inf,  -inf, std::nan(""), 1e30, -1e30, 10.24, -10.24, 4.0,
                        -4.0, -0.0, 5.5,          -7.5, 12.0,  -0.01, 0.01,   4.25};
  for (int r = 0; r < 200; ++r) {  // also beside the projections, where it must not matter
    z[static_cast<std::size_t>(r * stride + r % stride)] = static_cast<T>(odd[r % 16]);
  }
  for (int j = 0; j < m; ++j) {  // on the edges of bins
    const Grid& grid = cuts[static_cast<std::size_t>(j)].grid;
    z[static_cast<std::size_t>((200 + j) * stride + j)] = static_cast<T>(grid.edge(40 * j));
    z[static_cast<std::size_t>((250 + j) * stride + j)] = static_cast<T>(grid.origin);
  }
  std::vector<std::int32_t> bins(static_cast<std::size_t>(rows * groups * kLanes), -7);
  std::vector<Verdict> verdicts(static_cast<std::size_t>(rows));
  row_kernels<T>().judge(z.data(), stride, rows, lanes.data(), m, bins.data(), verdicts.data());
  int excluded = 0;
  for (int r = 0; r < rows; ++r) {
    int excluding = m;
    double worst = 0.0;
    std::uint64_t close = 0;
    for (int j = 0; j < m; ++j) {
      const Cut& cut = cuts[static_cast<std::size_t>(j)];
      const auto x = static_cast<double>(z[static_cast<std::size_t>(r * stride + j)]);
      CHECK_EQ(bins[static_cast<std::size_t>(r * groups * kLanes + j)], cut.grid.bin(x));
      if (!cut.keeps(x)) excluding = std::min(excluding, j);
      const bool near =
          (x >= cut.lo - 0.3 && x <= cut.lo + 0.2) || (x >= cut.hi - 0.2 && x <= cut.hi + 0.3);
      if (j % 2 == 0 && near) close |= std::uint64_t{1} << j;
      const double t = (x - cut.centre) * inverse[static_cast<std::size_t>(j)];
      worst = std::max(worst, std::isnan(t) ? inf : t * t);
    }
    const Verdict& got = verdicts[static_cast<std::size_t>(r)];
    CHECK_EQ(got.excluding, excluding);
    CHECK_EQ(got.worst, worst);
    CHECK_EQ(got.close, close);
    excluded += excluding < m;
  }
  CHECK(excluded > 0 && excluded < rows);
}

TEST_CASE(rows_are_judged_as_one_by_one) {
  for (const int m : {1, 3, 7, 8, 9, 16, 17}) {
    check_judging<float>(m);
    check_judging<double>(m);
  }
}

TEST_CASE(sums_move_to_float64_and_leave_zeros) {
  std::vector<float> y;
  std::vector<double> total;
  for (int j = 0; j < 37; ++j) {
    y.push_back(0.1f * static_cast<float>(j));
    total.push_back(1e9 + j);
  }
  const std::vector<float> before = y;
  tamis::detail::row_kernels<float>().move_sums(y.data(), 37, total.data());
  for (int j = 0; j < 37; ++j) {
    const auto i = static_cast<std::size_t>(j);
    CHECK_EQ(total[i], 1e9 + j + static_cast<double>(before[i]));
    CHECK_EQ(y[i], 0.0f);
  }
}

TEST_CASE(strides_avoid_common_cache_sets) {
  for (const std::int64_t d : {1, 16, 17, 512, 1024, 4096}) {
    CHECK(padded<float>(d) >= d);
    CHECK_EQ(padded<float>(d) / tamis::detail::kWide<float> % 2, 1);
  }
}

TEST_CASE(chunks_cover_the_rows_once) {
  for (const std::int64_t n : {1, 127, 128, 129, 8192, 8193, 100000, 123457}) {
    for (const std::int64_t bytes : {0, 1000, 50 << 20, 100 << 20}) {
      const tamis::detail::Chunks chunks(n, bytes);
      CHECK(chunks.rows % tamis::detail::kFlush == 0);
      CHECK(chunks.count * chunks.rows >= n && (chunks.count - 1) * chunks.rows < n);
      CHECK(chunks.count == 1 || chunks.count * bytes <= tamis::detail::kMaxChunkBytes);
    }
  }
}
