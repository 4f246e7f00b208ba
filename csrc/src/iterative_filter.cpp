#include "tamis/iterative_filter.hpp"

#include "src/detail/filter_loop.hpp"
#include "src/detail/matrix_check.hpp"

namespace tamis {
namespace {

constexpr const char* kOp = "iterative_filter";

void check(const ConstMatrixView& x, const VectorView& weights, const VectorView& scores,
           const FilterOptions& options) {
  using detail::fail;
  using detail::text;
  detail::check_rows(kOp, x, 1);
  const auto output = [&](const char* name, const VectorView& view) {
    if (view.size != x.rows || view.dtype != x.dtype || view.data == nullptr) {
      fail(kOp, text(name, ": ", x.rows, " of ", name_of(x.dtype)),
           text(view.size, " of ", name_of(view.dtype)));
    }
    if (detail::overlaps(x, view.data, view.size * size_of(view.dtype))) {
      fail(kOp, text(name, " apart from x"), "overlapping memory");
    }
  };
  output("weights", weights);
  output("scores", scores);
  if (!(options.contamination >= 0.0 && options.contamination < 0.5)) {
    fail(kOp, "contamination in [0, 0.5)", text(options.contamination));
  }
  if (options.max_rounds < 1) fail(kOp, "max_rounds >= 1", text(options.max_rounds));
  if (!(options.max_removed >= 1.0)) fail(kOp, "max_removed >= 1", text(options.max_removed));
}

}  // namespace

FilterResult iterative_filter(ConstMatrixView x, VectorView weights, VectorView scores,
                              const FilterOptions& options, const Exec& exec) {
  check(x, weights, scores, options);
  const auto passes = exec.device.kind == Device::Kind::cuda
                          ? cuda::filter_passes(x, weights, scores, exec)
                          : cpu::filter_passes(x, weights, scores, exec.num_threads);
  return detail::FilterLoop(*passes, x.rows, x.cols, options).run();
}

}  // namespace tamis
