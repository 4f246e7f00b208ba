// The stand-in runtime: streams and events.
#include <cuda_runtime_api.h>

#include "call.hpp"

using emu::Call;

extern "C" {

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  const Call call("cudaStreamCreate");
  if (!call.failed()) *stream = call.machine.create_stream();
  return call.end();
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, 0); }
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const Call call("cudaStreamDestroy", stream);
  if (call.failed()) return call.end();
  return call.end(call.machine.destroy_stream(stream) ? cudaSuccess
                                                      : cudaErrorInvalidResourceHandle);
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const Call call("cudaStreamSynchronize", stream);
  emu::Stream* found = call.machine.stream(stream);
  if (found == nullptr) return call.end(cudaErrorInvalidResourceHandle);
  const cudaError_t status = call.machine.finish(*found);
  return call.end(call.failed() ? call.status : status);
}
cudaError_t cudaStreamQuery(cudaStream_t stream) { return cudaStreamSynchronize(stream); }
cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
  *status = cudaStreamCaptureStatusNone;
  return Call("cudaStreamIsCapturing").end();
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  const Call call("cudaEventCreate");
  if (!call.failed()) *event = reinterpret_cast<cudaEvent_t>(new emu::Event());
  return call.end();
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const Call call("cudaEventRecord", stream);
  if (call.failed()) return call.end();
  auto* mine = reinterpret_cast<emu::Event*>(event);
  mine->stream = call.machine.stream(stream);
  mine->recorded = true;
  return call.end(mine->stream == nullptr ? cudaErrorInvalidResourceHandle : cudaSuccess);
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const Call call("cudaEventSynchronize");
  if (call.failed()) return call.end();
  auto* mine = reinterpret_cast<emu::Event*>(event);
  return call.end(mine->stream == nullptr ? cudaSuccess : call.machine.finish(*mine->stream));
}
cudaError_t cudaEventQuery(cudaEvent_t event) { return cudaEventSynchronize(event); }
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const Call call("cudaStreamWaitEvent", stream);
  if (call.failed()) return call.end();
  if (call.machine.stream(stream) == nullptr) return call.end(cudaErrorInvalidResourceHandle);
  // What was recorded runs now, before anything that comes after the wait.
  return cudaEventSynchronize(event);
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t, cudaEvent_t) {
  *milliseconds = 0;  // nothing here says anything about time
  return Call("cudaEventElapsedTime").end();
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const Call call("cudaEventDestroy");
  delete reinterpret_cast<emu::Event*>(event);
  return call.end();
}

}  // extern "C"
