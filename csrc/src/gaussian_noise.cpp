#include "tamis/gaussian_noise.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "src/detail/check.hpp"
#include "src/detail/gaussian_noise_backend.hpp"
#include "src/detail/thread_pool.hpp"

namespace tamis {
namespace {

using detail::text;

constexpr std::uint64_t kMaxSamples = std::uint64_t{1} << 32;
constexpr std::int64_t kMaxElements = std::int64_t{1} << 34;

[[noreturn]] void fail(const std::string& expected, const std::string& got) {
  detail::fail("gaussian_noise", expected, got);
}

/// Refuses an out that shares memory with one of its inputs.
void check_apart(const MatrixView& out, const char* name, const void* data, std::int64_t bytes) {
  const auto* begin = static_cast<const char*>(data);
  const auto* out_begin = static_cast<const char*>(out.data);
  const auto* out_end =
      out_begin + ((out.rows - 1) * out.row_stride + out.cols) * size_of(out.dtype);
  if (begin < out_end && out_begin < begin + bytes) {
    fail(text("out apart from ", name), "overlapping memory");
  }
}

void check(const ConstVectorView& x, const MatrixView& out, float sigma, std::uint64_t start,
           const ChannelAffine& affine, const NoiseKey& key) {
  if (x.dtype == DType::float64) fail("x of float32, float16 or bfloat16", "float64");
  if (out.dtype == DType::float64) fail("out of float32, float16 or bfloat16", "float64");
  if (x.size < 0 || x.size > kMaxElements) {
    fail("x of at most 2^34 elements", text(x.size));
  }
  if (out.rows < 0 || out.cols != x.size) {
    fail(text("out of shape (n, ", x.size, ")"), text("(", out.rows, ", ", out.cols, ")"));
  }
  if (out.rows > 1 && out.row_stride < out.cols) {
    fail(text("out.row_stride >= ", out.cols), text(out.row_stride));
  }
  if (!(sigma >= 0) || std::isinf(sigma)) fail("a finite sigma >= 0", text(sigma));
  if (start > kMaxSamples || static_cast<std::uint64_t>(out.rows) > kMaxSamples - start) {
    fail("start + n <= 2^32", text(start, " + ", out.rows));
  }
  if ((affine.scale == nullptr) != (affine.offset == nullptr)) {
    fail("both scale and offset, or neither", "one");
  }
  if (affine.channels < 1 || x.size % affine.channels != 0) {
    fail(text("affine.channels >= 1 that divide ", x.size), text(affine.channels));
  }
  if (x.size > 0 && out.rows > 0) {
    if (x.data == nullptr || out.data == nullptr) fail("non-null data", "null");
    check_apart(out, "x", x.data, x.size * size_of(x.dtype));
    if (affine.scale != nullptr) {
      const std::int64_t bytes = affine.channels * size_of(DType::float32);
      check_apart(out, "scale", affine.scale, bytes);
      check_apart(out, "offset", affine.offset, bytes);
    }
    if (key.image_at != nullptr) check_apart(out, "image_at", key.image_at, sizeof(*key.image_at));
  }
}

using Kernel = void (*)(const detail::GaussianNoiseTask&, std::int64_t, std::int64_t, std::int64_t,
                        std::int64_t);

Kernel select_kernel() {
  switch (detail::active()) {
#define TAMIS_CASE(isa)  \
  case detail::Isa::isa: \
    return cpu::isa::gaussian_noise;
    TAMIS_FOR_EACH_ISA(TAMIS_CASE)
#undef TAMIS_CASE
    default:
      return cpu::baseline::gaussian_noise;
  }
}

}  // namespace

void gaussian_noise(ConstVectorView x, MatrixView out, float sigma, NoiseKey key,
                    std::uint64_t start, const Exec& exec, const ChannelAffine& affine) {
  check(x, out, sigma, start, affine, key);
  if (out.rows == 0 || out.cols == 0) return;
  if (key.image_at != nullptr && exec.device.kind == Device::Kind::cpu) {
    key.image = static_cast<std::uint32_t>(*key.image_at);
  }
  const detail::GaussianNoiseTask task{
      x, out, sigma, key, static_cast<std::uint32_t>(start), affine, x.size / affine.channels};
  if (exec.device.kind == Device::Kind::cuda) return cuda::gaussian_noise(task, exec);

  // Tiles of about 16K values: large enough to hide the hand-over, small enough to balance. A tile
  // is some whole rows, or, for long rows, a piece of one.
  constexpr std::int64_t kTile = 16384;
  const std::int64_t d = out.cols;
  const std::int64_t rows_per_tile = std::max<std::int64_t>(1, kTile / d);
  const std::int64_t pieces = std::max<std::int64_t>(1, d / kTile);
  const std::int64_t piece = (d / pieces + 63) / 64 * 64;
  const std::int64_t row_tiles = (out.rows + rows_per_tile - 1) / rows_per_tile;
  const Kernel kernel = select_kernel();
  detail::parallel_for(row_tiles * pieces, exec.num_threads, [&](std::int64_t tile) {
    const std::int64_t row = tile / pieces * rows_per_tile;
    const std::int64_t begin = std::min(d, tile % pieces * piece);
    const std::int64_t end = tile % pieces == pieces - 1 ? d : std::min(d, begin + piece);
    kernel(task, row, std::min(out.rows, row + rows_per_tile), begin, end);
  });
}

}  // namespace tamis
