// The extension's table of contents. Signatures for Python stand in python/tamis/_core.pyi.
#include "bindings/bindings.hpp"

PYBIND11_MODULE(_core, m) {
  m.doc() = "Native core of tamis. Private: use tamis.ops.";
  bind_info(m);
  bind_gaussian_noise(m);
  bind_vote_counts(m);
  bind_confidence(m);
  bind_covariance_apply(m);
  bind_weighted_sums(m);
  bind_linear_gradients(m);
  bind_power_iteration(m);
  bind_projection_scores(m);
  bind_iterative_filter(m);
  bind_filter_stream(m);
}
