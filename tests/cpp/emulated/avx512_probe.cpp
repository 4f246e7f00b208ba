// Shows that a machine, real or emulated, executes AVX-512 F, DQ, BW and VL, and executes it right.
//
//   avx512_probe                 every case below, the masked memory cases, three threads
//   avx512_probe --reference     only the scalar side, on any x86-64 processor with FMA and F16C
//   avx512_probe --spin N        N dependent groups of eight 512-bit fmadd, to measure the speed
//
// Oracle: each case compares one AVX-512 instruction with plain C++ per lane, over inputs with
// denormals, zeros, infinities and random bit patterns. In an emulator both sides are emulated, so
// the digest of the scalar side is compared with kReference, which a real processor produced.
// Exit status: 0 all agree, 1 a disagreement, 77 no AVX-512 here.

#include <immintrin.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <thread>
#include <vector>

#include "avx512_probe_cases.hpp"

namespace {

constexpr int kRounds = 400;
constexpr u64 kReference = 0x0c645e3c8c1b2d22u;

// --- the comparison
// -------------------------------------------------------------------------------

// Replaces NaNs by one pattern: which payload survives is not what is tested here.
void canonical(int lane_bytes, u8* bytes) {
  for (int i = 0; lane_bytes == 4 && i < 16; ++i) {
    if (std::isnan(lane<float>(bytes, i))) {
      set_lane(bytes, i, 0x7fc00000u);
    }
  }
  for (int i = 0; lane_bytes == 8 && i < 8; ++i) {
    if (std::isnan(lane<double>(bytes, i))) {
      set_lane(bytes, i, u64{0x7ff8} << 48);
    }
  }
}

// Lanes of one size: random bits, moderate numbers, small integers, denormals, zeros, infinities.
void fill(u8* bytes, int lane_bytes, u64& state) {
  for (int i = 0; i < 64 / lane_bytes; ++i) {
    const u64 r = next_random(state);
    const u64 kind = next_random(state) % 8;
    if (lane_bytes == 8) {
      const u64 moderate = (r & 0x800fffffffffffffu) | (1013 + r % 20) << 52;
      const u64 special = (r & u64{1} << 63) | (r % 3 == 0 ? u64{0x7ff} << 52 : 0);
      const u64 value = kind < 4   ? moderate
                        : kind < 5 ? r & 0x800fffffffffffffu
                        : kind < 6 ? r % 80
                        : kind < 7 ? special
                                   : r;
      set_lane(bytes, i, std::isnan(bits(value)) ? moderate : value);
    } else {
      const u32 s = static_cast<u32>(r >> 32);
      const u32 moderate = (s & 0x807fffffu) | static_cast<u32>(117 + r % 20) << 23;
      const u32 special = (s & 0x80000000u) | (r % 3 == 0 ? 0x7f800000u : 0);
      const u32 value = kind < 4   ? moderate
                        : kind < 5 ? s & 0x807fffffu
                        : kind < 6 ? s % 40
                        : kind < 7 ? special
                                   : s;
      set_lane(bytes, i, std::isnan(bits(value)) ? moderate : value);
    }
  }
}

// Returns the number of cases that disagree; digest covers every scalar result.
int compare(bool with_vectors, u64& digest) {
  int failures = 0;
  digest = 0xcbf29ce484222325u;
  for (const Case& test : kCases) {
    u64 state = 20190;
    int bad = 0;
    for (int round = 0; round < kRounds; ++round) {
      Input in;
      alignas(64) u8 want[64];
      alignas(64) u8 got[64];
      const int width = test.lane_bytes != 0 ? test.lane_bytes : 4 + 4 * (round % 2);
      fill(in.a, width, state);
      fill(in.b, width, state);
      fill(in.c, width, state);
      in.mask = round % 4 == 0 ? ~u64{0} : next_random(state);
      test.scalar(in, want);
      canonical(test.lane_bytes, want);
      for (const u8 byte : want) {
        digest = (digest ^ byte) * 0x100000001b3u;
      }
      if (with_vectors) {
        test.vector(in, got);
        canonical(test.lane_bytes, got);
        bad += std::memcmp(got, want, 64) != 0;
      }
    }
    if (bad != 0 && test.known_defect != nullptr) {
      std::printf("known defect, %s: %d of %d inputs (%s)\n", test.name, bad, kRounds,
                  test.known_defect);
    } else if (bad != 0) {
      std::printf("FAIL %s: %d of %d inputs\n", test.name, bad, kRounds);
      ++failures;
    }
  }
  return failures;
}

// Masked-off lanes must neither be written nor fault: the vector straddles an unmapped page.
V512 bool masked_memory_is_safe() {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  void* two = mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (two == MAP_FAILED || mprotect(static_cast<u8*>(two) + page, page, PROT_NONE) != 0) {
    return false;
  }
  auto* end = reinterpret_cast<float*>(static_cast<u8*>(two) + page);
  bool good = true;
  for (int n = 0; n < 16; ++n) {
    const auto mask = static_cast<__mmask16>((1u << n) - 1);
    for (int i = 1; i <= 16; ++i) {
      end[-i] = 100.0f;
    }
    _mm512_mask_storeu_ps(end - n, mask, _mm512_set1_ps(2.0f));
    const __m512 back = _mm512_maskz_loadu_ps(mask, end - n);
    good = good && _mm512_reduce_add_ps(back) == 2.0f * static_cast<float>(n);
    for (int i = 1; i <= 16; ++i) {
      good = good && end[-i] == (i <= n ? 2.0f : 100.0f);
    }
  }
  munmap(two, 2 * page);
  return good;
}

// Eight chains in registers; written in assembly so that EVEX-encoded 512-bit fma is what runs.
V512 double spin(u64 groups, float start) {
  __m512 x[8];
  for (int i = 0; i < 8; ++i) {
    x[i] = _mm512_set1_ps(start + static_cast<float>(i));
  }
  const __m512 half = _mm512_set1_ps(0.5f);
  const __m512 one = _mm512_set1_ps(1.0f);
  for (u64 n = 0; n < groups; ++n) {
    __asm__ volatile(
        "vfmadd213ps %9, %8, %0\n\tvfmadd213ps %9, %8, %1\n\t"
        "vfmadd213ps %9, %8, %2\n\tvfmadd213ps %9, %8, %3\n\t"
        "vfmadd213ps %9, %8, %4\n\tvfmadd213ps %9, %8, %5\n\t"
        "vfmadd213ps %9, %8, %6\n\tvfmadd213ps %9, %8, %7"
        : "+v"(x[0]), "+v"(x[1]), "+v"(x[2]), "+v"(x[3]), "+v"(x[4]), "+v"(x[5]), "+v"(x[6]),
          "+v"(x[7])
        : "v"(half), "v"(one));
  }
  double sum = 0;
  for (const __m512& chain : x) {
    sum += static_cast<double>(_mm512_reduce_add_ps(chain));
  }
  return sum;
}

// x <- x / 2 + 1 is exact for n steps from these starts: 2 + (start - 2) / 2^n in every lane.
bool threads_keep_their_registers() {
  std::vector<double> sums(3);
  {
    std::vector<std::jthread> threads;
    for (std::size_t t = 0; t < sums.size(); ++t) {
      threads.emplace_back([&sums, t] {
        for (int repeat = 0; repeat < 4000; ++repeat) {
          sums[t] += spin(12, 4096.0f * static_cast<float>(t));
        }
      });
    }
  }
  bool good = true;
  for (std::size_t t = 0; t < sums.size(); ++t) {
    double want = 0;
    for (int i = 0; i < 8; ++i) {
      want += 16 * (2 + (4096.0 * static_cast<double>(t) + i - 2) / 4096);
    }
    good = good && std::fabs(sums[t] - 4000 * want) < 1e-6 * 4000 * want;
  }
  return good;
}

bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
}

}  // namespace

int main(int count, char** arguments) {
  const bool reference_only = count == 2 && std::strcmp(arguments[1], "--reference") == 0;
  if (!reference_only && !has_avx512()) {
    std::printf("this machine has no AVX-512 F, DQ, BW and VL\n");
    return 77;
  }
  if (count == 3 && std::strcmp(arguments[1], "--spin") == 0) {
    const double sum = spin(std::strtoull(arguments[2], nullptr, 10), 3.0f);
    std::printf("8 x %s fmadd of 16 floats, sum %.6f\n", arguments[2], sum);
    return 0;
  }
  u64 digest = 0;
  int failures = compare(!reference_only, digest);
  if (digest != kReference) {
    std::printf("FAIL reference: the scalar digest is %016llx\n",
                static_cast<unsigned long long>(digest));
    ++failures;
  }
  if (!reference_only && !masked_memory_is_safe()) {
    std::printf("FAIL masked memory\n");
    ++failures;
  }
  if (!reference_only && !threads_keep_their_registers()) {
    std::printf("FAIL threads\n");
    ++failures;
  }
  std::printf("%zu cases x %d inputs%s: %d failures\n", std::size(kCases), kRounds,
              reference_only ? ", scalar side only" : ", masked memory, threads", failures);
  return failures == 0 ? 0 : 1;
}
