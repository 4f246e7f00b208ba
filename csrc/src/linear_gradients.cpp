#include "tamis/linear_gradients.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "src/detail/chunk_sums.hpp"
#include "src/detail/linear_gradients_backend.hpp"
#include "src/detail/matrix_check.hpp"
#include "src/detail/row_passes.hpp"

namespace tamis {
namespace {

using detail::Aligned;
using detail::LinearGradientsTask;

/// Sums of numbers that go with the rows, behind the sums of the rows.
struct Totals {
  double share = 0.0;    ///< of s_i
  double shared = 0.0;   ///< of s_i a_i
  double plain = 0.0;    ///< of a_i
  double squares = 0.0;  ///< of a_i^2

  static constexpr int count = 4;
  explicit Totals(const double* from = nullptr) {
    if (from != nullptr) share = from[0], shared = from[1], plain = from[2], squares = from[3];
  }
  void add_to(double* out) const {
    out[0] += share;
    out[1] += shared;
    out[2] += plain;
    out[3] += squares;
  }
};

template <class T>
class Pass {
 public:
  explicit Pass(const LinearGradientsTask& task)
      : task_(task),
        rows_(task.x),
        stride_(detail::padded<T>(task.x.cols)),
        k_(static_cast<int>(task.k)),
        // Behind the products: the rows by a^2, a, s and s a; without s the latter are 1 and a.
        columns_(k_ + (task.share == nullptr ? 3 : 4)),
        reading_(detail::reading_of(rows_, k_ + 1, columns_)),
        shift_(detail::near_mean(rows_, static_cast<const T*>(nullptr), kLook)),
        v_(static_cast<std::size_t>((k_ + 1) * stride_), T(0)) {
    const std::int64_t d = rows_.d;
    double along = 0.0;
    for (std::int64_t j = 0; j < d; ++j) {
      T* column = v_.data() + j;
      for (int c = 0; c < k_; ++c) column[c * stride_] = static_cast<T>(task.v[j * k_ + c]);
      column[k_ * stride_] = static_cast<T>(task.model.coef[j]);
      along += static_cast<double>(shift_[static_cast<std::size_t>(j)]) * task.model.coef[j];
    }
    intercept_ = task.model.intercept + along;
  }

  void run(int num_threads) {
    const std::int64_t size = columns_ * stride_ + Totals::count;
    const detail::Chunks chunks(rows_.count, size * 8);
    const auto sums = detail::sum_chunks(
        chunks, rows_.count, size, num_threads, [this] { return Scratch(*this); },
        [this](std::int64_t begin, std::int64_t end, Scratch& scratch, double* out) {
          sum_chunk(begin, end, scratch, out);
        });
    finish(sums.data(), Totals(sums.data() + columns_ * stride_));
  }

 private:
  static constexpr std::int64_t kLook = 16;  ///< rows that say where to sum about

  struct Scratch {
    explicit Scratch(const Pass& pass)
        : y(static_cast<std::size_t>(pass.columns_ * pass.stride_), T(0)),
          z(static_cast<std::size_t>(pass.reading_.tile * (pass.k_ + 1))),
          factors(static_cast<std::size_t>(pass.reading_.tile * pass.columns_)) {}
    Aligned<T> y;            ///< sums of a block of rows
    std::vector<T> z;        ///< projections of a tile, row by row
    std::vector<T> factors;  ///< and what its rows count in the sums
  };

  void sum_chunk(std::int64_t begin, std::int64_t end, Scratch& scratch, double* out) const {
    const auto& kernels = detail::row_kernels<T>();
    const int tile = reading_.tile;
    const T* rows[detail::kFlush];
    for (std::int64_t block = begin; block < end; block += detail::kFlush) {
      const int count = static_cast<int>(std::min<std::int64_t>(end - block, detail::kFlush));
      for (int t = 0; t < count; ++t) rows[t] = rows_[block + t];
      Totals totals;
      for (int t = 0; t < count; t += tile) {
        detail::RowTile<T> part{rows + t, std::min(tile, count - t), rows_.d, reading_.products,
                                reading_.one_by_one};
        kernels.project(part, shift_.data(), v_.data(), k_ + 1, scratch.z.data());
        for (int r = 0; r < part.count; ++r) {
          weigh(block + t + r, scratch.z.data() + r * (k_ + 1),
                scratch.factors.data() + r * columns_, totals);
        }
        part.ahead = reading_.sums;
        kernels.accumulate(part, shift_.data(), scratch.factors.data(), columns_, scratch.y.data());
      }
      kernels.move_sums(scratch.y.data(), columns_ * stride_, out);
      totals.add_to(out + columns_ * stride_);
    }
  }

  /// From the projections of row i: its coefficient, and what it counts in every sum.
  void weigh(std::int64_t i, const T* z, T* factors, Totals& totals) const {
    const LinearModel& model = task_.model;
    const double residual = static_cast<double>(z[k_]) + intercept_ - model.y[i];
    // What is added is 0, or NaN where the residual is not finite: clamped, that would not show.
    double a = std::clamp(residual, -model.epsilon, model.epsilon) + (residual - residual);
    if (model.weights != nullptr) a *= model.weights[i];
    task_.out.coefficients[i] = a;
    const double square = a * a;
    for (int c = 0; c < k_; ++c) factors[c] = static_cast<T>(square) * z[c];
    factors[k_] = static_cast<T>(square);
    factors[k_ + 1] = static_cast<T>(a);
    totals.plain += a;
    totals.squares += square;
    if (task_.share == nullptr) {
      factors[k_ + 2] = T(1);
      totals.share += 1.0;
      totals.shared += a;
    } else {
      const double share = task_.share[i];
      factors[k_ + 2] = static_cast<T>(share);
      factors[k_ + 3] = static_cast<T>(share * a);
      totals.share += share;
      totals.shared += share * a;
    }
  }

  /// From sums about the shift to those about the mean.
  void finish(const double* sums, const Totals& totals) const {
    const std::int64_t d = rows_.d;
    const double* by_square = sums + k_ * stride_;
    const double* by_a = by_square + stride_;
    const double* by_share = by_a + stride_;
    const double* by_both = task_.share == nullptr ? by_a : by_share + stride_;
    const LinearGradients& out = task_.out;
    std::vector<double> moved(static_cast<std::size_t>(d));
    bool finite = true;
    for (std::int64_t j = 0; j < d; ++j) {
      const double to = by_share[j] / totals.share;
      moved[static_cast<std::size_t>(j)] = to;
      out.center[j] = static_cast<double>(shift_[static_cast<std::size_t>(j)]) + to;
      out.sums[j] = (by_both[j] - totals.shared * to) / totals.share;
      out.sums[d + j] = by_a[j] - totals.plain * to;
      out.sums[2 * d + j] = by_square[j] - totals.squares * to;
      finite = finite && std::isfinite(out.center[j]) && std::isfinite(out.sums[j]) &&
               std::isfinite(out.sums[d + j]) && std::isfinite(out.sums[2 * d + j]);
    }
    for (int c = 0; c < k_; ++c) {
      double along = 0.0;   // moved . v
      double square = 0.0;  // sum of a^2 (x - shift) . v
      for (std::int64_t j = 0; j < d; ++j) {
        along += moved[static_cast<std::size_t>(j)] * task_.v[j * k_ + c];
        square += by_square[j] * task_.v[j * k_ + c];
      }
      for (std::int64_t j = 0; j < d; ++j) {
        double& y = out.product[j * k_ + c];
        y = sums[c * stride_ + j] - by_square[j] * along -
            moved[static_cast<std::size_t>(j)] * (square - totals.squares * along);
        finite = finite && std::isfinite(y);
      }
    }
    if (finite) return;
    detail::fail_on_bad_row(task_.op, rows_);
    detail::fail_on_coefficients(task_, task_.out.coefficients);
    detail::fail_on_data(task_.op, rows_);
  }

  const LinearGradientsTask& task_;
  detail::Rows<T> rows_;
  std::int64_t stride_;
  int k_;
  int columns_;
  detail::Reading reading_;
  Aligned<T> shift_;
  Aligned<T> v_;  ///< and the model's coefficients behind
  double intercept_ = 0.0;
};

/// Numbers of the caller's, for messages.
struct Numbers {
  const char* name;
  const double* data;
  std::int64_t size;
};

/// All but the values on CUDA, which nobody has seen yet.
void check(const LinearGradientsTask& task, const Exec& exec) {
  const char* op = task.op;
  const ConstMatrixView& x = task.x;
  const LinearModel& model = task.model;
  constexpr std::int64_t kMost = 251;  // columns: with those of the sums, kMaxVectors
  static_assert(kMost + 4 < detail::kMaxVectors);
  detail::check_rows(op, x, 1);
  if (task.k < 1 || task.k > kMost) {
    detail::fail(op, detail::text("1 <= k <= ", kMost), detail::text(task.k));
  }
  const std::int64_t n = x.rows, d = x.cols, of_block = d * task.k;
  const Numbers in[] = {{"coef", model.coef, d},
                        {"y", model.y, n},
                        {"v", task.v, of_block},
                        {"weights", model.weights, n},
                        {"center_weights", task.share, n}};
  const Numbers results[] = {{"coefficients", task.out.coefficients, n},
                             {"center", task.out.center, d},
                             {"sums", task.out.sums, 3 * d},
                             {"product", task.out.product, of_block}};
  constexpr std::size_t kNeeded = 3;  // of `in`
  for (std::size_t i = 0; i < kNeeded; ++i) {
    if (in[i].data == nullptr) detail::fail(op, detail::text("non-null ", in[i].name), "null");
  }
  for (const Numbers& result : results) {
    if (result.data == nullptr) detail::fail(op, detail::text("non-null ", result.name), "null");
    const auto apart = [&](const char* name, const ConstMatrixView& other) {
      if (!detail::overlaps(other, result.data, result.size * 8)) return;
      detail::fail(op, detail::text(result.name, " apart from ", name), "overlapping memory");
    };
    apart("x", x);
    const auto row = [](const Numbers& other) {
      return ConstMatrixView{other.data, other.data == nullptr ? 0 : 1, other.size, other.size,
                             DType::float64};
    };
    for (const Numbers& other : in) apart(other.name, row(other));
    for (const Numbers* other = results; other != &result; ++other) apart(other->name, row(*other));
  }
  if (!(model.epsilon > 0.0)) detail::fail(op, "epsilon > 0", detail::text(model.epsilon));
  if (!std::isfinite(model.intercept)) {
    detail::fail(op, "intercept: a finite number", detail::text(model.intercept));
  }
  detail::check_finite(op, "coef", model.coef, d, exec);
  detail::check_finite(op, "v", task.v, of_block, exec);
  if (task.share != nullptr && exec.device.kind == Device::Kind::cpu) {
    detail::check_weight_values(op, task.share, n, "center_weights");
  }
}

}  // namespace

void cpu::linear_gradients(const LinearGradientsTask& task, int num_threads) {
  if (task.x.dtype == DType::float64) {
    Pass<double>(task).run(num_threads);
  } else {
    Pass<float>(task).run(num_threads);
  }
}

void linear_gradients(ConstMatrixView x, const LinearModel& model, const double* share,
                      const double* v, std::int64_t k, const LinearGradients& out,
                      const Exec& exec) {
  const LinearGradientsTask task{"linear_gradients", x, model, share, v, k, out};
  check(task, exec);
  if (exec.device.kind == Device::Kind::cuda) {
    cuda::linear_gradients(task, exec);
  } else {
    cpu::linear_gradients(task, exec.num_threads);
  }
}

}  // namespace tamis
