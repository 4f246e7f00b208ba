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

/// The number of the image: an integer, or one int64 beside x.
tamis::NoiseKey key_of(std::uint64_t seed, const py::object& image, std::uint32_t stream,
                       const tamis::bindings::Array* number) {
  if (number == nullptr) return {seed, image.cast<std::uint32_t>(), stream};
  if (number->size() != 1) {
    throw std::invalid_argument("image: expected one number, got shape " + number->shape_text());
  }
  return {seed, 0, stream, number->int64_data()};
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
        tamis::bindings::Array number = x;
        const bool known = PyLong_Check(image_object.ptr());
        if (!known) number = tamis::bindings::view(image_object, "image", cuda_stream);
        const auto key = key_of(seed, image_object, stream_id, known ? nullptr : &number);
        const auto exec =
            tamis::bindings::exec_for({&x, &out, &constants, &number}, num_threads, cuda_stream);
        py::gil_scoped_release release;
        tamis::gaussian_noise(x_view, out_view, sigma, key, start, exec, affine);
      },
      py::arg("x"), py::arg("out"), py::arg("sigma"), py::arg("seed"), py::arg("image"),
      py::arg("stream"), py::arg("start"), py::arg("num_threads"), py::arg("cuda_stream") = 0,
      py::arg("affine") = py::none());
}
