#include "bindings/array.hpp"
#include "bindings/bindings.hpp"
#include "bindings/matrix_arguments.hpp"
#include "tamis/covariance_apply.hpp"

namespace py = pybind11;
using namespace tamis::bindings;

void bind_covariance_apply(py::module_& m) {
  m.def(
      "covariance_apply",
      [](py::object x_object, py::object v_object, py::object out_object, py::object weights_object,
         py::object mean_object, int num_threads, std::uintptr_t cuda_stream) {
        const auto x = view(x_object, "X", cuda_stream);
        const auto v = view(v_object, "V", cuda_stream);
        const auto out = view(out_object, "out", cuda_stream);
        const auto weights = optional_view(weights_object, "weights", cuda_stream);
        const auto mean = optional_view(mean_object, "mean", cuda_stream);
        const auto matrix = matrix_of(x);
        const double* vectors = doubles(v, {matrix.cols, v.shape.size() == 2 ? v.shape[1] : -1});
        auto* y = const_cast<double*>(doubles(out.writable(), {matrix.cols, v.shape[1]}));
        const auto w = weights ? weights->flat() : tamis::ConstVectorView{};
        const double* centre = mean ? doubles(*mean, {matrix.cols}) : nullptr;
        const auto exec = exec_for({&x, &v, &out, weights ? &*weights : &x, mean ? &*mean : &x},
                                   num_threads, cuda_stream);
        py::gil_scoped_release release;
        tamis::covariance_apply(matrix, vectors, v.shape[1], y, w, centre, exec);
      },
      py::arg("X"), py::arg("V"), py::arg("out"), py::arg("weights"), py::arg("mean"),
      py::arg("num_threads"), py::arg("cuda_stream") = 0);
}
