// Kernels with one race each; -DREPAIRED as in accesses.cu. Launched with 2 blocks of 64 threads.
#ifdef REPAIRED
constexpr bool kBroken = false;
#else
constexpr bool kBroken = true;
#endif

/// A tree without a barrier between its steps.
extern "C" __global__ void shared_tree(const float* in, float* out, int n) {
  __shared__ float tree[64];
  const int t = static_cast<int>(threadIdx.x), i = static_cast<int>(blockIdx.x) * 64 + t;
  tree[t] = i < n ? in[i] : 0;
  __syncthreads();
  for (int step = 32; step > 0; step /= 2) {
    if (t < step) tree[t] += tree[t + step];
    if (!kBroken) __syncthreads();
  }
  if (t == 0) out[blockIdx.x] = tree[0];
}
/// Lanes of one warp pass values through shared memory without __syncwarp.
extern "C" __global__ void shared_within_a_warp(const float* in, float* out, int n) {
  __shared__ float buffer[64];
  const int t = static_cast<int>(threadIdx.x), i = static_cast<int>(blockIdx.x) * 64 + t;
  buffer[t] = i < n ? in[i] : 0;
  if (!kBroken) __syncwarp();
  const float other = buffer[t ^ 1];
  if (i < n) out[i] = other;
}
/// The second warp overwrites what the first may still be reading.
extern "C" __global__ void shared_reuse(const float* in, float* out, int n) {
  __shared__ float buffer[64];
  const int t = static_cast<int>(threadIdx.x), i = static_cast<int>(blockIdx.x) * 64 + t;
  buffer[t] = i < n ? in[i] : 0;
  __syncthreads();
  const float first = t < 32 ? buffer[63 - t] : 0;
  if (!kBroken) __syncthreads();
  if (t >= 32) buffer[t] = 2;
  __syncthreads();
  if (i < n) out[i] = buffer[63 - t] + first;
}
/// All blocks add to one number with plain loads and stores.
extern "C" __global__ void plain_sum(const float* in, float* out, int n) {
  const int t = static_cast<int>(threadIdx.x), i = static_cast<int>(blockIdx.x) * 64 + t;
  if (t != 0 || i >= n) return;
  if (kBroken) {
    out[0] = in[i];
  } else {
    atomicExch(out, in[i]);
  }
}
/// Each thread writes its own element and reads its neighbour's in another block.
extern "C" __global__ void neighbours(const float* in, float* out, int n) {
  const int i = static_cast<int>(blockIdx.x) * 64 + static_cast<int>(threadIdx.x);
  if (i >= n) return;
  out[i] = in[i];
  if (kBroken && i >= 64) out[i] += out[i - 64];
}
/// A barrier is missing between writing to global memory and reading it in the same block.
extern "C" __global__ void global_within_a_block(const float* in, float* out, int n) {
  const int t = static_cast<int>(threadIdx.x), i = static_cast<int>(blockIdx.x) * 64 + t;
  if (i < n) out[i] = in[i];
  if (!kBroken) __syncthreads();
  const int j = static_cast<int>(blockIdx.x) * 64 + 63 - t;
  const float other = j < n ? out[j] : 0;
  __syncthreads();
  if (i < n) out[i] = other;
}
/// Two elements of 16 bits share a word: no race. The broken one has two threads on one element.
extern "C" __global__ void small_elements(const float* in, unsigned short* out, int n) {
  const int i = static_cast<int>(blockIdx.x) * 64 + static_cast<int>(threadIdx.x);
  if (i < n) out[kBroken ? i / 2 : i] = static_cast<unsigned short>(in[i] * 100);
}
/// The last block reads what other blocks wrote, but there is no fence before its ticket.
extern "C" __global__ void last_block_without_fence(const float* in, float* out, int n) {
  __shared__ bool last;
  auto* ticket = reinterpret_cast<unsigned*>(out + 2);
  const int t = static_cast<int>(threadIdx.x), i = static_cast<int>(blockIdx.x) * 64 + t;
  if (t == 0) {
    out[blockIdx.x] = i < n ? in[i] : 0;
    if (!kBroken) __threadfence();
    last = atomicAdd(ticket, 1u) == gridDim.x - 1;
    __threadfence();
  }
  __syncthreads();
  if (last && t == 0) out[3] = out[0] + out[1];
}
/// A counter that one block reads with a plain load while others add to it.
extern "C" __global__ void atomic_and_plain(const float* in, float* out, int n) {
  const int t = static_cast<int>(threadIdx.x), i = static_cast<int>(blockIdx.x) * 64 + t;
  if (i < n) atomicAdd(out, in[i]);
  if (kBroken && t == 0 && blockIdx.x == 1) out[1] = out[0];
}
