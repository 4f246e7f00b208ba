#include <stdexcept>

#include "bindings/array.hpp"
#include "bindings/bindings.hpp"
#include "tamis/gaussian_noise.hpp"

namespace py = pybind11;

namespace {

/// Rows `scale` and `offset` of a float32 array of shape (2, channels), or None.
tamis::ChannelAffine affine_of(const tamis::bindings::Array& array) {
  const auto all = array.flat();
  if (array.shape.size() != 2 || array.shape[0] != 2 || all.dtype != tamis::DType::float32) {
    throw std::invalid_argument("affine: expected float32 of shape (2, channels), got " +
                                array.dtype_text() + " of shape " + array.shape_text());
  }
  const auto* scale = static_cast<const float*>(all.data);
  return {scale, scale + array.shape[1], array.shape[1]};
}

/// Where the number of the image stands.
const std::int64_t* number_at(const tamis::bindings::Array& array) {
  if (array.size() != 1) {
    throw std::invalid_argument("image: expected one number, got shape " + array.shape_text());
  }
  return array.int64_data();
}

}  // namespace

void bind_gaussian_noise(py::module_& m) {
  m.def(
      "gaussian_noise",
      [](py::object x_object, py::object out_object, float sigma, std::uint64_t seed,
         py::object image_object, std::uint32_t stream_id, std::uint64_t start, int num_threads,
         std::uintptr_t cuda_stream, py::object affine_object) {
        const auto x = tamis::bindings::view(x_object, "x", cuda_stream);
        const auto out = tamis::bindings::view(out_object, "out", cuda_stream);
        const auto x_view = x.flat();
        const auto out_view = out.writable().mutable_rows();
        tamis::ChannelAffine affine;
        tamis::bindings::Array constants = x;
        if (!affine_object.is_none()) {
          constants = tamis::bindings::view(affine_object, "affine", cuda_stream);
          affine = affine_of(constants);
        }
        tamis::NoiseKey key{seed, 0, stream_id};
        tamis::bindings::Array number = x;
        if (py::isinstance<py::int_>(image_object)) {
          key.image = image_object.cast<std::uint32_t>();
        } else {
          number = tamis::bindings::view(image_object, "image", cuda_stream);
          key.image_at = number_at(number);
        }
        const auto exec =
            tamis::bindings::exec_for({&x, &out, &constants, &number}, num_threads, cuda_stream);
        py::gil_scoped_release release;
        tamis::gaussian_noise(x_view, out_view, sigma, key, start, exec, affine);
      },
      py::arg("x"), py::arg("out"), py::arg("sigma"), py::arg("seed"), py::arg("image"),
      py::arg("stream"), py::arg("start"), py::arg("num_threads"), py::arg("cuda_stream") = 0,
      py::arg("affine") = py::none());
}
