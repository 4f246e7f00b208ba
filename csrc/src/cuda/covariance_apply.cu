#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>
#include <vector>

#include "src/cuda/many_product.cuh"
#include "src/cuda/pack.cuh"
#include "src/cuda/product_kernel.cuh"
#include "src/detail/covariance_apply_backend.hpp"
#include "src/detail/matrix_check.hpp"

namespace tamis::cuda {
namespace {

// ---- a shift near the mean
// -----------------------------------------------------------------------

constexpr int kNearWarps = 8;
constexpr std::int64_t kLook = 256;  // rows, as on the CPU

/// A warp has 32 columns of every eighth row that is looked at.
template <class T>
__global__ void __launch_bounds__(kNearWarps* kWarp) near_mean_kernel(DeviceRows<T> rows, T* out) {
  __shared__ double sums[kNearWarps][kWarp];
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const std::int64_t j = static_cast<std::int64_t>(blockIdx.x) * kWarp + lane;
  const std::int64_t step = rows.count / kLook > 1 ? rows.count / kLook : 1;
  double sum = 0.0;
  double seen = 0.0;
  for (std::int64_t i = warp * step; i < rows.count; i += kNearWarps * step) {
    const std::int64_t number = rows.number(i);
    const T w = rows.weight(number);
    if (!(w > T(0)) || j >= rows.d) continue;
    sum = mul_add(static_cast<double>(w), static_cast<double>(rows.data[number * rows.stride + j]),
                  sum);
    seen += static_cast<double>(w);
  }
  sums[warp][lane] = sum;
  __syncthreads();
  if (warp == 0) {
    for (int other = 1; other < kNearWarps; ++other) sum += sums[other][lane];
  }
  __syncthreads();
  sums[warp][lane] = seen;
  __syncthreads();
  if (warp > 0 || j >= rows.d) return;
  for (int other = 1; other < kNearWarps; ++other) seen += sums[other][lane];
  const T near = static_cast<T>(seen > 0.0 ? sum / seen : 0.0);
  out[j] = isfinite(near) ? near : T(0);
}

// ---- what is wrong with the data
// -----------------------------------------------------------------

constexpr unsigned long long kNone = std::numeric_limits<unsigned long long>::max();

/// A warp a row. Only after a failure: `first` becomes the least i * d + j that is not finite.
template <class T>
__global__ void bad_number_kernel(DeviceRows<T> rows, unsigned long long* first) {
  const std::int64_t warps = static_cast<std::int64_t>(gridDim.x) * (blockDim.x / kWarp);
  std::int64_t i =
      static_cast<std::int64_t>(blockIdx.x) * (blockDim.x / kWarp) + threadIdx.x / kWarp;
  for (; i < rows.count; i += warps) {
    const std::int64_t number = rows.number(i);
    if (!(rows.weight(number) > T(0))) continue;
    for (std::int64_t j = threadIdx.x % kWarp; j < rows.d; j += kWarp) {
      if (isfinite(rows.data[number * rows.stride + j])) continue;
      atomicMin(first, static_cast<unsigned long long>(i * rows.d + j));
      break;
    }
  }
}

// ---- the product
// ---------------------------------------------------------------------------------

constexpr std::int64_t kSlotBytes = std::int64_t{64} << 20;  // of two reads
constexpr std::int64_t kProjectionBytes = std::int64_t{32} << 20;

/// Lays out one read of the rows by blocks that each leave a slot.
template <class Shape, class T>
BlockSums split(Shape& shape, const Product<T>& product, Workspace& workspace, const Call& call) {
  const std::int64_t n = product.rows.count;
  const std::int64_t size = slot_size(product.rows.d, product.k, product.mean == nullptr);
  const std::int64_t tiles = (n + shape.tile() - 1) / shape.tile();
  const std::int64_t bytes = n * product.rows.d * static_cast<std::int64_t>(sizeof(T));
  split_rows(shape, n, block_count(bytes, 18 * size, tiles));
  return workspace.block_sums(blocks_of(shape, n), size, call);
}

template <class T>
void one_read(const Product<T>& product, ProductStatus* status, Workspace& workspace,
              const Call& call) {
  const std::int64_t d = product.rows.d;
  if constexpr (std::is_same_v<T, float>) {
    if (many_product_fits(d, product.k)) {
      ManyShape shape(d, product.k);
      const BlockSums sums = split(shape, product, workspace, call);
      return launch_many_product(product, shape, sums, status, call);
    }
  }
  ProductShape shape = product_shape<T>(across_for<T>(d), static_cast<int>(product.k), true);
  const BlockSums sums = split(shape, product, workspace, call);
  launch_product<T, ProductWork::all>(product, shape, KnownProjections<T>{}, sums,
                                      dim3(static_cast<unsigned>(sums.blocks)), status, call);
}

/// Keeps the projections of the rows: k a row.
template <class T>
struct KeepProjections {
  static constexpr bool kKeeps = false;
  T* z;
  const T* offset;
  int k;

  __device__ void take(std::int64_t i, int first, int columns, const T* numbers, int stride) const {
    for (int c = 0; c < columns; ++c) {
      z[i * k + first + c] = numbers[c * stride] + offset[first + c];
    }
  }
  __device__ void row(std::int64_t, const T*, T) const {}
  __device__ void tile(std::int64_t) const {}
  __device__ void finish() const {}
};

__global__ void add_slots_kernel(BlockSums sums) {
  const std::int64_t e = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (e >= sums.size) return;
  double sum = 0.0;
  for (int b = 0; b < sums.blocks; ++b) sum += sums.slots[b * sums.size + e];
  sums.totals[e] = sum;
}

template <class T>
__global__ void __launch_bounds__(kProductThreads, 1)
    finish_kernel(Product<T> product, BlockSums sums, ProductStatus* status) {
  __shared__ double along[kProductColumns];
  finish_product(product, sums.totals, along, status);
}

/// For wide rows: projections first, then sums, a few rows at a time.
template <class T>
void two_reads(const Product<T>& product, ProductStatus* status, Workspace& workspace,
               const Call& call) {
  constexpr std::int64_t kMaxSlots = 64;
  const std::int64_t n = product.rows.count;
  const std::int64_t d = product.rows.d;
  ProductShape shape = product_shape<T>(std::min(across_for<T>(d), kKnownAcross),
                                        static_cast<int>(product.k), false);
  const std::int64_t size = slot_size(d, shape.k, product.mean == nullptr);
  const std::int64_t slots = std::clamp<std::int64_t>(kSlotBytes / (8 * size), 1, kMaxSlots);
  const std::int64_t row_bytes = shape.k * static_cast<std::int64_t>(sizeof(T));
  const std::int64_t most = std::min(
      n, std::max(kProjectionBytes / row_bytes / kRowThreads, std::int64_t{1}) * kRowThreads);
  split_rows(shape, most, static_cast<int>(slots));
  const BlockSums sums = workspace.block_sums(blocks_of(shape, most), size, call);
  const Packed<T> packed = pack<T>(product.v, d, product.k, product.element_stride,
                                   product.vector_stride, product.mean, product.near, call);
  const DeviceBuffer<T> z(static_cast<std::size_t>(most * product.k), call);
  for (std::int64_t begin = 0; begin < n; begin += most) {
    const std::int64_t count = std::min(most, n - begin);
    visit_rows(product.rows.part(begin, count), packed,
               KeepProjections<T>{z.get(), packed.offset.get(), shape.k}, call);
    const KnownProjections<T> known{z.get(), begin, begin + count, begin > 0, shape.k, 1};
    sum_known(product, shape, known, sums, call, status);
  }
  constexpr int kAddThreads = 256;
  add_slots_kernel<<<static_cast<unsigned>((size + kAddThreads - 1) / kAddThreads), kAddThreads, 0,
                     call.stream>>>(sums);
  call.launched();
  finish_kernel<T><<<1, kProductThreads, 0, call.stream>>>(product, sums, status);
  call.launched();
}

template <class T>
void run(const detail::CovarianceTask& task, const Call& call) {
  const DeviceRows<T> rows(task.x, task.weights.data, task.index, task.count);
  const std::int64_t d = task.x.cols;
  DeviceBuffer<T> near;
  if (task.mean == nullptr) near = near_mean(rows, call);
  Workspace workspace;
  DeviceBuffer<ProductStatus> status(1, call);
  status.zero(1, call);
  weighted_product(Product<T>{rows, task.mean, near.get(), task.v, task.y, task.k,
                              task.element_stride, task.vector_stride},
                   status.get(), workspace, call);
  const ProductStatus found = status.numbers(call)[0];
  if (found.fine()) return;
  fail_on_weights(rows.weights, task.x.rows, call);
  fail_on_numbers("v", task.v, d * task.k, call);
  fail_on_numbers("mean", task.mean, d, call);
  fail_on_data(rows, call);
}

}  // namespace

template <class T>
DeviceBuffer<T> near_mean(const DeviceRows<T>& rows, const Call& call) {
  DeviceBuffer<T> out(static_cast<std::size_t>(rows.d), call);
  const std::int64_t blocks = (rows.d + kWarp - 1) / kWarp;
  near_mean_kernel<T>
      <<<static_cast<unsigned>(blocks), kNearWarps * kWarp, 0, call.stream>>>(rows, out.get());
  call.launched();
  return out;
}

template <class T>
void fail_on_bad_row(const DeviceRows<T>& rows, const Call& call) {
  constexpr int kThreads = 256;
  const DeviceBuffer<unsigned long long> first(std::vector<unsigned long long>{kNone}, call);
  const std::int64_t blocks =
      std::min((rows.count * kWarp + kThreads - 1) / kThreads, 8 * kMaxBlocks);
  bad_number_kernel<T>
      <<<static_cast<unsigned>(std::max<std::int64_t>(blocks, 1)), kThreads, 0, call.stream>>>(
          rows, first.get());
  call.launched();
  const unsigned long long at = first.numbers(call)[0];
  if (at == kNone) return;
  const auto i = static_cast<std::int64_t>(at) / rows.d;
  const auto j = static_cast<std::int64_t>(at) % rows.d;
  std::int64_t number = i;
  if (rows.index != nullptr) number = numbers_at(rows.index + i, 1, call)[0];
  const T value = numbers_at(rows.data + number * rows.stride + j, 1, call)[0];
  const char* what = std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
  throw NonFiniteError(detail::text("[", call.op, "] X: expected finite values, got ", what,
                                    " in row ", number, ", column ", j),
                       number);
}

template <class T>
void fail_on_data(const DeviceRows<T>& rows, const Call& call) {
  fail_on_bad_row(rows, call);
  throw NonFiniteError(
      detail::text("[", call.op, "] X: expected values whose squares can be summed in ",
                   sizeof(T) == 4 ? "float32" : "float64", ": rescale the data"),
      -1);
}

template <class T>
void fail_on_weights(const T* weights, std::int64_t n, const Call& call) {
  if (weights == nullptr) return;
  const std::vector<T> host = numbers_at(weights, n, call);
  detail::check_weight_values(call.op, host.data(), n);
}

void fail_on_numbers(const char* name, const double* numbers, std::int64_t count,
                     const Call& call) {
  if (numbers == nullptr) return;
  detail::check_finite(call.op, name, numbers_at(numbers, count, call).data(), count, Exec{});
}

template <class T>
void sum_known(const Product<T>& product, const ProductShape& shape,
               const KnownProjections<T>& known, const BlockSums& sums, const Call& call,
               ProductStatus* status) {
  const std::int64_t width = shape.width<T>();
  const dim3 grid(static_cast<unsigned>(sums.blocks),
                  static_cast<unsigned>((product.rows.d + width - 1) / width));
  launch_product<T, ProductWork::second>(product, shape, known, sums, grid, status, call);
}

template <class T>
void weighted_product(const Product<T>& product, ProductStatus* status, Workspace& workspace,
                      const Call& call) {
  constexpr std::int64_t kMost = kProductColumns;
  const int across = across_for<T>(product.rows.d);
  const std::int64_t slices = std::min<std::int64_t>(kProductThreads / across, kMost / kSlice);
  const auto reads = [&](std::int64_t columns) { return (product.k + columns - 1) / columns; };
  const bool one = slices > 0 && reads(slices * kSlice) <= 2 * reads(kMost);
  const std::int64_t columns = one ? slices * kSlice : kMost;
  for (std::int64_t c = 0; c < product.k; c += columns) {
    Product<T> part = product;
    part.v += c * product.vector_stride;
    part.y += c * product.vector_stride;
    part.k = std::min(columns, product.k - c);
    if (one) {
      one_read(part, status, workspace, call);
    } else {
      two_reads(part, status, workspace, call);
    }
  }
}

#define TAMIS_INSTANTIATE(T)                                                                  \
  template DeviceBuffer<T> near_mean(const DeviceRows<T>&, const Call&);                      \
  template void fail_on_bad_row(const DeviceRows<T>&, const Call&);                           \
  template void fail_on_data(const DeviceRows<T>&, const Call&);                              \
  template void fail_on_weights(const T*, std::int64_t, const Call&);                         \
  template void sum_known(const Product<T>&, const ProductShape&, const KnownProjections<T>&, \
                          const BlockSums&, const Call&, ProductStatus*);                     \
  template void weighted_product(const Product<T>&, ProductStatus*, Workspace&, const Call&);
TAMIS_INSTANTIATE(float)
TAMIS_INSTANTIATE(double)
#undef TAMIS_INSTANTIATE

void covariance_apply(const detail::CovarianceTask& task, const Exec& exec) {
  const DeviceGuard guard(exec, task.op);
  const Call call(task.op, exec);
  if (task.x.dtype == DType::float64) {
    run<double>(task, call);
  } else {
    run<float>(task, call);
  }
}

}  // namespace tamis::cuda
