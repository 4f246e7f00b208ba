// Sums over rows of w (x - c) (x - c)^T V: the product that covariance_apply, power_iteration and
// iterative_filter are made of.
#pragma once

#include <cstdint>

#include "src/cuda/rows.cuh"

namespace tamis::cuda {

/// What a product has found out about its data, in device memory.
struct ProductStatus {
  double weight;                  ///< sum of the weights
  unsigned long long bad_weight;  ///< ~ the first row whose weight is negative or not finite; or 0
  unsigned long long not_finite;  ///< 1: so is the product
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

/// @throws std::invalid_argument if the weights of a product were not such.
template <class T>
void fail_on_weights(const DeviceRows<T>& rows, const ProductStatus& status, const Call& call);

}  // namespace tamis::cuda
