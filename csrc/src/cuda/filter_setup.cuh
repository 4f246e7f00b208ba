// What iterative_filter does once: medians and distances of a few rows.
#pragma once

#include <utility>
#include <vector>

#include "src/cuda/rows.cuh"

namespace tamis::cuda {

/// Medians of a few columns over `rows.count` rows, by sorting. Shared: size * kColumns numbers.
template <class T>
struct MedianShape {
  static constexpr int kThreads = 256;
  static constexpr int kColumns = 32 / static_cast<int>(sizeof(T));  ///< one sector of each row
  int size = 1;  ///< a power of two, at least the number of rows

  explicit MedianShape(std::int64_t rows) {
    while (size < rows) size *= 2;
  }
  std::size_t bytes() const { return static_cast<std::size_t>(size) * kColumns * sizeof(T); }
};

/// As detail::quantile_of(0.5): NaN counts as infinity, the middle two are averaged.
template <class T>
__global__ void __launch_bounds__(MedianShape<T>::kThreads)
    median_kernel(DeviceRows<T> rows, int size, double* out) {
  extern __shared__ __align__(16) unsigned char memory[];
  constexpr int kColumns = MedianShape<T>::kColumns;
  T* values = reinterpret_cast<T*>(memory);  // value v of column c at v * kColumns + c
  const int c = static_cast<int>(threadIdx.x) % kColumns;
  const int lane = static_cast<int>(threadIdx.x) / kColumns;
  constexpr int kLanes = MedianShape<T>::kThreads / kColumns;
  const std::int64_t j = static_cast<std::int64_t>(blockIdx.x) * kColumns + c;
  const T infinity = static_cast<T>(__longlong_as_double(0x7ff0000000000000));
  for (int i = lane; i < size; i += kLanes) {
    T x = infinity;
    if (i < rows.count && j < rows.d) x = rows.data[rows.number(i) * rows.stride + j];
    values[i * kColumns + c] = isnan(x) ? infinity : x;
  }
  // Bitonic: runs of `run` numbers, alternately rising and falling, are merged at distance `step`.
  for (int run = 2; run <= size; run *= 2) {
    for (int step = run / 2; step > 0; step /= 2) {
      __syncthreads();
      for (int pair = lane; pair < size / 2; pair += kLanes) {
        const int low = pair / step * 2 * step + pair % step;
        T* a = values + low * kColumns + c;
        T* b = a + step * kColumns;
        const bool rising = (low & run) == 0;
        const T x = *a;
        const T y = *b;
        if (rising ? y < x : x < y) {
          *a = y;
          *b = x;
        }
      }
    }
  }
  __syncthreads();
  if (lane > 0 || j >= rows.d) return;
  const auto below = static_cast<int>((rows.count - 1) / 2);
  const auto a = static_cast<double>(values[below * kColumns + c]);
  double median = a;
  if (rows.count % 2 == 0) {
    const auto b = static_cast<double>(values[(below + 1) * kColumns + c]);
    median = b - (b - a) * 0.5;
  }
  out[j] = static_cast<double>(static_cast<T>(median));
}

/// Squared distances of a few rows, and weights and scores as they are at first: one launch.
template <class T>
struct SetupTask {
  const std::int64_t* first = nullptr;  ///< pairs of rows
  const std::int64_t* second = nullptr;
  std::int64_t pairs = 0;
  const std::int64_t* few = nullptr;  ///< rows whose distance from `centre` is wanted
  std::int64_t few_count = 0;
  const T* centre = nullptr;
  double* out = nullptr;     ///< distances of the pairs, then of the few
  std::int64_t to_fill = 0;  ///< weights (1) and scores (0)
  T* weights = nullptr;
  T* scores = nullptr;
};

/// A warp a distance.
template <class T>
__global__ void setup_kernel(DeviceRows<T> rows, SetupTask<T> task) {
  const std::int64_t thread = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const std::int64_t threads = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = thread / kWarp; i < task.pairs + task.few_count; i += threads / kWarp) {
    const bool pair = i < task.pairs;
    const T* a = rows.data + (pair ? task.first[i] : task.few[i - task.pairs]) * rows.stride;
    const T* b = pair ? rows.data + task.second[i] * rows.stride : task.centre;
    T sum = T(0);
#pragma unroll 4
    for (std::int64_t j = thread % kWarp; j < rows.d; j += kWarp) {
      const T x = a[j] - b[j];
      sum = mul_add(x, x, sum);
    }
#pragma unroll
    for (int half = kWarp / 2; half > 0; half /= 2) sum += __shfl_xor_sync(kAllLanes, sum, half);
    if (thread % kWarp == 0) task.out[i] = static_cast<double>(sum);
  }
  for (std::int64_t i = thread; i < task.to_fill; i += threads) {
    task.weights[i] = T(1);
    task.scores[i] = T(0);
  }
}

/// The few rows whose median is the origin, and distances of rows.
template <class T>
class FewRows {
 public:
  FewRows(const ConstMatrixView& x, T* weights, T* scores, const Call& call)
      : x_(x), weights_(weights), scores_(scores), call_(call) {}

  /// From now on about these rows.
  std::vector<double> medians(const std::vector<std::int64_t>& chosen) {
    chosen_ = chosen;
    index_ = DeviceBuffer<std::int64_t>(chosen, call_);
    const DeviceBuffer<double> out(static_cast<std::size_t>(x_.cols), call_);
    const MedianShape<T> shape(static_cast<std::int64_t>(chosen.size()));
    const std::int64_t blocks = (x_.cols + shape.kColumns - 1) / shape.kColumns;
    median_kernel<T>
        <<<static_cast<unsigned>(blocks), shape.kThreads, shape.bytes(), call_.stream>>>(
            DeviceRows<T>(x_, nullptr, index_.get(), static_cast<std::int64_t>(chosen.size())),
            shape.size, out.get());
    call_.launched();
    return out.numbers(call_);
  }

  /// Weights and scores are to be written by the next launch that can do so on the way.
  void begin(const std::vector<T>& origin) {
    about_ = origin;
    origin_ = DeviceBuffer<T>(origin, call_);
    fresh_ = true;
  }
  const T* origin() const { return origin_.get(); }
  void need_weights() {
    if (fresh_) run({});
  }

  std::vector<double> distances2(const std::vector<std::int64_t>& chosen,
                                 const std::vector<T>& centre) {
    if (chosen == chosen_ && centre == about_ && !from_origin_.empty()) return from_origin_;
    const DeviceBuffer<std::int64_t> few(chosen, call_);
    const DeviceBuffer<T> about(centre, call_);
    SetupTask<T> task;
    task.few = few.get();
    task.few_count = static_cast<std::int64_t>(chosen.size());
    task.centre = about.get();
    return run(task);
  }

  /// On the way: the distances of the few from the origin.
  std::vector<double> pair_distances2(const std::vector<std::int64_t>& first,
                                      const std::vector<std::int64_t>& second) {
    const DeviceBuffer<std::int64_t> a(first, call_);
    const DeviceBuffer<std::int64_t> b(second, call_);
    SetupTask<T> task;
    task.first = a.get();
    task.second = b.get();
    task.pairs = static_cast<std::int64_t>(first.size());
    task.few = index_.get();
    task.few_count = static_cast<std::int64_t>(index_.size());
    task.centre = origin_.get();
    std::vector<double> all = run(task);
    from_origin_.assign(all.begin() + task.pairs, all.end());
    all.resize(first.size());
    return all;
  }

 private:
  std::vector<double> run(SetupTask<T> task) {
    constexpr std::int64_t kThreads = 256;
    const std::int64_t count = task.pairs + task.few_count;
    const DeviceBuffer<double> out(static_cast<std::size_t>(count), call_);
    task.out = out.get();
    task.weights = weights_;
    task.scores = scores_;
    if (std::exchange(fresh_, false)) task.to_fill = x_.rows;
    const std::int64_t threads = std::max(count * kWarp, task.to_fill);
    const std::int64_t blocks = std::min((threads + kThreads - 1) / kThreads, 4 * kMaxBlocks);
    setup_kernel<T><<<static_cast<unsigned>(blocks), kThreads, 0, call_.stream>>>(
        DeviceRows<T>(x_, nullptr), task);
    call_.launched();
    return out.numbers(call_);
  }

  ConstMatrixView x_;
  T* weights_;
  T* scores_;
  Call call_;
  std::vector<std::int64_t> chosen_;
  DeviceBuffer<std::int64_t> index_;
  std::vector<T> about_;  ///< the origin
  DeviceBuffer<T> origin_;
  std::vector<double> from_origin_;
  bool fresh_ = false;  ///< weights and scores are yet to be written
};

}  // namespace tamis::cuda
