// Passes of iterative_filter over weights and scores alone: the budget, and the soft rules.
#pragma once

#include <vector>

#include "src/cuda/filter_visitors.cuh"

namespace tamis::cuda {

/// As detail::uniform_hash.
__device__ __forceinline__ double uniform_of(std::uint64_t seed, std::uint64_t stream,
                                             std::uint64_t index) {
  constexpr std::uint64_t golden = 0x9E3779B97F4A7C15u;
  std::uint64_t z = seed * golden + (stream + 1) * 0xD1B54A32D192ED03u + (index + 1) * golden;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  z ^= z >> 31;
  return static_cast<double>(z >> 11) * 0x1p-53;
}

__device__ __forceinline__ Count bits_of(float x) { return __float_as_uint(fabsf(x)); }
__device__ __forceinline__ Count bits_of(double x) {
  return static_cast<Count>(__double_as_longlong(fabs(x)));
}

/// Weights, severities, and what is asked of a row.
template <class T>
struct RowMass {
  enum class Kind : std::uint8_t {
    lost,     ///< 1 for a row without weight
    alive,    ///< 1 for a row with weight
    dropped,  ///< what `how` takes off the full weight
  };
  Kind kind;
  T* weights;
  const T* scores;
  detail::Reweighting how;

  __device__ T new_weight(std::int64_t i) const {
    const auto tau = static_cast<double>(scores[i]);
    if (how.rule == FilterOptions::Rule::fixed_fraction) {
      return tau >= how.bound ? T(0) : weights[i];
    }
    const double survive = pow(fmin(fmax(1.0 - tau / how.top, 0.0), 1.0), how.power);
    if (how.rule == FilterOptions::Rule::soft) {
      return static_cast<T>(static_cast<double>(weights[i]) * survive);
    }
    const double u = uniform_of(how.seed, how.stream, static_cast<std::uint64_t>(i));
    return u < survive ? weights[i] : T(0);
  }
  __device__ double mass(std::int64_t i) const {
    if (kind == Kind::dropped) return 1.0 - static_cast<double>(new_weight(i));
    return (weights[i] > T(0)) == (kind == Kind::alive) ? 1.0 : 0.0;
  }
};

/// Rows up to a severity: those below `key`, and of those at it the ones up to `last`.
struct Threshold {
  Count key = 0;
  std::int64_t last = -1;

  template <class T>
  __device__ bool includes(T severity, std::int64_t i) const {
    const Count bits = bits_of(severity);
    return bits < key || (bits == key && i <= last);
  }
};

inline constexpr int kDigit = 8;
inline constexpr int kDigits = 1 << kDigit;

/// One digit of a radix search over (severity, row): masses of the rows that share the digits
/// above. With `by_row` the severity is known to be `key`, and the digits are those of the row
/// number.
template <class T>
__global__ void __launch_bounds__(kDigits)
    digit_kernel(std::int64_t n, RowMass<T> rows, bool by_row, Count key, Count prefix, int shift,
                 Count* out) {
  __shared__ Count sums[kDigits];
  sums[threadIdx.x] = 0;
  __syncthreads();
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < n;
       i += step) {
    const Count severity = bits_of(rows.scores[i]);
    const Count bits = by_row ? static_cast<Count>(i) : severity;
    const Count above = shift + kDigit < 64 ? bits >> (shift + kDigit) : 0;
    if (above != prefix || (by_row && severity != key)) continue;
    const Count part = units(rows.mass(i));
    if (part > 0) atomicAdd(sums + ((bits >> shift) & (kDigits - 1)), part);
  }
  __syncthreads();
  if (sums[threadIdx.x] > 0) atomicAdd(out + threadIdx.x, sums[threadIdx.x]);
}

/// Slot: the sum of the new weights.
template <class T>
__global__ void new_mass_kernel(std::int64_t n, RowMass<T> rows, BlockSums sums) {
  __shared__ double scratch[kWarp];
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  double mass = 0.0;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < n;
       i += step) {
    mass += static_cast<double>(rows.new_weight(i));
  }
  mass = block_sum(mass, scratch);
  if (threadIdx.x == 0) *sums.mine() = mass;
  add_up(sums);
}

/// Sets the weights: to what the rule says, or (`lost`) back to 1 for rows that must return. Slot:
/// sums of |change| and of increases; the weights of the sample go behind the totals.
template <class T>
__global__ void set_weights_kernel(std::int64_t n, RowMass<T> rows, bool limited,
                                   Threshold threshold, Sample sample, BlockSums sums) {
  __shared__ double scratch[kWarp];
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  const bool hard = rows.kind == RowMass<T>::Kind::lost;
  ChangeSums change;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < n;
       i += step) {
    const T severity = rows.scores[i];
    const T before = hard ? (negative(severity) ? T(1) : T(0)) : rows.weights[i];
    T next = hard ? rows.weights[i] : rows.new_weight(i);
    if (limited && next < T(1) && threshold.includes(severity, i)) next = T(1);
    change.note(static_cast<double>(before), static_cast<double>(next));
    rows.weights[i] = next;
  }
  const double moved = block_sum(change.moved, scratch);
  const double returned = block_sum(change.returned, scratch);
  if (threadIdx.x == 0) {
    sums.mine()[0] = moved;
    sums.mine()[1] = returned;
  }
  if (add_up(sums)) sample.gather(rows.weights, sums.totals + sums.size);
}

/// Masses of the alive rows by octaves of tau / top.
template <class T>
__global__ void tau_kernel(std::int64_t n, RowMass<T> rows, double top, Count* out) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < n;
       i += step) {
    if (!(rows.weights[i] > T(0))) continue;
    const double share = fmax(static_cast<double>(rows.scores[i]) / top, 0x1p-60);
    const double position = floor(detail::kOctaveBins * log2(share));
    const double bin = fmin(fmax(position + detail::kTauBins, 0.0), detail::kTauBins - 1.0);
    atomicAdd(out + static_cast<int>(bin), units(static_cast<double>(rows.weights[i])));
  }
}

/// The least severe rows whose masses first add up to what `wanted` says of all masses. A radix
/// search over the bits of the severities (non-negative floats sort like their bits), ties in row
/// order: sums are of integers, so no order of additions matters.
template <class T, class Wanted>
Threshold select(std::int64_t n, const RowMass<T>& rows, const Wanted& wanted, const Call& call,
                 bool break_ties = true) {
  DeviceBuffer<Count> sums(kDigits, call);
  Count left = 0;
  const auto search = [&](bool by_row, Count key, int bits) {
    Count prefix = 0;
    for (int shift = (bits + kDigit - 1) / kDigit * kDigit - kDigit; shift >= 0; shift -= kDigit) {
      sums.zero(kDigits, call);
      const std::int64_t blocks = std::clamp<std::int64_t>(n / (4 * kDigits), 1, kMaxBlocks);
      digit_kernel<T><<<static_cast<unsigned>(blocks), kDigits, 0, call.stream>>>(
          n, rows, by_row, key, prefix, shift, sums.get());
      call.launched();
      const std::vector<Count> found = sums.numbers(call);
      if (!by_row && prefix == 0 && shift + kDigit >= bits) {  // the first look: at all rows
        Count all = 0;
        for (const Count one : found) all += one;
        const double mass = wanted(static_cast<double>(all) / detail::kOne);
        left = static_cast<Count>(std::llround(std::max(mass, 0.0) * detail::kOne));
      }
      std::size_t digit = 0;
      while (digit + 1 < found.size() && found[digit] < left) left -= found[digit++];
      prefix = prefix << kDigit | digit;
    }
    return prefix;
  };
  Threshold threshold;
  threshold.key = search(false, 0, 8 * static_cast<int>(sizeof(T)));
  if (left == 0 || !break_ties) return threshold;
  int bits = 1;
  while (n >> bits > 0) ++bits;
  threshold.last = static_cast<std::int64_t>(search(true, threshold.key, bits));
  return threshold;
}

}  // namespace tamis::cuda
