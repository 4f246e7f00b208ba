// Shows that a machine, real or emulated, executes 128-bit NEON, and executes it right.
//
//   neon_probe               every case below (AArch64 only)
//   neon_probe --reference   only the scalar side, on any processor
//
// Oracle: plain C++ per lane. In an emulator both sides are emulated, so the digest of the scalar
// side is compared with kReference, which a real x86-64 processor produced: every scalar result is
// fixed by IEEE 754 and by C++ alone. Exit status: 0 all agree, 1 a disagreement, 77 no NEON here.

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <iterator>

#if defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace {

using u8 = std::uint8_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using i32 = std::int32_t;

constexpr int kRounds = 4000;
constexpr u64 kReference = 0xd3869fced9d8846bu;

struct Input {
  u8 a[16];
  u8 b[16];
  u8 c[16];
};

struct Case {
  const char* name;
  int lane_bytes;  // lanes that are NaN on both sides agree; 0 for integers
  void (*vector)(const Input&, u8*);
  void (*scalar)(const Input&, u8*);
};

u64 next_random(u64& state) {  // splitmix64 (Steele, Lea and Flood 2014)
  u64 z = (state += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

template <class T>
T lane(const u8* bytes, int i) {
  T value;
  std::memcpy(&value, bytes + i * static_cast<int>(sizeof(T)), sizeof(T));
  return value;
}

template <class T>
void set_lane(u8* bytes, int i, T value) {
  std::memcpy(bytes + i * static_cast<int>(sizeof(T)), &value, sizeof(T));
}

template <class T, class F>
void lanes(const Input& in, u8* out, F f) {
  for (int i = 0; i < 16 / static_cast<int>(sizeof(T)); ++i) {
    set_lane<T>(out, i, f(lane<T>(in.a, i), lane<T>(in.b, i), lane<T>(in.c, i)));
  }
}

#if defined(__aarch64__)
#define VECTOR_FUNCTION(NAME, REGISTER, VECTOR)  \
  void vector_##NAME(const Input& in, u8* out) { \
    REGISTER a, b, c;                            \
    std::memcpy(&a, in.a, 16);                   \
    std::memcpy(&b, in.b, 16);                   \
    std::memcpy(&c, in.c, 16);                   \
    const REGISTER result = VECTOR;              \
    std::memcpy(out, &result, 16);               \
  }
#else
#define VECTOR_FUNCTION(NAME, REGISTER, VECTOR) \
  constexpr void (*vector_##NAME)(const Input&, u8*) = nullptr;
#endif

#define LANE_CASE(NAME, TYPE, REGISTER, VECTOR, ...)                                          \
  VECTOR_FUNCTION(NAME, REGISTER, VECTOR)                                                     \
  void scalar_##NAME(const Input& in, u8* out) {                                              \
    lanes<TYPE>(in, out,                                                                      \
                []([[maybe_unused]] TYPE a, [[maybe_unused]] TYPE b, [[maybe_unused]] TYPE c) \
                    ->TYPE __VA_ARGS__);                                                      \
  }
#define F32(NAME, VECTOR, ...) LANE_CASE(NAME, float, float32x4_t, VECTOR, __VA_ARGS__)
#define F64(NAME, VECTOR, ...) LANE_CASE(NAME, double, float64x2_t, VECTOR, __VA_ARGS__)
#define U32(NAME, VECTOR, ...) LANE_CASE(NAME, u32, uint32x4_t, VECTOR, __VA_ARGS__)

// clang-format off
F32(add_f32, vaddq_f32(a, b), { return a + b; })
F32(sub_f32, vsubq_f32(a, b), { return a - b; })
F32(mul_f32, vmulq_f32(a, b), { return a * b; })
F32(div_f32, vdivq_f32(a, b), { return a / b; })
F32(sqrt_f32, vsqrtq_f32(b), { return std::sqrt(b); })
F32(fma_f32, vfmaq_f32(c, a, b), { return std::fma(a, b, c); })
F32(fms_f32, vfmsq_f32(c, a, b), { return std::fma(-a, b, c); })
F32(less_f32, vbslq_f32(vcltq_f32(a, b), a, c), { return a < b ? a : c; })
F32(round_f32, vrndnq_f32(b), { return std::nearbyint(b); })
F32(floor_f32, vrndmq_f32(b), { return std::floor(b); })
F32(from_i32, vcvtq_f32_s32(vreinterpretq_s32_f32(b)), { return static_cast<float>(std::bit_cast<i32>(b)); })
F32(from_u32, vcvtq_f32_u32(vreinterpretq_u32_f32(b)), { return static_cast<float>(std::bit_cast<u32>(b)); })
F64(add_f64, vaddq_f64(a, b), { return a + b; })
F64(div_f64, vdivq_f64(a, b), { return a / b; })
F64(sqrt_f64, vsqrtq_f64(b), { return std::sqrt(b); })
F64(fma_f64, vfmaq_f64(c, a, b), { return std::fma(a, b, c); })
F64(to_single, vcvt_f64_f32(vcvt_f32_f64(b)), { return static_cast<float>(b); })
F64(from_u64, vcvtq_f64_u64(vreinterpretq_u64_f64(b)), { return static_cast<double>(std::bit_cast<u64>(b)); })
U32(mul_u32, vmulq_u32(a, b), { return a * b; })
U32(rotl_u32, vsriq_n_u32(vshlq_n_u32(b, 13), b, 19), { return std::rotl(b, 13); })
U32(min_u32, vminq_u32(a, b), { return a < b ? a : b; })
U32(select_u32, vbslq_u32(a, b, c), { return (a & b) | (~a & c); })
LANE_CASE(mull_u32, u64, uint64x2_t, vmull_u32(vmovn_u64(a), vmovn_u64(b)), { return (a & 0xffffffffu) * (b & 0xffffffffu); })
LANE_CASE(high_u32, u64, uint64x2_t, vshrq_n_u64(vmull_u32(vmovn_u64(a), vmovn_u64(b)), 32), { return (a & 0xffffffffu) * (b & 0xffffffffu) >> 32; })

VECTOR_FUNCTION(zip, uint32x4_t, vextq_u32(vzip1q_u32(a, b), vzip2q_u32(b, c), 3))
// clang-format on
void scalar_zip(const Input& in, u8* out) {
  set_lane(out, 0, lane<u32>(in.b, 1));
  set_lane(out, 1, lane<u32>(in.b, 2));
  set_lane(out, 2, lane<u32>(in.c, 2));
  set_lane(out, 3, lane<u32>(in.b, 3));
}

#define CASE(NAME, BYTES) {#NAME, BYTES, vector_##NAME, scalar_##NAME}
const Case kCases[] = {
    CASE(add_f32, 4),   CASE(sub_f32, 4),    CASE(mul_f32, 4),  CASE(div_f32, 4),
    CASE(sqrt_f32, 4),  CASE(fma_f32, 4),    CASE(fms_f32, 4),  CASE(less_f32, 4),
    CASE(round_f32, 4), CASE(floor_f32, 4),  CASE(from_i32, 4), CASE(from_u32, 4),
    CASE(add_f64, 8),   CASE(div_f64, 8),    CASE(sqrt_f64, 8), CASE(fma_f64, 8),
    CASE(to_single, 8), CASE(from_u64, 8),   CASE(mul_u32, 0),  CASE(rotl_u32, 0),
    CASE(min_u32, 0),   CASE(select_u32, 0), CASE(mull_u32, 0), CASE(high_u32, 0),
    CASE(zip, 0),
};

// Replaces NaNs by one pattern: which payload survives is not what is tested here.
void canonical(int lane_bytes, u8* bytes) {
  for (int i = 0; lane_bytes == 4 && i < 4; ++i) {
    if (std::isnan(lane<float>(bytes, i))) {
      set_lane(bytes, i, 0x7fc00000u);
    }
  }
  for (int i = 0; lane_bytes == 8 && i < 2; ++i) {
    if (std::isnan(lane<double>(bytes, i))) {
      set_lane(bytes, i, u64{0x7ff8} << 48);
    }
  }
}

// Half random bits (with infinities for NaNs), half moderate numbers, and some denormals and zeros.
void fill(u8* bytes, int lane_bytes, u64& state) {
  for (int i = 0; i < 16 / lane_bytes; ++i) {
    const u64 r = next_random(state);
    const u64 kind = next_random(state) % 8;
    if (lane_bytes == 8) {
      u64 value = kind < 4 ? (r & 0x800fffffffffffffu) | (1013 + r % 20) << 52 : r;
      value = kind == 4 ? r & 0x800fffffffffffffu : kind == 5 ? r & u64{1} << 63 : value;
      const bool nan = std::isnan(std::bit_cast<double>(value));
      set_lane(bytes, i, nan ? u64{0x7ff} << 52 : value);
    } else {
      const u32 s = static_cast<u32>(r >> 32);
      u32 value = kind < 4 ? (s & 0x807fffffu) | static_cast<u32>(117 + r % 20) << 23 : s;
      value = kind == 4 ? s & 0x807fffffu : kind == 5 ? s & 0x80000000u : value;
      set_lane(bytes, i, std::isnan(std::bit_cast<float>(value)) ? 0x7f800000u : value);
    }
  }
}

}  // namespace

int main(int count, char** arguments) {
  const bool reference_only = count == 2 && std::strcmp(arguments[1], "--reference") == 0;
  if (!reference_only && kCases[0].vector == nullptr) {
    std::printf("this program was built without NEON\n");
    return 77;
  }
  int failures = 0;
  u64 digest = 0xcbf29ce484222325u;
  for (const Case& test : kCases) {
    u64 state = 20190;
    int bad = 0;
    for (int round = 0; round < kRounds; ++round) {
      Input in;
      u8 want[16];
      u8 got[16];
      const int width = test.lane_bytes != 0 ? test.lane_bytes : 4 + 4 * (round % 2);
      fill(in.a, width, state);
      fill(in.b, width, state);
      fill(in.c, width, state);
      test.scalar(in, want);
      canonical(test.lane_bytes, want);
      for (const u8 byte : want) {
        digest = (digest ^ byte) * 0x100000001b3u;
      }
      if (!reference_only) {
        test.vector(in, got);
        canonical(test.lane_bytes, got);
        bad += std::memcmp(got, want, 16) != 0;
      }
    }
    if (bad != 0) {
      std::printf("FAIL %s: %d of %d inputs\n", test.name, bad, kRounds);
      ++failures;
    }
  }
  if (digest != kReference) {
    std::printf("FAIL reference: the scalar digest is %016llx\n",
                static_cast<unsigned long long>(digest));
    ++failures;
  }
  std::printf("%zu cases x %d inputs%s: %d failures\n", std::size(kCases), kRounds,
              reference_only ? ", scalar side only" : "", failures);
  return failures == 0 ? 0 : 1;
}
