// Names and texts of the errors that the emulation, or an injected fault, can give.
#include <cuda_runtime_api.h>

namespace {

struct Entry {
  cudaError_t code;
  const char* name;
  const char* text;
};

#define TAMIS_ERROR(name, text) {name, #name, text}
constexpr Entry kErrors[] = {
    TAMIS_ERROR(cudaSuccess, "no error"),
    TAMIS_ERROR(cudaErrorInvalidValue, "invalid argument (emulated)"),
    TAMIS_ERROR(cudaErrorMemoryAllocation, "out of memory (emulated)"),
    TAMIS_ERROR(cudaErrorInitializationError, "initialization error (emulated)"),
    TAMIS_ERROR(cudaErrorInvalidConfiguration, "invalid configuration argument (emulated)"),
    TAMIS_ERROR(cudaErrorInvalidMemcpyDirection, "invalid copy direction (emulated)"),
    TAMIS_ERROR(cudaErrorInsufficientDriver, "driver missing or too old (emulated)"),
    TAMIS_ERROR(cudaErrorInvalidDeviceFunction, "invalid device function (emulated)"),
    TAMIS_ERROR(cudaErrorNoDevice, "no CUDA-capable device (emulated)"),
    TAMIS_ERROR(cudaErrorInvalidDevice, "invalid device ordinal (emulated)"),
    TAMIS_ERROR(cudaErrorNoKernelImageForDevice, "no kernel image for the device (emulated)"),
    TAMIS_ERROR(cudaErrorInvalidResourceHandle, "invalid resource handle (emulated)"),
    TAMIS_ERROR(cudaErrorIllegalAddress, "illegal memory access (emulated)"),
    TAMIS_ERROR(cudaErrorLaunchOutOfResources, "too many resources requested (emulated)"),
    TAMIS_ERROR(cudaErrorLaunchTimeout, "launch timed out (emulated)"),
    TAMIS_ERROR(cudaErrorAssert, "device-side assert (emulated)"),
    TAMIS_ERROR(cudaErrorMisalignedAddress, "misaligned address (emulated)"),
    TAMIS_ERROR(cudaErrorLaunchFailure, "launch failure (emulated)"),
    TAMIS_ERROR(cudaErrorNotSupported, "operation not supported (emulated)"),
    TAMIS_ERROR(cudaErrorUnknown, "unknown error (emulated)"),
};
#undef TAMIS_ERROR

const Entry* find(cudaError_t code) {
  for (const Entry& entry : kErrors) {
    if (entry.code == code) return &entry;
  }
  return nullptr;
}

}  // namespace

extern "C" {

const char* cudaGetErrorName(cudaError_t code) {
  const Entry* entry = find(code);
  return entry == nullptr ? "unrecognized error code" : entry->name;
}

const char* cudaGetErrorString(cudaError_t code) {
  const Entry* entry = find(code);
  return entry == nullptr ? "unrecognized error code" : entry->text;
}

}  // extern "C"
