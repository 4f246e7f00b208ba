// Memory of every kind, and atomics.
#include <cstdint>

extern "C" __global__ void vectors(const float4* a, const double2* b, const short4* c, float4* out4,
                                   double2* out2, short4* outs, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= n) return;
  const float4 v = a[i];
  out4[i] = make_float4(v.w, v.z, v.y, v.x);
  const double2 d = __ldg(b + i);
  out2[i] = make_double2(d.y, d.x);
  const short4 s = c[i];
  outs[i] = make_short4(s.y, s.x, s.w, s.z);
}

__constant__ float kTable[4] = {1.5f, -2.0f, 0.25f, 8.0f};
__device__ int counter = 7;

extern "C" __global__ void variables(float* out, int* before) {
  const int t = static_cast<int>(threadIdx.x);
  out[t] = kTable[t % 4];
  if (t == 0) *before = atomicAdd(&counter, 5);
}

/// An array that must live in memory, because it is indexed by data.
extern "C" __global__ void local_array(const int* order, int* out) {
  const int t = static_cast<int>(threadIdx.x);
  int values[8];
  for (int k = 0; k < 8; ++k) values[order[k]] = t * 10 + k;
  int sum = 0;
  for (int k = 0; k < 8; ++k) sum = sum * 3 + values[(t + k) % 8];
  out[t] = sum;
}

__device__ __noinline__ float sum_of(const float* p, int n) {  // generic addresses
  float sum = 0;
  for (int k = 0; k < n; ++k) sum += p[k];
  return sum;
}
/// Static and dynamic shared memory, and a pointer that is one thing or the other.
extern "C" __global__ void shared_memory(const float* in, float* out) {
  extern __shared__ float dynamic[];
  __shared__ float fixed[64];
  const int t = static_cast<int>(threadIdx.x);
  fixed[t] = in[t];
  dynamic[t] = 2 * in[t];
  dynamic[t + 64] = -in[t];
  __syncthreads();
  const float* where = t % 3 == 0 ? fixed : t % 3 == 1 ? dynamic + 64 : in;
  out[t] = sum_of(where, 64) + dynamic[63 - t];
}
/// A tree in shared memory, then the last block to finish adds up what the blocks have written.
extern "C" __global__ void last_block(const double* in, int n, double* partial, unsigned* ticket,
                                      double* total) {
  __shared__ double tree[128];
  __shared__ bool last;
  const int t = static_cast<int>(threadIdx.x);
  double sum = 0;
  for (int i = static_cast<int>(blockIdx.x * 128) + t; i < n;
       i += static_cast<int>(gridDim.x * 128)) {
    sum += in[i];
  }
  tree[t] = sum;
  __syncthreads();
  for (int step = 64; step > 0; step /= 2) {
    if (t < step) tree[t] += tree[t + step];
    __syncthreads();
  }
  if (t == 0) {
    partial[blockIdx.x] = tree[0];
    __threadfence();
    last = atomicAdd(ticket, 1u) == gridDim.x - 1;
    __threadfence();
  }
  __syncthreads();
  if (last && t == 0) {
    double all = 0;
    for (unsigned b = 0; b < gridDim.x; ++b) all += partial[b];
    *total = all;
    *ticket = 0;
  }
}

extern "C" __global__ void atomics32(const int* in, int n, int* out, unsigned* un) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= n) return;
  const int v = in[i];
  atomicAdd(out + 0, v);
  atomicMin(out + 1, v);
  atomicMax(out + 2, v);
  atomicAnd(out + 3, v);
  atomicOr(out + 4, v);
  atomicXor(out + 5, v);
  atomicSub(out + 6, v);
  atomicInc(un + 0, 99u);
  atomicDec(un + 1, 10u);
  atomicMax(un + 2, static_cast<unsigned>(v));
  atomicMin(un + 3, static_cast<unsigned>(v));
  if (atomicCAS(un + 4, 5u, static_cast<unsigned>(i) + 6u) == 5u) atomicExch(out + 7, i);
}
extern "C" __global__ void atomics64(const long long* in, int n, unsigned long long* out,
                                     long long* sn, float* f, double* d) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  __shared__ unsigned long long block_sum;
  __shared__ double block_max_bits;
  if (threadIdx.x == 0) {
    block_sum = 0;
    block_max_bits = 0;
  }
  __syncthreads();
  if (i < n) {
    const auto v = static_cast<unsigned long long>(in[i]);
    atomicAdd(&block_sum, v);
    atomicAdd(&block_max_bits, 0.5);
    atomicMax(out + 1, v);
    atomicMin(out + 2, v);
    atomicXor(out + 3, v);
    atomicMin(sn + 0, in[i]);
    atomicMax(sn + 1, in[i]);
    atomicAdd(f, 0.25f);
    atomicAdd(d, static_cast<double>(in[i] % 8));
    atomicExch(out + 4, 17ull);
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    atomicAdd(out, block_sum);
    atomicAdd(d + 1, block_max_bits);
  }
}
