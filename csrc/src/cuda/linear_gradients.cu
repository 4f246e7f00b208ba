#include <algorithm>

#include "src/cuda/pack.cuh"
#include "src/cuda/product_parts.cuh"
#include "src/cuda/slot_sums.cuh"
#include "src/detail/linear_gradients_backend.hpp"
#include "src/detail/matrix_check.hpp"

namespace tamis::cuda {
namespace {

using detail::LinearGradientsTask;

constexpr int kThreads = 256;
constexpr std::int64_t kFactorBytes = std::int64_t{8} << 20;  // stay in the cache

/// What a call finds out about its data.
struct Status {
  unsigned bad_share;
  unsigned not_finite;
};

/// What a row counts in the sums: a^2; a; with a share s: s and s a; a^2 times its projections.
struct Columns {
  bool shared;
  int vectors;

  __host__ __device__ int front() const { return shared ? 4 : 2; }
  __host__ __device__ int count() const { return front() + vectors; }
};

/// Sums of numbers that go with the rows.
enum Total { kShare, kShared, kPlain, kSquares, kTotals };

/// Directions side by side, (d, k + 1), the model's coefficients first; and the intercept where
/// rows are about `near`.
template <class T>
__global__ void __launch_bounds__(kThreads)
    join_kernel(const double* coef, double intercept, const double* v, std::int64_t v_stride,
                std::int64_t d, int k, const T* near, double* block, double* at_near) {
  __shared__ double scratch[kWarp];
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t e = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
       e < d * (k + 1); e += step) {
    const std::int64_t j = e / (k + 1), c = e % (k + 1);
    block[e] = c == 0 ? coef[j] : v[j * v_stride + c - 1];
  }
  if (blockIdx.x > 0) return;
  double along = 0.0;
  for (std::int64_t j = threadIdx.x; j < d; j += blockDim.x) {
    along = mul_add(static_cast<double>(near[j]), coef[j], along);
  }
  along = block_sum(along, scratch);
  if (threadIdx.x == 0) *at_near = intercept + along;
}

/// From the projections of a row, first on the model's coefficients: its own coefficient and what
/// it counts.
template <class T>
struct MakeFactors {
  static constexpr bool kKeeps = false;
  Columns columns;
  double epsilon;
  const double* intercept;  ///< about the centre of the projections
  const double* y;
  const double* weights;  ///< or null
  const double* share;    ///< or null
  double* coefficients;
  T* factors;  ///< columns.count() a row

  __device__ void take(std::int64_t i, int first, int count, const T* z, int stride) const {
    T* to = factors + i * columns.count();
    T square = first > 0 ? to[0] : T(0);  // from there: registers are few
    for (int c = 0; c < count; ++c) {
      const T at = z[c * stride];
      if (first + c > 0) {
        to[columns.front() + first + c - 1] = square * at;
        continue;
      }
      const double residual = static_cast<double>(at) + *intercept - y[i];
      // What is added is 0, or NaN where the residual is not finite: clamped, that would not show.
      double a = fmin(fmax(residual, -epsilon), epsilon) + (residual - residual);
      if (weights != nullptr) a *= weights[i];
      coefficients[i] = a;
      square = static_cast<T>(a * a);
      to[0] = square;
      to[1] = static_cast<T>(a);
      if (share == nullptr) continue;
      to[2] = static_cast<T>(share[i]);
      to[3] = static_cast<T>(share[i] * a);
    }
  }
  __device__ void row(std::int64_t, const T*, T) const {}
  __device__ void tile(std::int64_t) const {}
  __device__ void finish() const {}
};

__global__ void __launch_bounds__(kThreads)
    totals_kernel(const double* coefficients, const double* share, std::int64_t n, BlockSums sums,
                  Status* status) {
  __shared__ double scratch[kWarp];
  const std::int64_t each = (n + gridDim.x - 1) / gridDim.x;
  const std::int64_t end = min(n, (blockIdx.x + 1) * each);
  double parts[kTotals] = {};
  bool bad = false;
  for (std::int64_t i = blockIdx.x * each + threadIdx.x; i < end; i += blockDim.x) {
    const double a = coefficients[i];
    const double s = share == nullptr ? 1.0 : share[i];
    bad = bad || !(s >= 0.0) || isinf(s);
    parts[kShare] += s;
    parts[kShared] = mul_add(s, a, parts[kShared]);
    parts[kPlain] += a;
    parts[kSquares] = mul_add(a, a, parts[kSquares]);
  }
  if (bad) atomicExch(&status->bad_share, 1u);
  double* slot = sums.mine();
#pragma unroll
  for (int which = 0; which < kTotals; ++which) {
    const double sum = block_sum(parts[which], scratch);
    if (threadIdx.x == 0) slot[which] = sum;
  }
  add_up(sums);
}

/// From sums about `near` to those about the mean: block c for column c of the product, the last
/// one for the rest. Behind the columns of `sums` is that of factors 1.
template <class T>
__global__ void __launch_bounds__(kThreads)
    finish_kernel(const double* sums, Columns columns, const double* totals, const T* near,
                  const double* v, std::int64_t v_stride, std::int64_t d, LinearGradients out,
                  Status* status) {
  __shared__ double scratch[kWarp];
  const double* by_square = sums;
  const double* by_a = sums + d;
  const double* by_share = sums + (columns.shared ? 2 : columns.count()) * d;
  const double* by_both = columns.shared ? by_share + d : by_a;
  const double share = totals[kShare];
  bool finite = true;
  const auto put = [&](double& to, double number) {
    to = number;
    finite = finite && isfinite(number);
  };
  const auto c = static_cast<int>(blockIdx.x);
  if (c == columns.vectors) {
    for (std::int64_t j = threadIdx.x; j < d; j += blockDim.x) {
      const double moved = by_share[j] / share;
      put(out.center[j], static_cast<double>(near[j]) + moved);
      put(out.sums[j], (by_both[j] - totals[kShared] * moved) / share);
      put(out.sums[d + j], by_a[j] - totals[kPlain] * moved);
      put(out.sums[2 * d + j], by_square[j] - totals[kSquares] * moved);
    }
  } else {
    double along = 0.0;   // of how far the mean is
    double square = 0.0;  // of the sum by a^2
    for (std::int64_t j = threadIdx.x; j < d; j += blockDim.x) {
      along = mul_add(by_share[j] / share, v[j * v_stride + c], along);
      square = mul_add(by_square[j], v[j * v_stride + c], square);
    }
    along = block_sum(along, scratch);
    square = block_sum(square, scratch);
    const double* image = sums + (columns.front() + c) * d;
    for (std::int64_t j = threadIdx.x; j < d; j += blockDim.x) {
      const double moved = by_share[j] / share;
      put(out.product[j * v_stride + c],
          image[j] - by_square[j] * along - moved * (square - totals[kSquares] * along));
    }
  }
  if (!finite) atomicExch(&status->not_finite, 1u);
}

/// Two reads of the rows: for their projections, which give coefficients and factors, and for the
/// sums by those.
template <class T>
class Look {
 public:
  Look(const LinearGradientsTask& task, const Call& call)
      : task_(task),
        call_(call),
        rows_(task.x, nullptr),
        near_(near_mean(rows_, call)),
        status_(1, call),
        at_near_(1, call) {
    status_.zero(1, call);
  }

  void run() {
    const int most = kProductColumns - Columns{task_.share != nullptr, 0}.front();
    for (std::int64_t first = 0; first < task_.k; first += most) {
      look(first, static_cast<int>(std::min<std::int64_t>(most, task_.k - first)));
    }
    const Status found = status_.numbers(call_)[0];
    if (found.bad_share == 0 && found.not_finite == 0) return;
    const std::int64_t n = rows_.count, d = rows_.d;
    fail_on_numbers("coef", task_.model.coef, d, call_);
    fail_on_numbers("v", task_.v, d * task_.k, call_);
    if (task_.share != nullptr) {
      const auto share = numbers_at(task_.share, n, call_);
      detail::check_weight_values(task_.op, share.data(), n, "center_weights");
    }
    fail_on_bad_row(rows_, call_);
    detail::fail_on_coefficients(task_, numbers_at(task_.out.coefficients, n, call_).data());
    fail_on_data(rows_, call_);
  }

 private:
  /// All results, with columns first .. first + k - 1 of v.
  void look(std::int64_t first, int k) {
    const std::int64_t n = rows_.count, d = rows_.d;
    const LinearModel& model = task_.model;
    const Columns columns{task_.share != nullptr, k};
    const double* v = task_.v + first;
    block_.reserve(static_cast<std::size_t>(d * (k + 1)), call_);
    const std::int64_t parts = (d * (k + 1) + kThreads - 1) / kThreads;
    join_kernel<T>
        <<<static_cast<unsigned>(std::min(parts, kMaxBlocks)), kThreads, 0, call_.stream>>>(
            model.coef, model.intercept, v, task_.k, d, k, near_.get(), block_.get(),
            at_near_.get());
    call_.launched();
    const Packed<T> packed = pack<T>(block_.get(), d, k + 1, k + 1, 1, nullptr, near_.get(), call_);

    const int count = columns.count();
    const Product<T> product{rows_, nullptr, near_.get(), nullptr, nullptr, count, 1, d};
    ProductShape shape = product_shape<T>(std::min(across_for<T>(d), kKnownAcross), count, false);
    const std::int64_t row_bytes = count * static_cast<std::int64_t>(sizeof(T));
    const std::int64_t most = std::min(
        n, std::max<std::int64_t>(kFactorBytes / row_bytes / kRowThreads, 1) * kRowThreads);
    const std::int64_t size = slot_size(d, count, true);
    const std::int64_t tiles = (most + shape.tile() - 1) / shape.tile();
    split_rows(shape, most,
               block_count(most * d * static_cast<std::int64_t>(sizeof(T)), 18 * size, tiles));
    const BlockSums slots = workspace_.block_sums(blocks_of(shape, most), size, call_);
    factors_.reserve(static_cast<std::size_t>(most * count), call_);
    for (std::int64_t begin = 0; begin < n; begin += most) {
      const std::int64_t rows = std::min(most, n - begin);
      const auto from = [&](auto* numbers) {
        return numbers == nullptr ? numbers : numbers + begin;
      };
      visit_rows(rows_.part(begin, rows), packed,
                 MakeFactors<T>{columns, model.epsilon, at_near_.get(), model.y + begin,
                                from(model.weights), from(task_.share),
                                task_.out.coefficients + begin, factors_.get()},
                 call_);
      sum_known(product, shape,
                KnownProjections<T>{factors_.get(), begin, begin + rows, begin > 0, count, 1},
                slots, call_);
    }
    const std::int64_t wanted = (count + 1) * d;  // the last column has factors 1
    sums_.reserve(static_cast<std::size_t>(wanted), call_);
    add_slots(slots, wanted, sums_.get(), &status_.get()->not_finite, call_);

    const std::int64_t blocks = std::clamp<std::int64_t>(n / (4 * kThreads), 1, kThreads);
    const BlockSums totals = totals_.block_sums(static_cast<int>(blocks), kTotals, call_);
    totals_kernel<<<static_cast<unsigned>(blocks), kThreads, 0, call_.stream>>>(
        task_.out.coefficients, task_.share, n, totals, status_.get());
    call_.launched();
    LinearGradients out = task_.out;
    out.product += first;
    finish_kernel<T><<<static_cast<unsigned>(k + 1), kThreads, 0, call_.stream>>>(
        sums_.get(), columns, totals.totals, near_.get(), v, task_.k, d, out, status_.get());
    call_.launched();
  }

  const LinearGradientsTask& task_;
  const Call& call_;
  DeviceRows<T> rows_;
  DeviceBuffer<T> near_;  ///< what rows are summed about
  DeviceBuffer<Status> status_;
  DeviceBuffer<double> at_near_;
  DeviceBuffer<double> block_;
  DeviceBuffer<T> factors_;
  DeviceBuffer<double> sums_;  ///< columns of d numbers
  Workspace workspace_, totals_;
};

}  // namespace

void linear_gradients(const LinearGradientsTask& task, const Exec& exec) {
  const DeviceGuard guard(exec, task.op);
  const Call call(task.op, exec);
  if (task.x.dtype == DType::float64) {
    Look<double>(task, call).run();
  } else {
    Look<float>(task, call).run();
  }
}

}  // namespace tamis::cuda
