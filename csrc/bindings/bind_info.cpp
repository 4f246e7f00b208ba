#include <pybind11/stl.h>

#include "bindings/bindings.hpp"
#include "tamis/exec.hpp"

namespace py = pybind11;

void bind_info(py::module_& m) {
  m.attr("__version__") = tamis::version();
  m.def("default_num_threads", &tamis::default_num_threads);
  m.def("built_isas", &tamis::built_isas);
  m.def("available_isas", &tamis::available_isas);
  m.def("active_isa", &tamis::active_isa);
  m.def("cuda_info", [] {
    const tamis::CudaInfo info = tamis::cuda_info();
    py::dict out;
    out["built"] = info.built;
    out["toolkit"] = info.toolkit;
    out["architectures"] = info.architectures;
    out["driver"] = info.driver;
    out["status"] = info.status;
    out["devices"] = info.devices;
    return out;
  });
}
