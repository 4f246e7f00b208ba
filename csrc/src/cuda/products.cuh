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
  double* found_mean = nullptr;  ///< without a mean: where to put it, or null
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
  /// The covariance of `rows` about `mean` times v. Waits. An empty mean: that of the rows, summed
  /// about `near`; it then goes to `found_mean` if that is not null.
  detail::Block operator()(const DeviceRows<T>& rows, const detail::Block& v,
                           const std::vector<double>& mean, ProductStatus& status,
                           Workspace& workspace, const Call& call, const T* near = nullptr,
                           std::vector<double>* found_mean = nullptr) {
    static_assert(sizeof(ProductStatus) == 2 * sizeof(double));  // comes back behind the numbers
    const std::size_t size = v.numbers.size();
    const auto d = static_cast<std::size_t>(v.d);
    std::vector<double> in = v.numbers;
    in.insert(in.end(), mean.begin(), mean.end());
    in_.reserve(size + d, call);
    in_.upload(in.data(), in.size(), call);
    out_.reserve(size + 2 + d, call);
    auto* found = reinterpret_cast<ProductStatus*>(out_.get() + size);
    call.check(cudaMemsetAsync(found, 0, sizeof status, call.stream), "cudaMemsetAsync");
    Product<T> product{rows, nullptr, nullptr, in_.get(), out_.get(), v.count(), 1, v.d};
    if (mean.empty()) {
      if (found_mean != nullptr) product.found_mean = out_.get() + size + 2;
      product.near = near;
    } else {
      product.mean = in_.get() + size;
    }
    weighted_product(product, found, workspace, call);
    const std::size_t wanted = size + 2 + (product.found_mean == nullptr ? 0 : d);
    std::vector<double> out = numbers_at(out_.get(), static_cast<std::int64_t>(wanted), call);
    std::memcpy(&status, out.data() + size, sizeof status);
    if (found_mean != nullptr) {
      found_mean->assign(out.begin() + static_cast<std::ptrdiff_t>(size + 2), out.end());
    }
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
