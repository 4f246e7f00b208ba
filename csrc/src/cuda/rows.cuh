// Rows of a matrix on the device, and what every operation on them needs.
#pragma once

#include <algorithm>
#include <cstdint>

#include "src/cuda/device_buffer.cuh"
#include "src/cuda/ordered_sums.cuh"
#include "tamis/views.hpp"

namespace tamis::cuda {

/// Rows of x, all of them or those that an index lists, with their weights.
template <class T>
struct DeviceRows {
  const T* data;
  std::int64_t stride;
  std::int64_t d;
  std::int64_t count;
  const std::int64_t* index;  ///< null: all
  const T* weights;           ///< by row number; null: ones

  DeviceRows(const ConstMatrixView& x, const void* row_weights,
             const std::int64_t* chosen = nullptr, std::int64_t chosen_count = 0)
      : data(static_cast<const T*>(x.data)),
        stride(x.row_stride),
        d(x.cols),
        count(chosen == nullptr ? x.rows : chosen_count),
        index(chosen),
        weights(static_cast<const T*>(row_weights)) {}

  /// Rows begin .. begin + size - 1 of these, numbered from 0 if there is no index.
  DeviceRows part(std::int64_t begin, std::int64_t size) const {
    DeviceRows out = *this;
    out.count = size;
    if (index != nullptr) {
      out.index += begin;
    } else {
      out.data += begin * stride;
      if (weights != nullptr) out.weights += begin;
    }
    return out;
  }
  /// Can rows be read `size` numbers at once, in 16-byte loads?
  template <int size>
  bool vectors() const {
    return d % size == 0 && stride % size == 0 && reinterpret_cast<std::uintptr_t>(data) % 16 == 0;
  }
  __device__ std::int64_t number(std::int64_t i) const { return index == nullptr ? i : index[i]; }
  __device__ T weight(std::int64_t number) const {
    return weights == nullptr ? T(1) : weights[number];
  }
};

/// Consecutive numbers from a 16-byte boundary, in 16-byte loads.
template <int size>
__device__ __forceinline__ void load_vector(const float* from, float (&to)[size]) {
#pragma unroll
  for (int i = 0; i < size; i += 4) {
    const float4 four = *reinterpret_cast<const float4*>(from + i);
    to[i] = four.x;
    to[i + 1] = four.y;
    to[i + 2] = four.z;
    to[i + 3] = four.w;
  }
}
template <int size>
__device__ __forceinline__ void load_vector(const double* from, double (&to)[size]) {
#pragma unroll
  for (int i = 0; i < size; i += 2) {
    const double2 two = *reinterpret_cast<const double2*>(from + i);
    to[i] = two.x;
    to[i + 1] = two.y;
  }
}

/// The same way back.
__device__ __forceinline__ void store_vector(float* to, const float (&from)[4]) {
  *reinterpret_cast<float4*>(to) = make_float4(from[0], from[1], from[2], from[3]);
}
__device__ __forceinline__ void store_vector(double* to, const double (&from)[2]) {
  *reinterpret_cast<double2*>(to) = make_double2(from[0], from[1]);
}

/// Two consecutive numbers from a boundary of both.
__device__ __forceinline__ void load_pair(const float* from, float (&to)[2]) {
  const float2 two = *reinterpret_cast<const float2*>(from);
  to[0] = two.x;
  to[1] = two.y;
}
__device__ __forceinline__ void load_pair(const double* from, double (&to)[2]) {
  load_vector(from, to);
}

inline constexpr std::int64_t kMaxBlocks = 1024;

/// Blocks for a pass over `bytes` of rows where each block moves `bytes_each` besides: so many that
/// this stays a ninth of the rows, but 4 MiB in any case.
inline int block_count(std::int64_t bytes, std::int64_t bytes_each, std::int64_t tiles) {
  const std::int64_t budget = std::max<std::int64_t>(bytes / 9, std::int64_t{4} << 20);
  const std::int64_t most = std::min(tiles, kMaxBlocks);
  return static_cast<int>(std::clamp<std::int64_t>(budget / std::max<std::int64_t>(bytes_each, 1),
                                                   1, std::max<std::int64_t>(most, 1)));
}

/// Memory that launches use one after another.
class Workspace {
 public:
  /// Room for the sums of so many blocks; `behind` more numbers follow the totals.
  BlockSums block_sums(int blocks, std::int64_t size, const Call& call, std::int64_t behind = 0) {
    if (tickets_.size() == 0) {
      tickets_ = DeviceBuffer<unsigned>(kMaxBlocks + 1, call);
      tickets_.zero(tickets_.size(), call);
    }
    int set_size = 1;
    if (blocks > kMaxAtOnce) {
      while (set_size * set_size < blocks) ++set_size;
    }
    BlockSums sums{nullptr, nullptr, nullptr, tickets_.get(), size, blocks, set_size};
    const std::int64_t sets = set_size > 1 ? sums.set_count() : 0;
    numbers_.reserve(static_cast<std::size_t>((blocks + sets + 1) * size + behind), call);
    sums.slots = numbers_.get();
    sums.sets = sums.slots + blocks * size;
    sums.totals = sums.sets + sets * size;
    return sums;
  }

 private:
  static constexpr int kMaxAtOnce = 16;
  DeviceBuffer<double> numbers_;
  DeviceBuffer<unsigned> tickets_;
};

/// d numbers near the mean of the rows: about them nothing is lost to cancellation.
template <class T>
DeviceBuffer<T> near_mean(const DeviceRows<T>& rows, const Call& call);

/// Says what is wrong with data whose sums came out as NaN or infinity: names the first row (of
/// weight > 0) that holds one, or else says that finite numbers overflow.
template <class T>
[[noreturn]] void fail_on_data(const DeviceRows<T>& rows, const Call& call);

/// The first part of that: returns if every number is finite.
template <class T>
void fail_on_bad_row(const DeviceRows<T>& rows, const Call& call);

/// Says which of these numbers is not finite; returns if all are, or there are none (null). For
/// failures: to look before would be one more wait.
void fail_on_numbers(const char* name, const double* numbers, std::int64_t count, const Call& call);

}  // namespace tamis::cuda
