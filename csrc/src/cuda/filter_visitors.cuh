// What iterative_filter makes of a row's projections: the visitors of its passes over X.
#pragma once

#include <cmath>
#include <vector>

#include "src/cuda/row_pass.cuh"
#include "src/detail/iterative_filter_backend.hpp"

namespace tamis::cuda {

using detail::kSlots;
inline constexpr double kOutsideBall = 1e6;  // severity of a row just outside

using Count = unsigned long long;  // of 2^-32 rows

/// As detail::units.
__device__ __forceinline__ Count units(double weight) {
  return static_cast<Count>(llround(weight * detail::kOne));
}

__device__ __forceinline__ bool negative(float x) { return (__float_as_uint(x) >> 31) != 0; }
__device__ __forceinline__ bool negative(double x) { return __double_as_longlong(x) < 0; }

/// A non-negative score in the type of the data; what does not fit becomes the largest number.
template <class T>
__device__ __forceinline__ T as_score(double score, T largest) {
  return score <= static_cast<double>(largest) ? static_cast<T>(score) : largest;
}

/// The numbers of a detail::Cut, and by which its direction scores.
struct CutNumbers {
  double centre, scale, lo, hi, grid_origin, grid_width;
  detail::CentreScale scored;

  CutNumbers(const detail::Cut& cut, const detail::CentreScale& by)
      : centre(cut.centre),
        scale(cut.scale),
        lo(cut.lo),
        hi(cut.hi),
        grid_origin(cut.grid.origin),
        grid_width(cut.grid.width),
        scored(by) {}
  __device__ bool keeps(double z) const { return z >= lo && z < hi; }
  /// As detail::Grid::bin.
  __device__ int bin(double z) const {
    const double position = floor((z - grid_origin) / grid_width) + (detail::kBins / 2 + 1);
    return position > detail::kBins + 1 ? detail::kBins + 1
           : position > 0.0             ? static_cast<int>(position)
                                        : 0;
  }
};

/// The sample, whose weights are wanted after every change.
struct Sample {
  const std::int64_t* rows;
  std::int64_t count;

  /// By all threads of one block that may read the weights.
  template <class T>
  __device__ void gather(const T* weights, double* out) const {
    for (std::int64_t i = threadIdx.x; i < count; i += blockDim.x) {
      out[i] = static_cast<double>(weights[rows[i]]);
    }
  }
};

/// What a change of weights did, in the slots of the blocks that made it.
struct ChangeSums {
  double moved = 0.0;
  double returned = 0.0;

  __device__ void note(double before, double after) {
    moved += fabs(after - before);
    returned += fmax(after - before, 0.0);
  }
};

/// The numbers of a detail::Ball.
struct BallNumbers {
  double radius2;
  double score;

  explicit BallNumbers(const detail::Ball& ball) : radius2(ball.radius2), score(ball.score) {}
  __host__ __device__ bool bounded() const { return radius2 < detail::kInfinity; }
  /// How far out a row is: beyond 1 it is outside. NaN counts as outside.
  __device__ double far(double distance2) const { return bounded() ? distance2 / radius2 : 0.0; }
};

/// Writes max_c or sum_c of ((z_c - centre_c) / scale_c)^2, at least what the ball says of the row;
/// the largest number where a projection overflowed.
template <class T>
struct ScoreWriter {
  T* scores;  ///< null: none are wanted
  T largest;
  BallNumbers ball;
  bool sums;

  __device__ T write(std::int64_t i, const T* z, std::int64_t stride, const CutNumbers* cuts,
                     int count, double distance2) const {
    const double far = ball.far(distance2);
    double total = far <= 1.0 ? 0.0 : ball.score * far;
    double check = 0.0;
    for (int c = 0; c < count; ++c) {
      const double t =
          (static_cast<double>(z[c * stride]) - cuts[c].scored.centre) / cuts[c].scored.scale;
      check += t;  // fmax() would hide a NaN
      total = sums ? total + t * t : fmax(total, t * t);
    }
    const T score = isfinite(check) ? as_score(total, largest) : largest;
    scores[i] = score;
    return score;
  }
};

// ---- projections of a few rows
// -------------------------------------------------------------------

/// out[c * count + i]: direction c of row i.
template <class T>
struct ProjectVisitor {
  static constexpr bool kKeeps = false;
  T* out;
  std::int64_t count;

  __device__ void take(std::int64_t i, int first, int columns, const T* z, int stride) const {
    for (int c = 0; c < columns; ++c) out[(first + c) * count + i] = z[c * stride];
  }
  __device__ void row(std::int64_t, const T*, T) const {}
  __device__ void tile(std::int64_t) const {}
  __device__ void finish() const {}
};

// ---- the rows that stay
// --------------------------------------------------------------------------

/// Weights become 0 or 1, scores severities; a score's sign says whether the row was in before. The
/// rows that stay are read again for their sums about the centre, in the same launch. A slot:
/// d sums, then those of squared distances, of rows, of |change|, of increases and of overflows.
template <class T>
struct SupportVisitor {
  static constexpr bool kKeeps = true;
  static constexpr int kExtra = 5;
  static constexpr int kRows = 8;  ///< summed in x's type
  DeviceRows<T> rows;
  const T* centre;
  const CutNumbers* cuts;
  int count;
  int across;  ///< threads side by side in the second reading, whole warps
  BallNumbers ball;
  T* weights;
  T* scores;
  T largest;
  Sample sample;  ///< its weights go behind the totals
  BlockSums sums;
  double square = 0.0;
  double mass = 0.0;
  double overflows = 0.0;
  ChangeSums change{};
  bool kept = false;
  bool first_tile = true;

  __device__ void row(std::int64_t i, const T* z, T distance2) {
    const auto distance = static_cast<double>(distance2);
    if (!isfinite(distance)) overflows += 1.0;
    const double far = ball.far(distance);
    kept = far <= 1.0;
    double severity = kept ? 0.0 : kOutsideBall * far;
    for (int c = 0; c < count; ++c) {
      const CutNumbers cut = cuts[c];
      const auto at = static_cast<double>(z[static_cast<std::int64_t>(c) * kRowThreads]);
      kept = kept && cut.keeps(at);
      severity = fmax(severity, fabs(at - cut.centre) / cut.scale);
    }
    if (kept) {
      square += distance;
      mass += 1.0;
    }
    const auto before = static_cast<double>(weights[i]);
    change.note(before, kept ? 1.0 : 0.0);
    const T size = as_score(severity, largest);
    scores[i] = before > 0.5 ? -size : size;
    weights[i] = kept ? T(1) : T(0);
  }

  __device__ void tile(std::int64_t first) {
    __shared__ bool stays[kRowThreads];
    __shared__ double parts[kRowThreads];
    stays[threadIdx.x] = kept && first + threadIdx.x < rows.count;
    __syncthreads();
    const int p = static_cast<int>(threadIdx.x) % across;
    const int lane = static_cast<int>(threadIdx.x) / across;
    const int lanes = kRowThreads / across;
    const T* x = rows.data + first * rows.stride;
    double* slot = sums.mine();
    for (std::int64_t j0 = 0; j0 < rows.d; j0 += across) {
      const std::int64_t j = j0 + p;
      double total = 0.0;
      if (j < rows.d) {
        const T about = centre[j];
#pragma unroll 1
        for (int r0 = lane; r0 < kRowThreads; r0 += lanes * kRows) {
          T part = T(0);
#pragma unroll
          for (int u = 0; u < kRows; ++u) {
            const int r = r0 + u * lanes;
            if (r < kRowThreads && stays[r]) part += x[r * rows.stride + j] - about;
          }
          total += static_cast<double>(part);
        }
      }
      if (lanes > 1) {
        parts[threadIdx.x] = total;
        __syncthreads();
        for (int other = 1; lane == 0 && other < lanes; ++other) total += parts[other * across + p];
        __syncthreads();
      }
      if (lane == 0 && j < rows.d) slot[j] = first_tile ? total : slot[j] + total;
    }
    first_tile = false;
    kept = false;
  }

  __device__ void finish() {
    __shared__ double scratch[kWarp];
    square = block_sum(square, scratch);
    mass = block_sum(mass, scratch);
    const double moved = block_sum(change.moved, scratch);
    const double returned = block_sum(change.returned, scratch);
    overflows = block_sum(overflows, scratch);
    if (threadIdx.x == 0) {
      double* slot = sums.mine() + rows.d;
      slot[0] = square;
      slot[1] = mass;
      slot[2] = moved;
      slot[3] = returned;
      slot[4] = overflows;
    }
    if (add_up(sums)) sample.gather(weights, sums.totals + sums.size);
  }
};

// ---- histograms
// ----------------------------------------------------------------------------------

/// Counts a row in every histogram if it is in every interval, else in the first that excludes it.
/// A slot: per warp and direction, sums of (z - origin)^2 below and above the grid.
template <class T>
struct HistogramVisitor {
  static constexpr bool kKeeps = true;
  static constexpr int kWarps = kRowThreads / kWarp;
  const CutNumbers* cuts;
  int count;
  BallNumbers ball;
  const T* weights;  ///< null: each row counts 1
  ScoreWriter<T> score;
  Count* bins;  ///< count * kSlots, zero before
  BlockSums sums;
  const T* z = nullptr;
  Count amount = 0;
  int excluding = 0;
  bool first_tile = true;

  __device__ void row(std::int64_t i, const T* projections, T distance2) {
    const auto distance = static_cast<double>(distance2);
    if (score.scores != nullptr) {
      score.write(i, projections, kRowThreads, cuts, count, distance);
    }
    if (ball.bounded() && !(distance <= ball.radius2)) return;
    amount = units(weights == nullptr ? 1.0 : static_cast<double>(weights[i]));
    z = projections;
    excluding = 0;
    while (excluding < count && cuts[excluding].keeps(at(excluding))) ++excluding;
  }

  __device__ void tile(std::int64_t) {
    double* slot = sums.mine() + threadIdx.x / kWarp * 2 * count;  // this warp's
    const bool leads = threadIdx.x % kWarp == 0;
    for (int c = 0; c < count; ++c) {
      double below = 0.0;
      double above = 0.0;
      if (amount > 0 && (excluding == count || excluding == c)) {
        const CutNumbers cut = cuts[c];
        const double position = at(c);
        const int bin = cut.bin(position);
        atomicAdd(bins + static_cast<std::int64_t>(c) * kSlots + bin, amount);
        const double offset = position - cut.grid_origin;
        const double square = static_cast<double>(amount) / detail::kOne * offset * offset;
        if (bin == 0) below = square;
        if (bin == kSlots - 1) above = square;
      }
      const bool any = __any_sync(kAllLanes, below > 0.0 || above > 0.0) != 0;
      if (any) {
        below = warp_sum(below);
        above = warp_sum(above);
      }
      if (leads && (any || first_tile)) {
        slot[2 * c] = first_tile ? below : slot[2 * c] + below;
        slot[2 * c + 1] = first_tile ? above : slot[2 * c + 1] + above;
      }
    }
    first_tile = false;
    amount = 0;
  }

  __device__ void finish() { add_up(sums); }

 private:
  __device__ double at(int c) const {
    return static_cast<double>(z[static_cast<std::int64_t>(c) * kRowThreads]);
  }
};

// ---- scores
// --------------------------------------------------------------------------------------

/// Scores all rows.
template <class T>
struct ScoreVisitor {
  static constexpr bool kKeeps = true;
  const CutNumbers* cuts;
  int count;
  ScoreWriter<T> score;
  const T* weights;
  Count* top;  ///< bits of the largest score of a row with weight, as a double; zero before
  double highest = 0.0;

  __device__ void row(std::int64_t i, const T* z, T distance2) {
    const T written = score.write(i, z, kRowThreads, cuts, count, static_cast<double>(distance2));
    if (weights[i] > T(0)) highest = fmax(highest, static_cast<double>(written));
  }
  __device__ void tile(std::int64_t) const {}
  __device__ void finish() const {
    // Bits of non-negative numbers sort like the numbers.
    double x = highest;
#pragma unroll
    for (int half = kWarp / 2; half > 0; half /= 2) {
      x = fmax(x, __shfl_xor_sync(kAllLanes, x, half));
    }
    if (threadIdx.x % kWarp == 0) atomicMax(top, static_cast<Count>(__double_as_longlong(x)));
  }
};

}  // namespace tamis::cuda
