#include "bindings/array.hpp"
#include "bindings/bindings.hpp"
#include "bindings/matrix_arguments.hpp"
#include "tamis/power_iteration.hpp"

namespace py = pybind11;
using namespace tamis::bindings;

void bind_power_iteration(py::module_& m) {
  m.def(
      "power_iteration",
      [](py::object x_object, std::int64_t k, py::object weights_object, py::object mean_object,
         const std::string& method, double tol, std::int64_t max_iter, py::object init_object,
         std::uint64_t seed, int num_threads, std::uintptr_t cuda_stream) {
        const auto x = view(x_object, "X", cuda_stream);
        const auto weights = optional_view(weights_object, "weights", cuda_stream);
        const auto mean = optional_view(mean_object, "mean", cuda_stream);
        const auto init = optional_view(init_object, "init", 0);
        const auto matrix = matrix_of(x);
        const auto w = weights ? weights->flat() : tamis::ConstVectorView{};
        const double* centre = mean ? doubles(*mean, {matrix.cols}) : nullptr;
        tamis::PowerIterationOptions options;
        options.method = method == "power" ? tamis::PowerIterationOptions::Method::power
                                           : tamis::PowerIterationOptions::Method::lanczos;
        options.tol = tol;
        options.max_iter = max_iter;
        options.seed = seed;
        options.checkpoint = interruptible();
        if (init) {
          options.init_columns = init->shape.size() == 2 ? init->shape[1] : -1;
          options.init = doubles(*init, {matrix.cols, options.init_columns});
        }
        const auto exec =
            exec_for({&x, weights ? &*weights : &x, mean ? &*mean : &x}, num_threads, cuda_stream);
        tamis::EigenResult result;
        {
          py::gil_scoped_release release;
          result = tamis::power_iteration(matrix, k, w, centre, options, exec);
        }
        return py::make_tuple(
            numpy_of(result.values, {k}), numpy_of(result.vectors, {matrix.cols, k}),
            numpy_of(result.residuals, {k}), result.iterations, result.converged, result.clustered);
      },
      py::arg("X"), py::arg("k"), py::arg("weights"), py::arg("mean"), py::arg("method"),
      py::arg("tol"), py::arg("max_iter"), py::arg("init"), py::arg("seed"), py::arg("num_threads"),
      py::arg("cuda_stream") = 0);
}
