// Floating-point arithmetic and conversions.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#define INDEX                                                            \
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x); \
  if (i >= n) return;

extern "C" __global__ void doubles(const double* a, const double* b, const double* c, double* out,
                                   int n) {
  INDEX
  const double x = a[i], y = b[i], z = c[i];
  double* r = out + i * 14;
  r[0] = __fma_rn(x, y, z);
  r[1] = __dadd_rn(x, y);
  r[2] = __dmul_rn(x, y);
  r[3] = __ddiv_rn(x, y);
  r[4] = __dsqrt_rn(fabs(x));
  r[5] = fmin(x, y);
  r[6] = fmax(x, y);
  r[7] = -x;
  r[8] = copysign(x, y);
  r[9] = __dadd_rd(x, y);
  r[10] = __dadd_ru(x, y);
  r[11] = __dmul_rz(x, y);
  r[12] = x < y ? x : z;
  r[13] = __drcp_rn(y);
}
extern "C" __global__ void floats(const float* a, const float* b, const float* c, float* out,
                                  int n) {
  INDEX
  const float x = a[i], y = b[i], z = c[i];
  float* r = out + i * 14;
  r[0] = __fmaf_rn(x, y, z);
  r[1] = __fadd_rn(x, y);
  r[2] = __fmul_rn(x, y);
  r[3] = __fdiv_rn(x, y);
  r[4] = __fsqrt_rn(fabsf(x));
  r[5] = fminf(x, y);
  r[6] = fmaxf(x, y);
  r[7] = -x;
  r[8] = copysignf(x, y);
  r[9] = __fadd_rd(x, y);
  r[10] = __fadd_ru(x, y);
  r[11] = __fmul_rz(x, y);
  r[12] = x < y ? x : z;
  r[13] = __saturatef(x);
}
extern "C" __global__ void to_integers(const double* a, std::int64_t* out, int n) {
  INDEX
  const double x = a[i];
  const float f = static_cast<float>(x);
  std::int64_t* r = out + i * 10;
  r[0] = __double2ll_rn(x);
  r[1] = __double2ll_rz(x);
  r[2] = __double2ll_rd(x);
  r[3] = __double2int_ru(x);
  r[4] = __float2int_rn(f);
  r[5] = __float2int_rz(f);
  r[6] = __float2uint_rn(f);
  r[7] = static_cast<std::int64_t>(__double2ull_rz(x));
  r[8] = static_cast<std::int64_t>(rint(x));
  r[9] = static_cast<std::int64_t>(floorf(f));
}
extern "C" __global__ void from_integers(const std::int64_t* a, double* out, int n) {
  INDEX
  const std::int64_t x = a[i];
  double* r = out + i * 6;
  r[0] = static_cast<double>(x);
  r[1] = static_cast<float>(x);
  r[2] = __ll2float_rd(x);
  r[3] = static_cast<float>(static_cast<std::int32_t>(x));
  r[4] = __ull2float_rn(static_cast<std::uint64_t>(x));
  r[5] = static_cast<double>(static_cast<std::int8_t>(x));
}
extern "C" __global__ void halves(const float* a, std::uint16_t* half_bits,
                                  std::uint16_t* bfloat_bits, float* back, int n) {
  INDEX
  const __half h = __float2half_rn(a[i]);
  const __nv_bfloat16 b = __float2bfloat16_rn(a[i]);
  half_bits[i] = __half_as_ushort(h);
  bfloat_bits[i] = __bfloat16_as_ushort(b);
  back[2 * i] = __half2float(h);
  back[2 * i + 1] = __bfloat162float(b);
}
extern "C" __global__ void half_pairs(const __half2* a, const __half2* b, __half2* out, int n) {
  INDEX
  out[3 * i] = __hadd2(a[i], b[i]);
  out[3 * i + 1] = __hmul2(a[i], b[i]);
  out[3 * i + 2] = __hfma2(a[i], b[i], a[i]);
}
extern "C" __global__ void functions(const double* a, double* out, int n) {
  INDEX
  const double x = a[i];
  double* r = out + i * 8;
  r[0] = exp(x);
  r[1] = log(fabs(x));
  r[2] = sin(x);
  r[3] = pow(fabs(x), 0.3);
  r[4] = cbrt(x);
  r[5] = rsqrt(fabs(x));
  r[6] = hypot(x, 2.0);
  r[7] = erf(x);
}
