// Kernels with one fault of synchronisation each; -DREPAIRED as in accesses.cu.
#ifdef REPAIRED
constexpr bool kBroken = false;
#else
constexpr bool kBroken = true;
#endif

/// Half of the threads never come to the barrier.
extern "C" __global__ void barrier_in_a_branch(const float* in, float* out, int n) {
  __shared__ float buffer[64];
  const int i = static_cast<int>(threadIdx.x);
  buffer[i] = i < n ? in[i] : 0;
  if (!kBroken || i < 32) __syncthreads();
  if (i < 32 && i < n) out[i] = buffer[i];
}
/// Some threads have left before the barrier.
extern "C" __global__ void exit_before_the_barrier(const float* in, float* out, int n) {
  __shared__ float buffer[64];
  const int i = static_cast<int>(threadIdx.x);
  if (kBroken && i >= n) return;
  buffer[i] = i < n ? in[i] : 0;
  __syncthreads();
  if (i < n) out[i] = buffer[i ^ 1];
}
/// All threads come to a barrier, but not to the same one.
extern "C" __global__ void two_barriers(const float* in, float* out, int n) {
  __shared__ float buffer[64];
  const int i = static_cast<int>(threadIdx.x);
  buffer[i] = i < n ? in[i] : 0;
  if (kBroken && i % 2) {
    buffer[i] += 1;
    __syncthreads();
    buffer[i] *= 2;
  } else {
    __syncthreads();
  }
  if (i < n) out[i] = buffer[i];
}
/// A shuffle that names all lanes, called by some.
extern "C" __global__ void shuffle_in_a_branch(const float* in, float* out, int n) {
  const int i = static_cast<int>(threadIdx.x);
  float v = i < n ? in[i] : 0;
  if (!kBroken || i % 32 < 20) v += __shfl_xor_sync(0xffffffffu, v, 1);
  if (i < n) out[i] = v;
}
/// A shuffle that reads from lanes outside its mask.
extern "C" __global__ void shuffle_from_outside(const float* in, float* out, int n) {
  const int i = static_cast<int>(threadIdx.x);
  float v = i < n ? in[i] : 0;
  if (i % 32 < 16) v += __shfl_down_sync(0xffffu, v, kBroken ? 8 : 0);
  if (i < n) out[i] = v;
}
/// The caller is not in its own mask.
extern "C" __global__ void mask_without_the_caller(const float* in, float* out, int n) {
  const int i = static_cast<int>(threadIdx.x);
  const float v = i < n ? in[i] : 0;
  const unsigned all = __ballot_sync(kBroken ? 0xfffffffeu : 0xffffffffu, v > 0);
  if (i < n) out[i] = static_cast<float>(all & 1u) + v;
}
/// Waits for something that no other thread does.
extern "C" __global__ void endless(const float* in, float* out, int n) {
  const int i = static_cast<int>(threadIdx.x);
  float v = i < n ? in[i] : 0;
  while (kBroken ? v == v : v < 100) v = v < 50 ? v + 1 : v * 2 - v + 60;
  if (i < n) out[i] = v;
}
extern "C" __global__ void trap(const float* in, float* out, int n) {
  const int i = static_cast<int>(threadIdx.x);
  if (kBroken && i == 5) __trap();
  if (i < n) out[i] = in[i];
}
