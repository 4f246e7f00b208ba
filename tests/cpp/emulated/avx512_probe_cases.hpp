// The cases of avx512_probe.cpp: for each, one AVX-512 instruction and plain C++ that does the
// same. Every vector function works under the mask of its input, so masking is part of every case.

#pragma once

#include <immintrin.h>

#include <bit>
#include <cfenv>
#include <cmath>
#include <cstdint>
#include <cstring>

#define V512 __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,fma,f16c"), noinline))
#define SCALAR __attribute__((target("fma,f16c"), noinline))

namespace {  // one file includes this

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using i16 = std::int16_t;
using i32 = std::int32_t;
using i64 = std::int64_t;

struct Input {
  alignas(64) u8 a[64];
  alignas(64) u8 b[64];
  alignas(64) u8 c[64];
  u64 mask;
};

struct Case {
  const char* name;
  int lane_bytes;  // lanes that are NaN on both sides agree; 0 for integers
  void (*vector)(const Input&, u8*);
  void (*scalar)(const Input&, u8*);
  const char* known_defect = nullptr;  // of an emulator: reported, but no failure of the machine
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
  std::memcpy(&value, bytes + i * sizeof(T), sizeof(T));
  return value;
}

template <class T>
void set_lane(u8* bytes, int i, T value) {
  std::memcpy(bytes + i * sizeof(T), &value, sizeof(T));
}

// out = mask bit ? f(a, b, c) : a, for the lanes of the first `bytes` bytes; the rest is zero.
template <class T, class F>
void lanes(const Input& in, u8* out, F f, int bytes = 64) {
  std::memset(out, 0, 64);
  for (int i = 0; i < bytes / static_cast<int>(sizeof(T)); ++i) {
    const T a = lane<T>(in.a, i);
    const bool chosen = (in.mask >> i & 1) != 0;
    set_lane<T>(out, i, chosen ? f(a, lane<T>(in.b, i), lane<T>(in.c, i)) : a);
  }
}

// --- one pair of functions for each instruction
// ---------------------------------------------------

#define LANE_CASE(NAME, TYPE, REGISTER, VECTOR, ...)                                          \
  V512 void vector_##NAME(const Input& in, u8* out) {                                         \
    REGISTER a, b, c;                                                                         \
    std::memcpy(&a, in.a, sizeof a);                                                          \
    std::memcpy(&b, in.b, sizeof b);                                                          \
    std::memcpy(&c, in.c, sizeof c);                                                          \
    [[maybe_unused]] const u64 m = in.mask;                                                   \
    const REGISTER result = VECTOR;                                                           \
    std::memset(out, 0, 64);                                                                  \
    std::memcpy(out, &result, sizeof result);                                                 \
  }                                                                                           \
  SCALAR void scalar_##NAME(const Input& in, u8* out) {                                       \
    lanes<TYPE>(in, out,                                                                      \
                []([[maybe_unused]] TYPE a, [[maybe_unused]] TYPE b, [[maybe_unused]] TYPE c) \
                    ->TYPE __VA_ARGS__,                                                       \
                static_cast<int>(sizeof(REGISTER)));                                          \
  }

#define M16 static_cast<__mmask16>(m)
#define M8 static_cast<__mmask8>(m)
#define F32(NAME, VECTOR, ...) LANE_CASE(NAME, float, __m512, VECTOR, __VA_ARGS__)
#define F64(NAME, VECTOR, ...) LANE_CASE(NAME, double, __m512d, VECTOR, __VA_ARGS__)
#define INT(NAME, TYPE, VECTOR, ...) LANE_CASE(NAME, TYPE, __m512i, VECTOR, __VA_ARGS__)

float bits(u32 x) { return std::bit_cast<float>(x); }
u32 bits(float x) { return std::bit_cast<u32>(x); }
double bits(u64 x) { return std::bit_cast<double>(x); }
u64 bits(double x) { return std::bit_cast<u64>(x); }

template <class F>
auto rounded(int mode, F f) {
  std::fesetround(mode);
  const auto result = f();
  std::fesetround(FE_TONEAREST);
  return result;
}

template <class T>
T added(T a, T b) {  // not folded, not moved: both must see the rounding mode
  volatile T x = a;
  volatile T y = b;
  volatile T sum = x + y;
  return sum;
}

SCALAR float via_half(float x) { return _cvtsh_ss(_cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT)); }

// clang-format off
F32(add_ps, _mm512_mask_add_ps(a, M16, a, b), { return a + b; })
F32(sub_ps, _mm512_mask_sub_ps(a, M16, a, b), { return a - b; })
F32(mul_ps, _mm512_mask_mul_ps(a, M16, a, b), { return a * b; })
F32(div_ps, _mm512_mask_div_ps(a, M16, a, b), { return a / b; })
F32(sqrt_ps, _mm512_mask_sqrt_ps(a, M16, b), { return std::sqrt(b); })
F32(fmadd_ps, _mm512_mask_fmadd_ps(a, M16, b, c), { return std::fma(a, b, c); })
F32(fmsub_ps, _mm512_mask_fmsub_ps(a, M16, b, c), { return std::fma(a, b, -c); })
F32(fnmadd_ps, _mm512_mask_fnmadd_ps(a, M16, b, c), { return std::fma(-a, b, c); })
F32(min_ps, _mm512_mask_min_ps(a, M16, a, b), { return a < b ? a : b; })
F32(max_ps, _mm512_mask_max_ps(a, M16, a, b), { return a > b ? a : b; })
F32(add_up_ps, _mm512_mask_add_round_ps(a, M16, a, b, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC),
    { return rounded(FE_UPWARD, [&] { return added(a, b); }); })
F32(add_zero_ps, _mm512_mask_add_round_ps(a, M16, a, b, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC),
    { return rounded(FE_TOWARDZERO, [&] { return added(a, b); }); })
F32(round_ps, _mm512_mask_roundscale_ps(a, M16, b, 0x08), { return std::nearbyint(b); })
F32(floor_ps, _mm512_mask_roundscale_ps(a, M16, b, 0x09), { return std::floor(b); })
F32(getexp_ps, _mm512_mask_getexp_ps(a, M16, b), { return std::logb(b); })
F32(scalef_ps, _mm512_mask_scalef_ps(a, M16, b, _mm512_set1_ps(-9.5f)), { return std::ldexp(b, -10); })
F32(abs_ps, _mm512_mask_abs_ps(a, M16, b), { return std::fabs(b); })
F32(xor_ps, _mm512_mask_xor_ps(a, M16, a, b), { return bits(bits(a) ^ bits(b)); })
F32(andnot_ps, _mm512_mask_andnot_ps(a, M16, a, b), { return bits(~bits(a) & bits(b)); })
F32(less_ps, _mm512_mask_mov_ps(a, _mm512_mask_cmp_ps_mask(M16, b, c, _CMP_LT_OQ), b),
    { return b < c ? b : a; })
F32(unord_ps, _mm512_mask_mov_ps(a, _mm512_mask_cmp_ps_mask(M16, b, _mm512_sub_ps(c, c), _CMP_UNORD_Q), b),
    { return std::isnan(c - c) ? b : a; })
F32(from_i32, _mm512_mask_cvtepi32_ps(a, M16, _mm512_castps_si512(b)),
    { return static_cast<float>(static_cast<i32>(bits(b))); })
F32(from_u32, _mm512_mask_cvtepu32_ps(a, M16, _mm512_srli_epi32(_mm512_castps_si512(b), 1)),
    { return static_cast<float>(bits(b) >> 1); })
F32(from_u32_top, _mm512_mask_cvtepu32_ps(a, M16, _mm512_castps_si512(b)),
    { return static_cast<float>(bits(b)); })
F32(to_i32, _mm512_castsi512_ps(_mm512_mask_cvttps_epi32(_mm512_castps_si512(a), M16, b)),
    { return bits(std::fabs(b) < 0x1p31f ? static_cast<u32>(static_cast<i32>(b)) : 0x80000000u); })
F32(to_u32, _mm512_castsi512_ps(_mm512_mask_cvttps_epu32(_mm512_castps_si512(a), M16, b)),
    { return bits(b > -1 && b < 0x1p32f ? static_cast<u32>(static_cast<i64>(b)) : ~0u); })
F32(via_half, _mm512_mask_mov_ps(a, M16, _mm512_cvtph_ps(_mm512_cvtps_ph(b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC))),
    { return via_half(b); })

F64(add_pd, _mm512_mask_add_pd(a, M8, a, b), { return a + b; })
F64(mul_pd, _mm512_mask_mul_pd(a, M8, a, b), { return a * b; })
F64(div_pd, _mm512_mask_div_pd(a, M8, a, b), { return a / b; })
F64(sqrt_pd, _mm512_mask_sqrt_pd(a, M8, b), { return std::sqrt(b); })
F64(fmadd_pd, _mm512_mask_fmadd_pd(a, M8, b, c), { return std::fma(a, b, c); })
F64(fnmadd_pd, _mm512_mask_fnmadd_pd(a, M8, b, c), { return std::fma(-a, b, c); })
F64(max_pd, _mm512_mask_max_pd(a, M8, a, b), { return a > b ? a : b; })
F64(add_down_pd, _mm512_mask_add_round_pd(a, M8, a, b, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC),
    { return rounded(FE_DOWNWARD, [&] { return added(a, b); }); })
F64(round_pd, _mm512_mask_roundscale_pd(a, M8, b, 0x08), { return std::nearbyint(b); })
F64(from_i64, _mm512_mask_cvtepi64_pd(a, M8, _mm512_castpd_si512(b)),
    { return static_cast<double>(static_cast<i64>(bits(b))); })
F64(from_u64, _mm512_mask_cvtepu64_pd(a, M8, _mm512_castpd_si512(b)),
    { return static_cast<double>(bits(b)); })
F64(to_single, _mm512_mask_cvtps_pd(a, M8, _mm512_cvtpd_ps(b)), { return static_cast<float>(b); })
F64(to_i64, _mm512_castsi512_pd(_mm512_mask_cvttpd_epi64(_mm512_castpd_si512(a), M8, b)),
    { return bits(std::fabs(b) < 0x1p63 ? static_cast<u64>(static_cast<i64>(b)) : u64{1} << 63); })

INT(add_epi32, u32, _mm512_mask_add_epi32(a, M16, a, b), { return a + b; })
INT(mullo_epi32, u32, _mm512_mask_mullo_epi32(a, M16, a, b), { return a * b; })
INT(min_epi32, i32, _mm512_mask_min_epi32(a, M16, a, b), { return a < b ? a : b; })
INT(max_epu32, u32, _mm512_mask_max_epu32(a, M16, a, b), { return a > b ? a : b; })
INT(sllv_epi32, u32, _mm512_mask_sllv_epi32(a, M16, a, b), { return b < 32 ? a << b : 0; })
INT(srai_epi32, i32, _mm512_mask_srai_epi32(a, M16, b, 7), { return b >> 7; })
INT(rolv_epi32, u32, _mm512_mask_rolv_epi32(a, M16, a, b), { return std::rotl(a, static_cast<int>(b & 31)); })
INT(ternary, u32, _mm512_mask_ternarylogic_epi32(a, M16, b, c, 0xca), { return (a & b) | (~a & c); })
INT(narrow_epi16, u32, _mm512_mask_cvtepi16_epi32(a, M16, _mm512_cvtepi32_epi16(b)), { return static_cast<u32>(static_cast<i16>(b)); })
INT(test_epi32, u32, _mm512_mask_blend_epi32(static_cast<__mmask16>(M16 & _mm512_test_epi32_mask(b, c)), a, b), { return (b & c) != 0 ? b : a; })
INT(mul_epu32, u64, _mm512_mask_mul_epu32(a, M8, a, b), { return (a & 0xffffffffu) * (b & 0xffffffffu); })
INT(mul_epi32, i64, _mm512_mask_mul_epi32(a, M8, a, b), { return i64{static_cast<i32>(a)} * static_cast<i32>(b); })
INT(mullo_epi64, u64, _mm512_mask_mullo_epi64(a, M8, a, b), { return a * b; })
INT(srlv_epi64, u64, _mm512_mask_srlv_epi64(a, M8, a, b), { return b < 64 ? a >> b : 0; })
INT(srai_epi64, i64, _mm512_mask_srai_epi64(a, M8, b, 9), { return b >> 9; })
INT(min_epu64, u64, _mm512_mask_min_epu64(a, M8, a, b), { return a < b ? a : b; })
INT(ror_epi64, u64, _mm512_mask_ror_epi64(a, M8, b, 13), { return std::rotr(b, 13); })
INT(mullo_epi16, u16, _mm512_mask_mullo_epi16(a, static_cast<__mmask32>(m), a, b), { return static_cast<u16>(u32{a} * b); })
INT(adds_epi16, i16, _mm512_mask_adds_epi16(a, static_cast<__mmask32>(m), a, b),
    { const int sum = a + b; return static_cast<i16>(sum > 32767 ? 32767 : sum < -32768 ? -32768 : sum); })
INT(avg_epu8, u8, _mm512_mask_avg_epu8(a, m, a, b), { return static_cast<u8>((a + b + 1) >> 1); })
INT(equal_epi8, u8, _mm512_mask_mov_epi8(a, _mm512_mask_cmp_epu8_mask(m, b, c, _MM_CMPINT_LE), b), { return b <= c ? b : a; })

LANE_CASE(vl_fmadd_ps, float, __m256, _mm256_mask_fmadd_ps(a, M8, b, c), { return std::fma(a, b, c); })
LANE_CASE(vl_fmadd_pd, double, __m128d, _mm_mask_fmadd_pd(a, M8, b, c), { return std::fma(a, b, c); })
LANE_CASE(vl_mullo_epi64, u64, __m256i, _mm256_mask_mullo_epi64(a, M8, a, b), { return a * b; })
LANE_CASE(vl_rol_epi32, u32, __m256i, _mm256_mask_rol_epi32(a, M8, b, 5), { return std::rotl(b, 5); })
// clang-format on

V512 void vector_permutex2(const Input& in, u8* out) {
  _mm512_store_si512(out,
                     _mm512_permutex2var_epi32(_mm512_load_si512(in.a), _mm512_load_si512(in.c),
                                               _mm512_load_si512(in.b)));
}
void scalar_permutex2(const Input& in, u8* out) {
  for (int i = 0; i < 16; ++i) {
    const u32 index = lane<u32>(in.c, i) & 31;
    set_lane(out, i,
             index < 16 ? lane<u32>(in.a, static_cast<int>(index))
                        : lane<u32>(in.b, static_cast<int>(index - 16)));
  }
}

V512 void vector_shuffle_epi8(const Input& in, u8* out) {
  _mm512_store_si512(out, _mm512_shuffle_epi8(_mm512_load_si512(in.a), _mm512_load_si512(in.b)));
}
void scalar_shuffle_epi8(const Input& in, u8* out) {
  for (int i = 0; i < 64; ++i) {
    out[i] = (in.b[i] & 0x80) != 0 ? u8{0} : in.a[(i & ~15) + (in.b[i] & 15)];
  }
}

V512 void vector_compress(const Input& in, u8* out) {
  _mm512_store_si512(out, _mm512_load_si512(in.b));
  _mm512_mask_compressstoreu_ps(out, static_cast<__mmask16>(in.mask), _mm512_load_ps(in.a));
}
void scalar_compress(const Input& in, u8* out) {
  std::memcpy(out, in.b, 64);
  for (int i = 0, n = 0; i < 16; ++i) {
    if ((in.mask >> i & 1) != 0) {
      set_lane(out, n++, lane<u32>(in.a, i));
    }
  }
}

V512 void vector_expand(const Input& in, u8* out) {
  _mm512_store_pd(
      out, _mm512_mask_expandloadu_pd(_mm512_load_pd(in.b), static_cast<__mmask8>(in.mask), in.a));
}
void scalar_expand(const Input& in, u8* out) {
  std::memcpy(out, in.b, 64);
  for (int i = 0, n = 0; i < 8; ++i) {
    if ((in.mask >> i & 1) != 0) {
      set_lane(out, i, lane<u64>(in.a, n++));
    }
  }
}

V512 void vector_gather_scatter(const Input& in, u8* out) {
  const __m512i index = _mm512_and_si512(_mm512_load_si512(in.c), _mm512_set1_epi32(15));
  const __m512i got = _mm512_mask_i32gather_epi32(_mm512_load_si512(in.b),
                                                  static_cast<__mmask16>(in.mask), index, in.a, 4);
  std::memset(out, 0, 64);
  _mm512_mask_i32scatter_epi32(out, static_cast<__mmask16>(in.mask >> 16), index, got, 4);
}
void scalar_gather_scatter(const Input& in, u8* out) {
  std::memset(out, 0, 64);
  for (int i = 0; i < 16; ++i) {  // of equal indices the highest lane wins
    const int index = static_cast<int>(lane<u32>(in.c, i) & 15);
    const bool taken = (in.mask >> i & 1) != 0;
    if ((in.mask >> (16 + i) & 1) != 0) {
      set_lane(out, index, taken ? lane<u32>(in.a, index) : lane<u32>(in.b, i));
    }
  }
}

V512 void vector_shuffles(const Input& in, u8* out) {
  const __m512 a = _mm512_load_ps(in.a);
  const __m512 low = _mm512_unpacklo_ps(a, _mm512_load_ps(in.b));
  const __m512i turned = _mm512_alignr_epi32(_mm512_castps_si512(low), _mm512_load_si512(in.c), 3);
  _mm512_store_ps(
      out, _mm512_shuffle_f32x4(_mm512_permute_ps(a, 0x1b), _mm512_castsi512_ps(turned), 0xb1));
}
void scalar_shuffles(const Input& in, u8* out) {
  u32 turned[32];
  for (int i = 0; i < 16; ++i) {
    turned[i] = lane<u32>(in.c, i);
    turned[16 + i] = lane<u32>(i % 2 == 0 ? in.a : in.b, (i & ~3) + (i & 3) / 2);
  }
  constexpr int kBlock[4] = {1, 0, 3, 2};  // 0xb1
  for (int i = 0; i < 16; ++i) {
    const int from = 4 * kBlock[i / 4] + i % 4;
    set_lane(out, i, i < 8 ? lane<u32>(in.a, from ^ 3) : turned[from + 3]);
  }
}

V512 void vector_halves(const Input& in, u8* out) {
  const __m512 a = _mm512_load_ps(in.a);
  const __m512 swapped = _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_extractf32x8_ps(a, 1)),
                                            _mm512_castps512_ps256(a), 1);
  _mm512_store_ps(out, _mm512_maskz_permutexvar_ps(static_cast<__mmask16>(in.mask),
                                                   _mm512_load_si512(in.c), swapped));
}
void scalar_halves(const Input& in, u8* out) {
  for (int i = 0; i < 16; ++i) {
    const int index = static_cast<int>((lane<u32>(in.c, i) & 15) ^ 8);
    set_lane(out, i, (in.mask >> i & 1) != 0 ? lane<u32>(in.a, index) : 0u);
  }
}

#define CASE(NAME, BYTES) {#NAME, BYTES, vector_##NAME, scalar_##NAME}
// clang-format off
const Case kCases[] = {
    CASE(add_ps, 4), CASE(sub_ps, 4), CASE(mul_ps, 4), CASE(div_ps, 4), CASE(sqrt_ps, 4),
    CASE(fmadd_ps, 4), CASE(fmsub_ps, 4), CASE(fnmadd_ps, 4), CASE(min_ps, 4), CASE(max_ps, 4),
    CASE(add_up_ps, 4), CASE(add_zero_ps, 4), CASE(round_ps, 4), CASE(floor_ps, 4),
    CASE(getexp_ps, 4), CASE(scalef_ps, 4), CASE(abs_ps, 4), CASE(xor_ps, 4), CASE(andnot_ps, 4),
    CASE(less_ps, 4), CASE(unord_ps, 4), CASE(from_i32, 4), CASE(from_u32, 4), CASE(to_single, 8), CASE(narrow_epi16, 0), CASE(test_epi32, 0),
    CASE(shuffles, 0), CASE(to_i32, 0),
    CASE(to_u32, 0), CASE(via_half, 4), CASE(add_pd, 8), CASE(mul_pd, 8), CASE(div_pd, 8),
    CASE(sqrt_pd, 8), CASE(fmadd_pd, 8), CASE(fnmadd_pd, 8), CASE(max_pd, 8),
    CASE(add_down_pd, 8), CASE(round_pd, 8), CASE(from_i64, 8), CASE(from_u64, 8),
    CASE(to_i64, 0), CASE(add_epi32, 0), CASE(mullo_epi32, 0), CASE(min_epi32, 0),
    CASE(max_epu32, 0), CASE(sllv_epi32, 0), CASE(srai_epi32, 0), CASE(rolv_epi32, 0),
    CASE(ternary, 0), CASE(mul_epu32, 0), CASE(mul_epi32, 0), CASE(mullo_epi64, 0),
    CASE(srlv_epi64, 0), CASE(srai_epi64, 0), CASE(min_epu64, 0), CASE(ror_epi64, 0),
    CASE(mullo_epi16, 0), CASE(adds_epi16, 0), CASE(avg_epu8, 0), CASE(equal_epi8, 0),
    CASE(vl_fmadd_ps, 4), CASE(vl_fmadd_pd, 8), CASE(vl_mullo_epi64, 0), CASE(vl_rol_epi32, 0),
    CASE(permutex2, 0), CASE(shuffle_epi8, 0), CASE(compress, 0), CASE(expand, 0),
    CASE(gather_scatter, 0), CASE(halves, 0),
    {"from_u32_top", 4, vector_from_u32_top, scalar_from_u32_top,
     "bochs 2.7: vcvtudq2ps drops bit 0 of numbers from 2^31, which can miss a tie by one ulp"},
};
// clang-format on

}  // namespace
