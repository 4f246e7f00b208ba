// Which instruction set's copy of a kernel to call.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace tamis::detail {

/// Order: slowest first, so that the last one that runs here is the default.
enum class Isa : std::uint8_t { baseline, neon, avx2, avx512 };
inline constexpr std::size_t kIsaCount = 4;
inline constexpr std::array<const char*, kIsaCount> kIsaNames = {"baseline", "neon", "avx2",
                                                                 "avx512"};

/// Compiled into this library?
constexpr bool isa_built(Isa isa) {
  switch (isa) {
    case Isa::baseline:
      return true;
#if defined(TAMIS_HAVE_NEON)
    case Isa::neon:
      return true;
#endif
#if defined(TAMIS_HAVE_AVX2)
    case Isa::avx2:
      return true;
#endif
#if defined(TAMIS_HAVE_AVX512)
    case Isa::avx512:
      return true;
#endif
    default:
      return false;
  }
}

/// The instruction set in use (see tamis::active_isa). Cheap after the first call.
Isa active();

// TAMIS_FOR_EACH_ISA(M) applies M to every instruction set that was compiled in.
#if defined(TAMIS_HAVE_NEON)
#define TAMIS_IF_NEON(M) M(neon)
#else
#define TAMIS_IF_NEON(M)
#endif
#if defined(TAMIS_HAVE_AVX2)
#define TAMIS_IF_AVX2(M) M(avx2)
#else
#define TAMIS_IF_AVX2(M)
#endif
#if defined(TAMIS_HAVE_AVX512)
#define TAMIS_IF_AVX512(M) M(avx512)
#else
#define TAMIS_IF_AVX512(M)
#endif
#define TAMIS_FOR_EACH_ISA(M) M(baseline) TAMIS_IF_NEON(M) TAMIS_IF_AVX2(M) TAMIS_IF_AVX512(M)

}  // namespace tamis::detail
