// Philox4x32-10, the counter-based generator behind all of tamis's randomness.
//
// Source: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
// A pure function of (counter, key): no state, no order, the same words on every machine. One
// definition serves host and device. tests/data/philox_kat.txt holds known answers that the C++,
// CUDA and Python tests all read.
#pragma once

#include <cstdint>

// Forced inline: the SIMD kernels depend on it, and a call would cost more than the work.
#if defined(__CUDACC__)
#define TAMIS_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define TAMIS_HOST_DEVICE inline __attribute__((always_inline))
#endif

namespace tamis {

inline constexpr std::uint32_t kPhiloxMul0 = 0xD2511F53u;
inline constexpr std::uint32_t kPhiloxMul1 = 0xCD9E8D57u;
inline constexpr std::uint32_t kPhiloxWeyl0 = 0x9E3779B9u;  // fraction of the golden ratio
inline constexpr std::uint32_t kPhiloxWeyl1 = 0xBB67AE85u;  // fraction of sqrt(3)
inline constexpr int kPhiloxRounds = 10;

/// Four 32-bit words: a counter, or the random words made from it.
struct Words4 {
  std::uint32_t w[4];
};

/// The four random words of `counter` under the 64-bit `key` (low half first).
/// `static`, so that files compiled for different instruction sets cannot share one copy.
static TAMIS_HOST_DEVICE Words4 philox4x32_10(Words4 counter, std::uint64_t key) {
  std::uint32_t k0 = static_cast<std::uint32_t>(key);
  std::uint32_t k1 = static_cast<std::uint32_t>(key >> 32);
  std::uint32_t c0 = counter.w[0], c1 = counter.w[1], c2 = counter.w[2], c3 = counter.w[3];
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const std::uint64_t p0 = static_cast<std::uint64_t>(kPhiloxMul0) * c0;
    const std::uint64_t p1 = static_cast<std::uint64_t>(kPhiloxMul1) * c2;
    c0 = static_cast<std::uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c1 = static_cast<std::uint32_t>(p1);
    c2 = static_cast<std::uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c3 = static_cast<std::uint32_t>(p0);
    k0 += kPhiloxWeyl0;
    k1 += kPhiloxWeyl1;
  }
  return {{c0, c1, c2, c3}};
}

}  // namespace tamis
