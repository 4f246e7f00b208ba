// Kernels with one fault of memory access each. With -DREPAIRED the same kernel is right, so that
// the test sees that the check reports the fault and nothing but the fault.
#ifdef REPAIRED
constexpr bool kBroken = false;
#else
constexpr bool kBroken = true;
#endif

extern "C" __global__ void read_past_the_end(const float* in, float* out, int n) {
  const int i = static_cast<int>(threadIdx.x);
  const int last = kBroken ? n : n - 1;
  if (i < n) out[i] = in[i < last ? i + 1 : last];
}
extern "C" __global__ void write_past_the_end(const float* in, float* out, int n) {
  const int i = static_cast<int>(threadIdx.x);
  if (kBroken ? i <= n : i < n) out[i] = in[i < n ? i : 0];
}
extern "C" __global__ void write_before_the_start(const float* in, float* out, int n) {
  const int i = static_cast<int>(threadIdx.x);
  if (i < n) out[kBroken ? i - 1 : i] = in[i];
}
extern "C" __global__ void shared_past_the_end(const float* in, float* out, int n) {
  extern __shared__ float buffer[];  // n elements
  const int i = static_cast<int>(threadIdx.x);
  if (i < n) buffer[kBroken ? i + 1 : i] = in[i];
  __syncthreads();
  if (i < n) out[i] = buffer[kBroken ? i + 1 : i];
}
/// Needs 16-byte alignment, which in + 1 does not have.
extern "C" __global__ void misaligned(const float* in, float* out, int n) {
  const int i = static_cast<int>(threadIdx.x);
  if (4 * i + 4 >= n) return;
  const float4 v = *reinterpret_cast<const float4*>(in + 4 * i + (kBroken ? 1 : 0));
  out[i] = v.x + v.w;
}
/// The last element of the shared buffer is never written.
extern "C" __global__ void uninitialised_shared(const float* in, float* out, int n) {
  extern __shared__ float buffer[];
  const int i = static_cast<int>(threadIdx.x);
  if (i < (kBroken ? n - 1 : n)) buffer[i] = in[i];
  __syncthreads();
  if (i < n) out[i] = buffer[i];
}
/// Adds to an output that nobody has set to zero.
extern "C" __global__ void uninitialised_global(const float* in, float* out, int n) {
  const int i = static_cast<int>(threadIdx.x);
  if (i >= n) return;
  out[i] = kBroken ? out[i] + in[i] : in[i];
}
/// Leaves a hole in its output: no kernel reads it, but the host does.
extern "C" __global__ void incomplete_output(const float* in, float* out, int n) {
  const int i = static_cast<int>(threadIdx.x);
  if (i < n && !(kBroken && i == 17)) out[i] = in[i];
}
/// Reads through the read-only cache what the same launch writes.
extern "C" __global__ void read_only_but_written(const float* in, float* out, int n) {
  const int i = static_cast<int>(threadIdx.x);
  if (i >= n) return;
  out[i] = in[i];
  __syncwarp(__activemask());
  if (kBroken) out[i] = __ldg(out + i) + 1;
}
