#include "bindings/array.hpp"
#include "bindings/bindings.hpp"
#include "bindings/matrix_arguments.hpp"
#include "tamis/linear_gradients.hpp"

namespace py = pybind11;
using namespace tamis::bindings;

void bind_linear_gradients(py::module_& m) {
  m.def(
      "linear_gradients",
      [](py::object x_object, py::object coef_object, double intercept, py::object y_object,
         double epsilon, py::object weights_object, py::object share_object, py::object v_object,
         py::object coefficients_object, py::object center_object, py::object sums_object,
         py::object product_object, int num_threads, std::uintptr_t cuda_stream) {
        const auto x = view(x_object, "X", cuda_stream);
        const auto coef = view(coef_object, "coef", cuda_stream);
        const auto y = view(y_object, "y", cuda_stream);
        const auto weights = optional_view(weights_object, "weights", cuda_stream);
        const auto share = optional_view(share_object, "center_weights", cuda_stream);
        const auto v = view(v_object, "V", cuda_stream);
        const auto coefficients = view(coefficients_object, "coefficients", cuda_stream);
        const auto center = view(center_object, "center", cuda_stream);
        const auto sums = view(sums_object, "sums", cuda_stream);
        const auto product = view(product_object, "product", cuda_stream);
        const auto rows = matrix_of(x);
        const std::int64_t n = rows.rows, d = rows.cols;
        const std::int64_t k = v.shape.size() == 2 ? v.shape[1] : -1;
        const auto to = [](const Array& array, const std::vector<std::int64_t>& shape) {
          return const_cast<double*>(doubles(array.writable(), shape));
        };
        const tamis::LinearModel model{doubles(coef, {d}), intercept, doubles(y, {n}), epsilon,
                                       weights ? doubles(*weights, {n}) : nullptr};
        const double* s = share ? doubles(*share, {n}) : nullptr;
        const double* vectors = doubles(v, {d, k});
        const tamis::LinearGradients out{to(coefficients, {n}), to(center, {d}), to(sums, {3, d}),
                                         to(product, {d, k})};
        const auto exec = exec_for({&x, &coef, &y, weights ? &*weights : &x, share ? &*share : &x,
                                    &v, &coefficients, &center, &sums, &product},
                                   num_threads, cuda_stream);
        py::gil_scoped_release release;
        tamis::linear_gradients(rows, model, s, vectors, k, out, exec);
      },
      py::arg("X"), py::arg("coef"), py::arg("intercept"), py::arg("y"), py::arg("epsilon"),
      py::arg("weights"), py::arg("center_weights"), py::arg("V"), py::arg("coefficients"),
      py::arg("center"), py::arg("sums"), py::arg("product"), py::arg("num_threads"),
      py::arg("cuda_stream") = 0);
}
