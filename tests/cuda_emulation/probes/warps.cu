// Warp operations and control flow. One block of 96 threads unless said otherwise.
#include <cstdint>

constexpr unsigned kAll = 0xffffffffu;

extern "C" __global__ void shuffles(const int* in, int* out) {
  const int t = static_cast<int>(threadIdx.x);
  const int v = in[t];
  int* r = out + t * 8;
  r[0] = __shfl_sync(kAll, v, 5);
  r[1] = __shfl_sync(kAll, v, t + 1, 8);
  r[2] = __shfl_up_sync(kAll, v, 3);
  r[3] = __shfl_up_sync(kAll, v, 2, 16);
  r[4] = __shfl_down_sync(kAll, v, 7);
  r[5] = __shfl_down_sync(kAll, v, 1, 4);
  r[6] = __shfl_xor_sync(kAll, v, 16);
  r[7] = __shfl_xor_sync(kAll, v, 3, 8);
}
extern "C" __global__ void wide_shuffles(const double* in, double* out) {
  const int t = static_cast<int>(threadIdx.x);
  double v = in[t];
  for (int offset = 16; offset > 0; offset /= 2) v += __shfl_xor_sync(kAll, v, offset);
  out[t] = v;
}
extern "C" __global__ void votes(const int* in, unsigned* out) {
  const int t = static_cast<int>(threadIdx.x);
  const int v = in[t];
  unsigned* r = out + t * 8;
  r[0] = __ballot_sync(kAll, v > 3);
  r[1] = static_cast<unsigned>(__any_sync(kAll, v > 8));
  r[2] = static_cast<unsigned>(__all_sync(kAll, v >= 0));
  r[3] = __match_any_sync(kAll, v);
  int same;
  r[4] = __match_all_sync(kAll, v / 100, &same);
  r[5] = static_cast<unsigned>(same);
  r[6] = __match_any_sync(kAll, static_cast<unsigned long long>(v) << 33);
  r[7] = __activemask();
#if __CUDA_ARCH__ >= 800
  r[7] = __reduce_add_sync(kAll, static_cast<unsigned>(v));
#endif
}
/// Lanes part, run loops of their own length, and meet again in a warp operation.
extern "C" __global__ void divergence(const int* in, int* out) {
  const int t = static_cast<int>(threadIdx.x);
  int v = in[t], steps = 0;
  while (v != 1) {
    v = v % 2 ? 3 * v + 1 : v / 2;
    ++steps;
  }
  __syncwarp();
  int total = steps;
  if (t % 32 < 16) {  // half a warp, named as such
    for (int offset = 8; offset > 0; offset /= 2) total += __shfl_xor_sync(0xffffu, total, offset);
  } else {
    total = -1;
  }
  out[2 * t] = steps;
  out[2 * t + 1] = total;
}
extern "C" __global__ void switches(const int* in, int* out) {
  const int t = static_cast<int>(threadIdx.x);
  int r;
  switch (in[t] % 8) {
    case 0:
      r = 3 * in[t];
      break;
    case 1:
      r = in[t] ^ 77;
      break;
    case 2:
      r = in[t] * in[t];
      break;
    case 3:
      r = -in[t];
      break;
    case 4:
      r = in[t] << 3;
      break;
    case 5:
      r = 1000 - in[t];
      break;
    case 6:
      r = in[t] / 3;
      break;
    default:
      r = 42;
      break;
  }
  out[t] = r;
}
__device__ __noinline__ double horner(const double* coefficients, int count, double x) {
  double sum = 0;
  for (int k = count - 1; k >= 0; --k) sum = fma(sum, x, coefficients[k]);
  return sum;
}
__device__ __noinline__ int choose(int a, int b) {
  if (a > b) return a;
  return b - 1;
}
extern "C" __global__ void calls(const double* coefficients, int count, const double* x,
                                 double* out) {
  const int t = static_cast<int>(threadIdx.x);
  const double once = horner(coefficients, count, x[t]);
  out[t] = horner(coefficients, 2, once) + choose(t, 40) + choose(40, t);
}
extern "C" __global__ void block_votes(const int* in, int* out) {
  const int t = static_cast<int>(threadIdx.x);
  const int count = __syncthreads_count(in[t] > 3);
  const int all = __syncthreads_and(in[t] >= 0);
  const int any = __syncthreads_or(in[t] > 1000);
  out[t] = count * 100 + (all ? 10 : 0) + (any ? 1 : 0);
}
