// The stand-in for the CUDA runtime library: the functions that host code compiled by nvcc calls.
// Here: kernels, devices and errors; cudart_memory.cpp and cudart_streams.cpp hold the rest. The
// documentation of each is NVIDIA's, "CUDA Runtime API". What is missing fails to link, by name.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstring>

#include "call.hpp"

using emu::Call, emu::Machine, emu::number;

namespace {

const emu::Function* function_of(Machine& machine, const void* stub) {
  const auto found = machine.functions.find(stub);
  return found == machine.functions.end() ? nullptr : found->second.get();
}

}  // namespace

extern "C" {

// ---- what nvcc's host code calls behind <<<...>>> and before main
struct FatBinary {
  int magic, version;
  const void* data;
  void* unused;
};

void** __cudaRegisterFatBinary(void* wrapper) {
  Machine& machine = Machine::instance();
  const std::lock_guard lock(machine.mutex);
  machine.binaries.push_back(static_cast<const FatBinary*>(wrapper)->data);
  return reinterpret_cast<void**>(machine.binaries.size());  // the handle: index + 1
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
char __cudaInitModule(void**) { return 1; }
void __cudaRegisterVar(void**, char*, char*, const char*, int, std::size_t, int, int) {}
void __cudaRegisterFunction(void** binary, const char* stub, char*, const char* name, int, void*,
                            void*, void*, void*, int*) {
  Machine& machine = Machine::instance();
  const std::lock_guard lock(machine.mutex);
  const int index = static_cast<int>(reinterpret_cast<std::size_t>(binary)) - 1;
  machine.functions[stub] = std::make_unique<emu::Function>(emu::Function{index, name});
}

thread_local struct {
  dim3 grid, block;
  std::size_t shared;
  cudaStream_t stream;
} pushed;

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, std::size_t shared,
                                     cudaStream_t stream) {
  pushed = {grid, block, shared, stream};
  return 0;
}
cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, std::size_t* shared, void* stream) {
  *grid = pushed.grid;
  *block = pushed.block;
  *shared = pushed.shared;
  std::memcpy(stream, &pushed.stream, sizeof pushed.stream);
  return cudaSuccess;
}
cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* stub) {
  *kernel = reinterpret_cast<cudaKernel_t>(const_cast<void*>(stub));
  return cudaSuccess;
}
cudaError_t cudaLaunchKernel(const void* stub, dim3 grid, dim3 block, void** arguments,
                             std::size_t shared, cudaStream_t stream) {
  const Call call("cudaLaunchKernel", stream);
  if (call.failed()) return call.end();
  const auto found = call.machine.functions.find(stub);
  if (found == call.machine.functions.end()) return call.end(cudaErrorInvalidDeviceFunction);
  return call.end(call.machine.launch(*found->second, {grid.x, grid.y, grid.z},
                                      {block.x, block.y, block.z}, arguments, shared, stream));
}
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments,
                               std::size_t shared, cudaStream_t stream) {
  return cudaLaunchKernel(kernel, grid, block, arguments, shared, stream);
}
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* stub,
                                void** arguments) {
  for (unsigned k = 0; k < config->numAttrs; ++k) {
    const auto id = config->attrs[k].id;
    if (id == cudaLaunchAttributeClusterDimension || id == cudaLaunchAttributeCooperative) {
      return Call("cudaLaunchKernelExC").end(cudaErrorNotSupported);
    }
  }
  return cudaLaunchKernel(stub, config->gridDim, config->blockDim, arguments,
                          config->dynamicSmemBytes, config->stream);
}

// ---- errors
cudaError_t cudaGetLastError() {
  Machine& machine = Machine::instance();
  const std::lock_guard lock(machine.mutex);
  return machine.last_error(true);
}
cudaError_t cudaPeekAtLastError() {
  Machine& machine = Machine::instance();
  const std::lock_guard lock(machine.mutex);
  return machine.last_error(false);
}

// ---- devices
cudaError_t cudaGetDeviceCount(int* count) {
  const Call call("cudaGetDeviceCount");
  *count = call.machine.devices;
  return call.end();
}
cudaError_t cudaGetDevice(int* device) {
  const Call call("cudaGetDevice");
  *device = call.machine.current_device();
  return call.end();
}
cudaError_t cudaSetDevice(int device) {
  const Call call("cudaSetDevice");
  if (call.failed()) return call.end();
  if (device < 0 || device >= call.machine.devices) return call.end(cudaErrorInvalidDevice);
  call.machine.set_current_device(device);
  return call.end();
}
cudaError_t cudaDeviceSynchronize() {
  const Call call("cudaDeviceSynchronize");
  const cudaError_t status = call.machine.finish_all();
  return call.end(call.failed() ? call.status : status);
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  const Call call("cudaDeviceGetAttribute");
  if (call.failed()) return call.end();
  if (device < 0 || device >= call.machine.devices) return call.end(cudaErrorInvalidDevice);
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
      *value = 1024;
      break;
    case cudaDevAttrWarpSize:
      *value = emu::kLanes;
      break;
    case cudaDevAttrMultiProcessorCount:
      *value = 4;
      break;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = 1024;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = call.machine.architecture / 10;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = call.machine.architecture % 10;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = Machine::kSharedDefault;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(call.machine.shared_limit());
      break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = static_cast<int>(call.machine.shared_limit()) + 1024;
      break;
    case cudaDevAttrMemoryPoolsSupported:
      *value = 1;
      break;
    case cudaDevAttrMaxGridDimX:
      *value = 0x7fffffff;
      break;
    case cudaDevAttrMaxGridDimY:
    case cudaDevAttrMaxGridDimZ:
      *value = 65535;
      break;
    default:
      *value = 0;
      break;
  }
  return call.end();
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  const Call call("cudaGetDeviceProperties");
  if (call.failed()) return call.end();
  if (device < 0 || device >= call.machine.devices) return call.end(cudaErrorInvalidDevice);
  *properties = cudaDeviceProp{};
  std::strcpy(properties->name, "Emulated device");
  properties->totalGlobalMem = std::size_t{8} << 30;
  properties->major = call.machine.architecture / 10;
  properties->minor = call.machine.architecture % 10;
  properties->warpSize = emu::kLanes;
  properties->maxThreadsPerBlock = 1024;
  properties->multiProcessorCount = 4;
  properties->sharedMemPerBlock = Machine::kSharedDefault;
  properties->sharedMemPerBlockOptin = call.machine.shared_limit();
  properties->memoryPoolsSupported = 1;
  return call.end();
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = Machine::instance().devices > 0 ? CUDART_VERSION : 0;
  return cudaSuccess;
}

// ---- kernels
cudaError_t cudaFuncSetAttribute(const void* stub, cudaFuncAttribute attribute, int value) {
  const Call call("cudaFuncSetAttribute");
  if (call.failed()) return call.end();
  auto* function = const_cast<emu::Function*>(function_of(call.machine, stub));
  if (function == nullptr) return call.end(cudaErrorInvalidDeviceFunction);
  if (attribute == cudaFuncAttributeMaxDynamicSharedMemorySize) {
    if (value < 0 || value > static_cast<int>(call.machine.shared_limit())) {
      return call.end(cudaErrorInvalidValue);
    }
    function->dynamic_limit = std::max(value, static_cast<int>(Machine::kSharedDefault));
  }
  return call.end();
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* stub) {
  const Call call("cudaFuncGetAttributes");
  if (call.failed()) return call.end();
  const emu::Function* function = function_of(call.machine, stub);
  const emu::Kernel* kernel = function == nullptr ? nullptr : call.machine.kernel(*function);
  if (kernel == nullptr) return call.end(cudaErrorInvalidDeviceFunction);
  *attributes = {};
  attributes->sharedSizeBytes = kernel->shared;
  attributes->localSizeBytes = kernel->local;
  attributes->maxThreadsPerBlock = static_cast<int>(kernel->max_threads);
  attributes->numRegs = 32;
  attributes->ptxVersion = attributes->binaryVersion = call.machine.architecture;
  attributes->maxDynamicSharedSizeBytes = function->dynamic_limit;
  return call.end();
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void*, int,
                                                                   std::size_t, unsigned) {
  *blocks = 2;
  return Call("cudaOccupancyMaxActiveBlocksPerMultiprocessor").end();
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* stub,
                                                          int threads, std::size_t shared) {
  return cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, stub, threads, shared, 0);
}

}  // extern "C"
