#include <utility>

#include "src/cuda/products.cuh"
#include "src/detail/matrix_check.hpp"
#include "src/detail/power_iteration_backend.hpp"

namespace tamis::cuda {
namespace {

/// The sum of the weights of some rows, by one block.
template <class T>
__global__ void chosen_weight_kernel(DeviceRows<T> rows, double* out) {
  __shared__ double scratch[kWarp];
  double sum = 0.0;
  for (std::int64_t i = threadIdx.x; i < rows.count; i += blockDim.x) {
    sum += static_cast<double>(rows.weight(rows.number(i)));
  }
  sum = block_sum(sum, scratch);
  if (threadIdx.x == 0) *out = sum;
}

template <class T>
class CudaOperator final : public detail::CovarianceOperator {
 public:
  CudaOperator(const char* op, const ConstMatrixView& x, const ConstVectorView& weights,
               const double* mean, const Exec& exec)
      : guard_(exec, op),
        call_(op, exec),
        x_(x),
        weights_(static_cast<const T*>(weights.data)),
        mean_(mean == nullptr ? std::vector<double>() : numbers_at(mean, x.cols, call_)) {
    detail::check_finite(op, "mean", mean_.data(), static_cast<std::int64_t>(mean_.size()), Exec{});
    if (mean == nullptr) near_ = near_mean(rows(), call_);
  }

  detail::Block apply(const detail::Block& v) override {
    if (!mean_.empty()) return product(rows(), v);
    std::vector<double> found;  // in the same pass
    detail::Block y = product(rows(), v, &found);
    mean_ = std::move(found);
    for (const double m : mean_) rounding += 0x1p-52 * m * (0x1p-52 * m);
    return y;
  }

  double choose(const std::vector<std::int64_t>& chosen) override {
    chosen_ = DeviceBuffer<std::int64_t>(chosen, call_);
    if (weights_ == nullptr) return static_cast<double>(chosen.size());
    constexpr int kThreads = 1024;
    const DeviceBuffer<double> sum(1, call_);
    chosen_weight_kernel<T><<<1, kThreads, 0, call_.stream>>>(some_rows(), sum.get());
    call_.launched();
    return sum.numbers(call_)[0];
  }

  detail::Block apply_some(const detail::Block& v) override { return product(some_rows(), v); }

 private:
  DeviceRows<T> rows() const { return DeviceRows<T>(x_, weights_); }
  DeviceRows<T> some_rows() const {
    return DeviceRows<T>(x_, weights_, chosen_.get(), static_cast<std::int64_t>(chosen_.size()));
  }

  detail::Block product(const DeviceRows<T>& rows, const detail::Block& v,
                        std::vector<double>* found_mean = nullptr) {
    ProductStatus status{};
    detail::Block y = product_(rows, v, mean_, status, workspace_, call_, near_.get(), found_mean);
    if (!status.fine()) {
      fail_on_weights(weights_, x_.rows, call_);
      fail_on_data(rows, call_);
    }
    return y;
  }

  DeviceGuard guard_;  ///< until all memory has been given back
  Call call_;
  ConstMatrixView x_;
  const T* weights_;
  DeviceBuffer<T> near_;  ///< the mean of all rows, while that is not known
  DeviceBuffer<std::int64_t> chosen_;
  BlockProduct<T> product_;
  Workspace workspace_;
  std::vector<double> mean_;  ///< empty until the first pass, if it was not given
};

}  // namespace

std::unique_ptr<detail::CovarianceOperator> covariance_operator(const char* op,
                                                                const ConstMatrixView& x,
                                                                const ConstVectorView& weights,
                                                                const double* mean,
                                                                const Exec& exec) {
  if (x.dtype == DType::float64) {
    return std::make_unique<CudaOperator<double>>(op, x, weights, mean, exec);
  }
  return std::make_unique<CudaOperator<float>>(op, x, weights, mean, exec);
}

}  // namespace tamis::cuda
