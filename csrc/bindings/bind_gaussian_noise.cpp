#include "bindings/array.hpp"
#include "bindings/bindings.hpp"
#include "tamis/gaussian_noise.hpp"

namespace py = pybind11;

void bind_gaussian_noise(py::module_& m) {
  m.def(
      "gaussian_noise",
      [](py::object x_object, py::object out_object, float sigma, std::uint64_t seed,
         std::uint32_t image, std::uint32_t stream_id, std::uint64_t start, int num_threads,
         std::uintptr_t cuda_stream) {
        const auto x = tamis::bindings::view(x_object, "x", cuda_stream);
        const auto out = tamis::bindings::view(out_object, "out", cuda_stream);
        const auto x_view = x.flat();
        const auto out_view = out.writable().mutable_rows();
        const auto exec = tamis::bindings::exec_for({&x, &out}, num_threads, cuda_stream);
        py::gil_scoped_release release;
        tamis::gaussian_noise(x_view, out_view, sigma, {seed, image, stream_id}, start, exec);
      },
      py::arg("x"), py::arg("out"), py::arg("sigma"), py::arg("seed"), py::arg("image"),
      py::arg("stream"), py::arg("start"), py::arg("num_threads"), py::arg("cuda_stream") = 0);
}
