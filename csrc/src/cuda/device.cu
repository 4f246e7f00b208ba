#include <cuda_runtime_api.h>

#include "src/detail/check.hpp"
#include "tamis/exec.hpp"

namespace tamis {
namespace {

std::string describe(int index) {
  cudaDeviceProp device{};
  const cudaError_t status = cudaGetDeviceProperties(&device, index);
  if (status != cudaSuccess) {
    static_cast<void>(cudaGetLastError());  // ours to clear: see cuda_info
    return detail::text(index, ": ", cudaGetErrorName(status));
  }
  return detail::text(index, ": ", device.name, ", compute capability ", device.major, ".",
                      device.minor, ", ", device.totalGlobalMem >> 20, " MiB");
}

}  // namespace

CudaInfo cuda_info() {
  CudaInfo info;
  info.built = true;
  info.toolkit = TAMIS_CUDA_TOOLKIT;
  info.architectures = TAMIS_CUDA_ARCHITECTURES;
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess) {
    // Leave no sticky "last error" behind for other users of the runtime in this process.
    static_cast<void>(cudaGetLastError());
    info.driver = status == cudaErrorNoDevice;
    info.status = detail::text(cudaGetErrorName(status), ": ", cudaGetErrorString(status));
    return info;
  }
  info.driver = true;
  info.status = "ok";
  for (int index = 0; index < count; ++index) info.devices.push_back(describe(index));
  return info;
}

}  // namespace tamis
