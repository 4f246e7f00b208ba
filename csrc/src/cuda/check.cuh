// Every CUDA call is checked, every launch has an explicit stream and device.
#pragma once

#include <cuda_runtime_api.h>

#include <stdexcept>

#include "src/detail/check.hpp"
#include "tamis/exec.hpp"

namespace tamis::cuda {

/// @throws std::runtime_error naming the operation, the call, the error's name and its text.
inline void check(cudaError_t status, const char* op, const char* call) {
  if (status == cudaSuccess) return;
  // Clear it: the check after the next launch would find it and take it for that launch's own.
  static_cast<void>(cudaGetLastError());
  throw std::runtime_error(detail::text("[", op, "] ", call, " failed: ", cudaGetErrorName(status),
                                        " (", static_cast<int>(status),
                                        "): ", cudaGetErrorString(status)));
}

/// Makes exec.device current for one call and restores the caller's device.
class DeviceGuard {
 public:
  DeviceGuard(const Exec& exec, const char* op) {
    check(cudaGetDevice(&previous_), op, "cudaGetDevice");
    if (exec.device.index != previous_) {
      check(cudaSetDevice(exec.device.index), op, "cudaSetDevice");
      changed_ = true;
    }
  }
  ~DeviceGuard() {
    // A destructor cannot report; the next checked call on this thread will.
    if (changed_) static_cast<void>(cudaSetDevice(previous_));
  }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  int previous_ = 0;
  bool changed_ = false;
};

inline cudaStream_t stream_of(const Exec& exec) { return static_cast<cudaStream_t>(exec.stream); }

}  // namespace tamis::cuda
