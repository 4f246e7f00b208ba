// What every backend of gaussian_noise defines.
#pragma once

#include <cstdint>

#include "src/detail/isa.hpp"
#include "tamis/gaussian_noise.hpp"

namespace tamis {
namespace detail {

/// A checked call: both pointers valid, every size within the contract's limits.
struct GaussianNoiseTask {
  ConstVectorView x;
  MatrixView out;
  float sigma;
  NoiseKey key;
  std::uint32_t start;
  ChannelAffine affine;
  std::int64_t channel_size;  ///< elements of a channel
};

}  // namespace detail

#define TAMIS_DECLARE(isa)                                                                   \
  namespace cpu::isa {                                                                       \
  /** Rows [row_begin, row_end) and elements [elem_begin, elem_end); elem_begin % 4 == 0. */ \
  void gaussian_noise(const detail::GaussianNoiseTask& task, std::int64_t row_begin,         \
                      std::int64_t row_end, std::int64_t elem_begin, std::int64_t elem_end); \
  }
TAMIS_FOR_EACH_ISA(TAMIS_DECLARE)
#undef TAMIS_DECLARE

namespace cuda {
void gaussian_noise(const detail::GaussianNoiseTask& task, const Exec& exec);
}
}  // namespace tamis
