#include <algorithm>

#include "src/cuda/moments.cuh"
#include "src/cuda/pack.cuh"
#include "src/detail/matrix_check.hpp"
#include "src/detail/projection_scores_backend.hpp"

namespace tamis::cuda {
namespace {

/// Adds up squares of projections.
template <class T>
struct SumSquares {
  static constexpr bool kKeeps = false;
  T* scores;
  const T* offset;
  unsigned* not_finite;
  T sum = T(0);
  bool bad = false;

  __device__ void take(std::int64_t, int first, int count, const T* z, int stride) {
    for (int c = 0; c < count; ++c) {
      const T at = z[c * stride] + offset[first + c];
      sum = mul_add(at, at, sum);
    }
  }
  __device__ void row(std::int64_t i, const T*, T) {
    scores[i] = sum;
    bad = bad || !isfinite(sum);
  }
  __device__ void tile(std::int64_t) { sum = T(0); }
  __device__ void finish() {
    if (__syncthreads_or(bad) && threadIdx.x == 0) atomicExch(not_finite, 1u);
  }
};

template <class T>
void run(const detail::ProjectionTask& task, const Call& call) {
  const DeviceRows<T> rows(task.x, nullptr);
  const std::int64_t d = rows.d;
  DeviceBuffer<double> own;
  const double* mean = task.mean;
  if (mean == nullptr) {
    Workspace workspace;
    own = mean_of(rows, workspace, call);
    mean = own.get();
  }
  const Packed<T> packed =
      pack<T>(task.v, d, task.k, task.k, 1, mean, static_cast<const T*>(nullptr), call);
  DeviceBuffer<unsigned> flag(1, call);
  flag.zero(1, call);
  const SumSquares<T> visitor{static_cast<T*>(task.scores.data), packed.offset.get(), flag.get()};
  visit_rows(rows, packed, visitor, call);
  if (flag.numbers(call)[0] == 0) return;
  fail_on_numbers("v", task.v, d * task.k, call);
  fail_on_numbers("mean", task.mean, d, call);
  fail_on_data(rows, call);
}

}  // namespace

void projection_scores(const detail::ProjectionTask& task, const Exec& exec) {
  constexpr const char* op = "projection_scores";
  const DeviceGuard guard(exec, op);
  const Call call(op, exec);
  if (task.x.dtype == DType::float64) {
    run<double>(task, call);
  } else {
    run<float>(task, call);
  }
}

}  // namespace tamis::cuda
