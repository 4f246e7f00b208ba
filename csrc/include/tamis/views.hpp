// Plain views of caller-owned memory. A view never owns, allocates or copies.
#pragma once

#include <cstdint>

namespace tamis {

/// Element types that can cross the public interface.
enum class DType : std::uint8_t { float32, float16, bfloat16, float64 };

/// Where a pointer lives. `index` is the CUDA device ordinal and 0 on the CPU.
struct Device {
  enum class Kind : std::uint8_t { cpu, cuda };
  Kind kind = Kind::cpu;
  std::int32_t index = 0;

  friend bool operator==(const Device&, const Device&) = default;
};

/// A dense vector of `size` elements, stride one.
struct VectorView {
  void* data = nullptr;
  std::int64_t size = 0;
  DType dtype = DType::float32;
};
struct ConstVectorView {
  const void* data = nullptr;
  std::int64_t size = 0;
  DType dtype = DType::float32;
};

/// A row-major matrix: element (i, j) lies at `data + (i * row_stride + j)` elements.
struct MatrixView {
  void* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t row_stride = 0;
  DType dtype = DType::float32;
};
struct ConstMatrixView {
  const void* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t row_stride = 0;
  DType dtype = DType::float32;
};

/// Size of one element in bytes.
constexpr std::int64_t size_of(DType dtype) {
  switch (dtype) {
    case DType::float64:
      return 8;
    case DType::float32:
      return 4;
    default:
      return 2;
  }
}

/// "float32", "float16", "bfloat16" or "float64".
constexpr const char* name_of(DType dtype) {
  switch (dtype) {
    case DType::float32:
      return "float32";
    case DType::float16:
      return "float16";
    case DType::bfloat16:
      return "bfloat16";
    default:
      return "float64";
  }
}

}  // namespace tamis
