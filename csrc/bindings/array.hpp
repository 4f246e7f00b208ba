// Arrays from Python, seen without copying: NumPy arrays and every DLPack producer.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bindings/dlpack.hpp"
#include "tamis/exec.hpp"
#include "tamis/views.hpp"

namespace tamis::bindings {

/// A view of an array that keeps its owner alive. Copies share the owner.
struct Array {
  std::string name;  ///< of the argument, for messages
  void* data = nullptr;
  dlpack::DataType dtype{};
  Device device;
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> strides;  ///< in elements
  bool read_only = false;
  std::shared_ptr<void> owner;

  std::int64_t size() const;
  std::string shape_text() const;
  std::string dtype_text() const;

  /// The float type of the elements. @throws pybind11::type_error for any other type.
  DType float_dtype() const;
  /// @throws pybind11::type_error unless the elements are int64.
  std::int64_t* int64_data() const;
  /// @throws std::invalid_argument if the array may not be written to.
  const Array& writable() const;

  /// All elements as one dense vector. @throws std::invalid_argument if they are not dense.
  ConstVectorView flat() const;
  /// Axis 0 as rows, everything else as dense columns.
  /// @throws std::invalid_argument if a row is not dense or rows overlap.
  ConstMatrixView rows() const;
  MatrixView mutable_rows() const;
};

/// Views `object`, which may live on the CPU or on a CUDA device. `stream` is the CUDA stream that
/// will use the memory, handed to the producer so that it can order its work before ours.
/// @throws pybind11::type_error for anything that is neither a NumPy array nor a DLPack producer.
Array view(pybind11::handle object, const char* name, std::uintptr_t stream = 0);

/// The execution resources of a call on these arrays.
/// @throws std::invalid_argument unless all lie on one device.
Exec exec_for(std::initializer_list<const Array*> arrays, int num_threads, std::uintptr_t stream);

}  // namespace tamis::bindings
