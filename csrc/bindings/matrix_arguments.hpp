// Arguments that the operations on rows of a matrix share.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "bindings/array.hpp"

namespace tamis::bindings {

inline std::optional<Array> optional_view(pybind11::handle object, const char* name,
                                          std::uintptr_t stream) {
  if (object.is_none()) return std::nullopt;
  return view(object, name, stream);
}

/// X as rows. @throws std::invalid_argument unless it has two axes and dense rows.
inline ConstMatrixView matrix_of(const Array& x) {
  if (x.shape.size() != 2) {
    throw std::invalid_argument(x.name + ": expected shape (n, d), got " + x.shape_text());
  }
  return x.rows();
}

/// The numbers of a dense float64 array of this shape.
inline const double* doubles(const Array& array, const std::vector<std::int64_t>& shape) {
  const auto flat = array.flat();
  if (array.shape != shape || flat.dtype != DType::float64) {
    throw std::invalid_argument(array.name + ": expected dense float64 of the fitting shape, got " +
                                array.dtype_text() + " of shape " + array.shape_text());
  }
  return static_cast<const double*>(flat.data);
}

/// One number a row, in x's type, to be written to.
inline VectorView output_of(const Array& array) {
  const auto flat = array.writable().flat();
  if (array.shape.size() != 1) {
    throw std::invalid_argument(array.name + ": expected shape (n,), got " + array.shape_text());
  }
  return {const_cast<void*>(flat.data), flat.size, flat.dtype};
}

/// Numbers as a NumPy array of this shape.
inline pybind11::array_t<double> numpy_of(const std::vector<double>& numbers,
                                          std::vector<pybind11::ssize_t> shape) {
  pybind11::array_t<double> out(std::move(shape));
  std::copy(numbers.begin(), numbers.end(), out.mutable_data());
  return out;
}

/// Lets Ctrl-C end a long call between two passes over the data. Called without the GIL.
inline std::function<void()> interruptible() {
  return [] {
    const pybind11::gil_scoped_acquire gil;
    if (PyErr_CheckSignals() != 0) throw pybind11::error_already_set();
  };
}

}  // namespace tamis::bindings
