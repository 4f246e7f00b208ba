#include "bindings/array.hpp"
#include "bindings/bindings.hpp"
#include "bindings/matrix_arguments.hpp"
#include "tamis/projection_scores.hpp"

namespace py = pybind11;
using namespace tamis::bindings;

void bind_projection_scores(py::module_& m) {
  m.def(
      "projection_scores",
      [](py::object x_object, py::object v_object, py::object out_object, py::object mean_object,
         int num_threads, std::uintptr_t cuda_stream) {
        const auto x = view(x_object, "X", cuda_stream);
        const auto v = view(v_object, "V", cuda_stream);
        const auto out = view(out_object, "out", cuda_stream);
        const auto mean = optional_view(mean_object, "mean", cuda_stream);
        const auto matrix = matrix_of(x);
        const double* vectors = doubles(v, {matrix.cols, v.shape.size() == 2 ? v.shape[1] : -1});
        const auto scores = output_of(out);
        const double* centre = mean ? doubles(*mean, {matrix.cols}) : nullptr;
        const auto exec = exec_for({&x, &v, &out, mean ? &*mean : &x}, num_threads, cuda_stream);
        py::gil_scoped_release release;
        tamis::projection_scores(matrix, vectors, v.shape[1], scores, centre, exec);
      },
      py::arg("X"), py::arg("V"), py::arg("out"), py::arg("mean"), py::arg("num_threads"),
      py::arg("cuda_stream") = 0);
}
