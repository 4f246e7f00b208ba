// Sums over rows of w (x - c) (x - c)^T V: the product that covariance_apply, power_iteration and
// iterative_filter are made of.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#include "src/cuda/rows.cuh"
#include "src/detail/block_krylov.hpp"

namespace tamis::cuda {

/// What a product has found out about its data, in device memory.
struct ProductStatus {
  double weight;        ///< sum of the weights
  unsigned bad_weight;  ///< not 0: one is negative or not finite
  unsigned not_finite;  ///< not 0: so is the product

  bool fine() const { return bad_weight == 0 && not_finite == 0 && weight > 0.0; }
};

/// y = sum_i w_i (x_i - mu) (x_i - mu)^T v / sum w. All pointers are the device's.
template <class T>
struct Product {
  DeviceRows<T> rows;
  const double* mean;  ///< null: that of the rows
  const T* near;       ///< without a mean: numbers near it
  const double* v;
  double* y;
  std::int64_t k;
  std::int64_t element_stride;  ///< of v and y
  std::int64_t vector_stride;
};

/// Enqueues the product. `status` is zero before. One launch for up to 32 columns where what they
/// need fits into registers (k d <= 16384 float32 or 8192 float64), more and more reads beyond.
template <class T>
void weighted_product(const Product<T>& product, ProductStatus* status, Workspace& workspace,
                      const Call& call);

/// The product for blocks and means of the host: they cross, and nothing else does.
template <class T>
class BlockProduct {
 public:
  /// The covariance of `rows` about `mean` times v. Waits.
  detail::Block operator()(const DeviceRows<T>& rows, const detail::Block& v,
                           const std::vector<double>& mean, ProductStatus& status,
                           Workspace& workspace, const Call& call) {
    static_assert(sizeof(ProductStatus) == 2 * sizeof(double));  // comes back behind the numbers
    const std::size_t size = v.numbers.size();
    std::vector<double> in = v.numbers;
    in.insert(in.end(), mean.begin(), mean.end());
    in_.reserve(in.size(), call);
    in_.upload(in.data(), in.size(), call);
    out_.reserve(size + 2, call);
    auto* found = reinterpret_cast<ProductStatus*>(out_.get() + size);
    call.check(cudaMemsetAsync(found, 0, sizeof status, call.stream), "cudaMemsetAsync");
    weighted_product(
        Product<T>{rows, in_.get() + size, nullptr, in_.get(), out_.get(), v.count(), 1, v.d},
        found, workspace, call);
    std::vector<double> out = numbers_at(out_.get(), static_cast<std::int64_t>(size) + 2, call);
    std::memcpy(&status, out.data() + size, sizeof status);
    out.resize(size);
    return {v.d, std::move(out)};
  }

 private:
  DeviceBuffer<double> in_, out_;
};

/// Says what is wrong with n weights: returns if they are finite, >= 0 and not all zero.
template <class T>
void fail_on_weights(const T* weights, std::int64_t n, const Call& call);

}  // namespace tamis::cuda
