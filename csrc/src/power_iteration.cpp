#include "tamis/power_iteration.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>

#include "src/detail/covariance_apply_backend.hpp"
#include "src/detail/matrix_check.hpp"
#include "src/detail/power_iteration_backend.hpp"
#include "src/detail/uniform_hash.hpp"

namespace tamis {
namespace {

constexpr const char* kOp = "power_iteration";
constexpr std::int64_t kExtraColumns = 1;  // shows whether the k-th value is repeated
constexpr std::int64_t kMostPairs = 252;
constexpr std::int64_t kSampleRows = 4096;
constexpr std::int64_t kSamplePasses = 6;
constexpr double kSampleTol = 1e-2;

using detail::Block;

class CpuOperator final : public detail::CovarianceOperator {
 public:
  CpuOperator(const ConstMatrixView& x, const ConstVectorView& weights, const double* mean,
              int num_threads)
      : x_(x), weights_(weights), num_threads_(num_threads) {
    if (mean != nullptr) mean_.assign(mean, mean + x.cols);
  }

  Block apply(const Block& v) override {
    if (!mean_.empty()) return product(v, mean_.data(), nullptr, 0);
    std::vector<double> found(static_cast<std::size_t>(x_.cols));  // in the same pass
    Block y = product(v, nullptr, nullptr, 0, found.data());
    mean_ = std::move(found);
    for (const double m : mean_) rounding += 0x1p-52 * m * (0x1p-52 * m);
    return y;
  }

  double choose(const std::vector<std::int64_t>& rows) override {
    chosen_ = rows;
    if (weights_.data == nullptr) return static_cast<double>(rows.size());
    double sum = 0.0;
    for (const std::int64_t i : rows) {
      sum += x_.dtype == DType::float64
                 ? static_cast<const double*>(weights_.data)[i]
                 : static_cast<double>(static_cast<const float*>(weights_.data)[i]);
    }
    return sum;
  }

  Block apply_some(const Block& v) override {
    const double* mean = mean_.empty() ? nullptr : mean_.data();
    return product(v, mean, chosen_.data(), static_cast<std::int64_t>(chosen_.size()));
  }

 private:
  Block product(const Block& v, const double* mean, const std::int64_t* index, std::int64_t count,
                double* found_mean = nullptr) const {
    Block y{v.d, std::vector<double>(v.numbers.size())};
    cpu::covariance_apply({kOp, x_, weights_, mean, v.numbers.data(), y.numbers.data(), v.count(),
                           1, v.d, index, count, found_mean},
                          num_threads_);
    return y;
  }

  ConstMatrixView x_;
  ConstVectorView weights_;
  int num_threads_;
  std::vector<double> mean_;  ///< empty until the first pass, if it was not given
  std::vector<std::int64_t> chosen_;
};

/// Where the passes over all rows begin: given vectors, or the eigenvectors of a few rows.
Block first_block(detail::CovarianceOperator& covariance, std::int64_t n, std::int64_t d,
                  std::int64_t width, const PowerIterationOptions& options) {
  Block start{d, detail::gaussian_block(d, width, options.seed, detail::kStartStream)};
  if (options.init != nullptr) {
    const std::int64_t given = std::min(width, options.init_columns);
    Block both{d, std::vector<double>(static_cast<std::size_t>(given * d))};
    for (std::int64_t c = 0; c < given; ++c) {
      for (std::int64_t j = 0; j < d; ++j) both[c][j] = options.init[j * options.init_columns + c];
    }
    both.append(start);
    both.resize(width);
    return both;
  }
  const std::int64_t size = std::min(std::max(kSampleRows, 4 * d), n / 8);
  if (size < 2 * width) return start;
  const double mass =
      covariance.choose(detail::sample_rows(n, size, options.seed, detail::kSampleStream));
  if (!(mass > 0.0)) return start;
  const auto apply = [&](const Block& v) { return covariance.apply_some(v); };
  return detail::block_krylov(apply, start,
                              {.wanted = width,
                               .returned = width,
                               .tol = kSampleTol,
                               .max_passes = kSamplePasses,
                               .seed = options.seed})
      .vectors;
}

}  // namespace

EigenResult power_iteration(ConstMatrixView x, std::int64_t k, ConstVectorView weights,
                            const double* mean, const PowerIterationOptions& options,
                            const Exec& exec) {
  using detail::text;
  detail::check_rows(kOp, x, 1);
  detail::check_weights(kOp, x, weights, exec);
  detail::check_finite(kOp, "mean", mean, x.cols, exec);
  const std::int64_t d = x.cols;
  const std::int64_t most = std::min(d, kMostPairs);
  if (k < 1 || k > most) detail::fail(kOp, text("1 <= k <= ", most), text(k));
  if (!(options.tol > 0.0)) detail::fail(kOp, "tol > 0", text(options.tol));
  if (options.max_iter < 1) detail::fail(kOp, "max_iter >= 1", text(options.max_iter));
  if (options.init != nullptr) {
    detail::check_finite(kOp, "init", options.init, d * options.init_columns, Exec{});
  }
  const bool on_cuda = exec.device.kind == Device::Kind::cuda;
  const std::unique_ptr<detail::CovarianceOperator> covariance =
      on_cuda ? cuda::covariance_operator(kOp, x, weights, mean, exec)
              : std::make_unique<CpuOperator>(x, weights, mean, exec.num_threads);
  const auto apply = [&](const Block& v) {
    if (options.checkpoint) options.checkpoint();
    return covariance->apply(v);
  };
  const bool power = options.method == PowerIterationOptions::Method::power;
  Block start = first_block(*covariance, x.rows, d, std::min(k + kExtraColumns, d), options);
  if (power) start.resize(k);
  const detail::KrylovOptions krylov{.wanted = k,
                                     .returned = k,
                                     .tol = options.tol,
                                     .max_passes = options.max_iter,
                                     .seed = options.seed,
                                     .rounding = &covariance->rounding};
  detail::KrylovResult found = power ? detail::orthogonal_iteration(apply, start, krylov)
                                     : detail::block_krylov(apply, start, krylov);
  EigenResult result;
  result.values = std::move(found.values);
  result.residuals = std::move(found.residuals);
  result.iterations = found.passes;
  const double bound =
      std::max(options.tol * std::max(result.values[0], std::numeric_limits<double>::min()),
               covariance->rounding);
  result.converged = std::all_of(result.residuals.begin(), result.residuals.end(),
                                 [&](double r) { return r <= bound; });
  const auto last = static_cast<std::size_t>(k);
  result.clustered =
      found.spectrum.size() > last && found.spectrum[last - 1] - found.spectrum[last] <= bound;
  detail::orient(found.vectors);
  result.vectors.resize(static_cast<std::size_t>(d * k));
  for (std::int64_t c = 0; c < k; ++c) {
    const double* v = found.vectors[c];
    for (std::int64_t j = 0; j < d; ++j) {
      result.vectors[static_cast<std::size_t>(j * k + c)] = v[j];
    }
  }
  return result;
}

}  // namespace tamis
