#include "bindings/array.hpp"
#include "bindings/bindings.hpp"
#include "bindings/matrix_arguments.hpp"
#include "tamis/weighted_sums.hpp"

namespace py = pybind11;
using namespace tamis::bindings;

void bind_weighted_sums(py::module_& m) {
  m.def(
      "weighted_sums",
      [](py::object x_object, py::object u_object, py::object out_object, int num_threads,
         std::uintptr_t cuda_stream) {
        const auto x = view(x_object, "X", cuda_stream);
        const auto u = view(u_object, "U", cuda_stream);
        const auto out = view(out_object, "out", cuda_stream);
        const auto rows = matrix_of(x);
        const auto weights = matrix_of(u);
        auto* y = const_cast<double*>(doubles(out.writable(), {weights.rows, rows.cols}));
        const auto exec = exec_for({&x, &u, &out}, num_threads, cuda_stream);
        py::gil_scoped_release release;
        tamis::weighted_sums(rows, weights, y, exec);
      },
      py::arg("X"), py::arg("U"), py::arg("out"), py::arg("num_threads"),
      py::arg("cuda_stream") = 0);
}
