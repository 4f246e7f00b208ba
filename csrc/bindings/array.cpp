#include "bindings/array.hpp"

#include <pybind11/numpy.h>

#include <stdexcept>

namespace py = pybind11;

namespace tamis::bindings {
namespace {

Array view_numpy(const py::array& array, const char* name) {
  Array view;
  view.name = name;
  const py::dtype dtype = array.dtype();
  const char order = dtype.byteorder();
  if (order != '=' && order != '|') {
    throw py::type_error(std::string(name) + ": expected native byte order, got " +
                         std::string(py::str(dtype)));
  }
  switch (dtype.kind()) {
    case 'f':
      view.dtype.code = dlpack::kFloat;
      break;
    case 'i':
      view.dtype.code = dlpack::kInt;
      break;
    case 'u':
      view.dtype.code = dlpack::kUInt;
      break;
    default:
      throw py::type_error(std::string(name) + ": expected an array of real numbers, got dtype " +
                           std::string(py::str(dtype)));
  }
  view.dtype.bits = static_cast<std::uint8_t>(dtype.itemsize() * 8);
  view.dtype.lanes = 1;
  view.data = const_cast<void*>(array.data());
  view.read_only = !array.writeable();
  for (py::ssize_t axis = 0; axis < array.ndim(); ++axis) {
    const py::ssize_t stride = array.strides(axis);
    if (stride % dtype.itemsize() != 0 && array.shape(axis) > 1) {
      throw std::invalid_argument(std::string(name) +
                                  ": expected strides that are a multiple of the element size");
    }
    view.shape.push_back(array.shape(axis));
    view.strides.push_back(stride / dtype.itemsize());
  }
  if (reinterpret_cast<std::uintptr_t>(view.data) %
          static_cast<std::uintptr_t>(dtype.alignment()) !=
      0) {
    throw std::invalid_argument(std::string(name) + ": expected an aligned array");
  }
  view.owner = std::shared_ptr<void>(array.inc_ref().ptr(), [](void* object) {
    py::gil_scoped_acquire gil;
    py::handle(static_cast<PyObject*>(object)).dec_ref();
  });
  return view;
}

Array view_dlpack(py::handle object, const char* name, std::uintptr_t stream) {
  const auto device = py::cast<py::tuple>(object.attr("__dlpack_device__")());
  const int type = py::cast<int>(device[0]);
  // The protocol's name for CUDA's legacy default stream is 1; 0 is not allowed.
  py::object capsule =
      type == dlpack::kCpu
          ? object.attr("__dlpack__")()
          : object.attr("__dlpack__")(py::arg("stream") = stream == 0 ? std::uintptr_t{1} : stream);
  auto* managed =
      static_cast<dlpack::ManagedTensor*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor"));
  if (managed == nullptr) throw py::error_already_set();
  PyCapsule_SetName(capsule.ptr(), "used_dltensor");  // from here on the tensor is ours to delete

  Array view;
  view.owner = std::shared_ptr<void>(managed, [](void* pointer) {
    py::gil_scoped_acquire gil;
    auto* tensor = static_cast<dlpack::ManagedTensor*>(pointer);
    if (tensor->deleter != nullptr) tensor->deleter(tensor);
  });
  const dlpack::Tensor& tensor = managed->tensor;
  view.name = name;
  view.data = static_cast<char*>(tensor.data) + tensor.byte_offset;
  view.dtype = tensor.dtype;
  switch (tensor.device.type) {
    case dlpack::kCpu:
    case dlpack::kCudaHost:
      view.device = {Device::Kind::cpu, 0};
      break;
    case dlpack::kCuda:
    case dlpack::kCudaManaged:
      view.device = {Device::Kind::cuda, tensor.device.index};
      break;
    default:
      throw std::invalid_argument(std::string(name) +
                                  ": expected an array on the CPU or a CUDA device, got DLPack "
                                  "device type " +
                                  std::to_string(tensor.device.type));
  }
  view.shape.assign(tensor.shape, tensor.shape + tensor.ndim);
  if (tensor.strides != nullptr) {
    view.strides.assign(tensor.strides, tensor.strides + tensor.ndim);
  } else {
    view.strides.resize(view.shape.size());
    std::int64_t stride = 1;
    for (std::size_t axis = view.shape.size(); axis-- > 0;) {
      view.strides[axis] = stride;
      stride *= view.shape[axis];
    }
  }
  return view;
}

/// Are the axes from `first` on dense in row-major order?
bool dense_from(const Array& array, std::size_t first) {
  if (array.size() == 0) return true;  // libraries give empty arrays any strides
  std::int64_t expected = 1;
  for (std::size_t axis = array.shape.size(); axis-- > first;) {
    if (array.shape[axis] > 1 && array.strides[axis] != expected) return false;
    expected *= array.shape[axis];
  }
  return true;
}

}  // namespace

std::int64_t Array::size() const {
  std::int64_t product = 1;
  for (const std::int64_t extent : shape) product *= extent;
  return product;
}

std::string Array::shape_text() const {
  std::string text = "(";
  for (const std::int64_t extent : shape) {
    text += std::to_string(extent);
    text += ", ";
  }
  if (shape.size() > 1) text.erase(text.size() - 2);
  if (shape.size() == 1) text.pop_back();
  return text + ")";
}

std::string Array::dtype_text() const {
  const char* kind = dtype.code == dlpack::kFloat    ? "float"
                     : dtype.code == dlpack::kInt    ? "int"
                     : dtype.code == dlpack::kUInt   ? "uint"
                     : dtype.code == dlpack::kBfloat ? "bfloat"
                     : dtype.code == dlpack::kBool   ? "bool"
                                                     : "unsupported type of bits ";
  return kind + std::to_string(dtype.bits);
}

DType Array::float_dtype() const {
  if (dtype == dlpack::DataType{dlpack::kFloat, 32, 1}) return DType::float32;
  if (dtype == dlpack::DataType{dlpack::kFloat, 64, 1}) return DType::float64;
  if (dtype == dlpack::DataType{dlpack::kFloat, 16, 1}) return DType::float16;
  if (dtype == dlpack::DataType{dlpack::kBfloat, 16, 1}) return DType::bfloat16;
  throw py::type_error(name + ": expected a floating-point array, got " + dtype_text());
}

std::int64_t* Array::int64_data() const {
  if (dtype != dlpack::DataType{dlpack::kInt, 64, 1}) {
    throw py::type_error(name + ": expected an int64 array, got " + dtype_text());
  }
  return static_cast<std::int64_t*>(data);
}

const Array& Array::writable() const {
  if (read_only) throw std::invalid_argument(name + ": expected a writable array, got read-only");
  return *this;
}

ConstVectorView Array::flat() const {
  if (!dense_from(*this, 0)) {
    throw std::invalid_argument(name + ": expected a C-contiguous array, got strided " +
                                shape_text());
  }
  return {data, size(), float_dtype()};
}

ConstMatrixView Array::rows() const {
  const MatrixView view = mutable_rows();
  return {view.data, view.rows, view.cols, view.row_stride, view.dtype};
}

MatrixView Array::mutable_rows() const {
  if (shape.empty())
    throw std::invalid_argument(name + ": expected at least one axis, got a scalar");
  std::int64_t cols = 1;
  for (std::size_t axis = 1; axis < shape.size(); ++axis) cols *= shape[axis];
  const bool rows_apart = shape[0] <= 1 || cols == 0 || strides[0] >= cols;
  if (!dense_from(*this, 1) || !rows_apart) {
    throw std::invalid_argument(name + ": expected dense rows (any stride between them), got " +
                                shape_text() + " with other strides");
  }
  return {data, shape[0], cols, shape[0] <= 1 || cols == 0 ? cols : strides[0], float_dtype()};
}

Array view(py::handle object, const char* name, std::uintptr_t stream) {
  if (py::isinstance<py::array>(object)) {
    return view_numpy(py::reinterpret_borrow<py::array>(object), name);
  }
  if (py::hasattr(object, "__dlpack__") && py::hasattr(object, "__dlpack_device__")) {
    return view_dlpack(object, name, stream);
  }
  throw py::type_error(std::string(name) +
                       ": expected a NumPy array, a torch tensor or another "
                       "DLPack producer, got " +
                       std::string(py::str(py::type::of(object).attr("__name__"))));
}

Exec exec_for(std::initializer_list<const Array*> arrays, int num_threads, std::uintptr_t stream) {
  const Array& first = **arrays.begin();
  for (const Array* array : arrays) {
    if (array->device != first.device) {
      throw std::invalid_argument(array->name + ": expected the device of " + first.name +
                                  ", got another one");
    }
  }
  return {num_threads, first.device, reinterpret_cast<void*>(stream)};
}

}  // namespace tamis::bindings
