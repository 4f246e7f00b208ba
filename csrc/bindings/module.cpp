// The extension's table of contents. Signatures for Python stand in python/tamis/_core.pyi.
#include "bindings/bindings.hpp"

PYBIND11_MODULE(_core, m) {
  m.doc() = "Native core of tamis. Private: use tamis.ops.";
  bind_info(m);
  bind_gaussian_noise(m);
  bind_vote_counts(m);
  bind_confidence(m);
}
