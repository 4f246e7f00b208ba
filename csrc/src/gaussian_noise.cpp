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

void check(const ConstVectorView& x, const MatrixView& out, float sigma, std::uint64_t start) {
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
  if (x.size > 0 && out.rows > 0) {
    if (x.data == nullptr || out.data == nullptr) fail("non-null data", "null");
    const auto* x_begin = static_cast<const char*>(x.data);
    const auto* x_end = x_begin + x.size * size_of(x.dtype);
    const auto* out_begin = static_cast<const char*>(out.data);
    const auto* out_end =
        out_begin + ((out.rows - 1) * out.row_stride + out.cols) * size_of(out.dtype);
    if (x_begin < out_end && out_begin < x_end) fail("out apart from x", "overlapping memory");
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
                    std::uint64_t start, const Exec& exec) {
  check(x, out, sigma, start);
  if (out.rows == 0 || out.cols == 0) return;
  const detail::GaussianNoiseTask task{x, out, sigma, key, static_cast<std::uint32_t>(start)};
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
