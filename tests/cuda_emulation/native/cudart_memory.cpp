// The stand-in runtime: allocation, copies, fills.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstring>

#include "call.hpp"

using emu::Call, emu::Machine, emu::number;

namespace {

/// Bytes of device memory, all within one allocation, or null.
std::uint8_t* device_bytes(Machine& machine, const void* pointer, std::size_t bytes,
                           std::uint8_t** written) {
  emu::Region* region = machine.memory.find(number(pointer), bytes);
  if (region == nullptr) return nullptr;
  *written = region->written.data() + (number(pointer) - region->base);
  return region->data.data() + (number(pointer) - region->base);
}

/// The present content of device memory goes to the host; nobody should read what nobody wrote.
void to_host(Machine& machine, void* target, const void* source, std::size_t bytes) {
  std::uint8_t* written = nullptr;
  const std::uint8_t* from = device_bytes(machine, source, bytes, &written);
  if (from == nullptr) {
    machine.violations.push_back("copy to the host from memory no longer allocated");
    return;
  }
  if (const void* gap = std::memchr(written, 0, bytes); gap != nullptr) {
    const auto offset = static_cast<const std::uint8_t*>(gap) - written;
    machine.violations.push_back(
        "copy to the host of uninitialised global memory, " +
        machine.memory.describe(number(source) + static_cast<std::uint64_t>(offset)));
  }
  if (machine.host_is_there) std::memcpy(target, from, bytes);
}

cudaError_t copy(const char* name, void* target, const void* source, std::size_t bytes,
                 cudaMemcpyKind kind, cudaStream_t stream, bool wait) {
  const Call call(name, stream, bytes);
  if (call.failed()) return call.end();
  Machine& machine = call.machine;
  emu::Stream* queue = machine.stream(stream);
  if (queue == nullptr) return call.end(cudaErrorInvalidResourceHandle);
  const bool from_device = machine.memory.owns(number(source));
  const bool to_device = machine.memory.owns(number(target));
  if (kind < cudaMemcpyHostToHost || kind > cudaMemcpyDefault) {
    return call.end(cudaErrorInvalidMemcpyDirection);
  }
  if (kind != cudaMemcpyDefault) {  // the direction must be the one of the pointers
    const bool wants_from = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    const bool wants_to = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    if (bytes > 0 && (wants_from != from_device || wants_to != to_device)) {
      return call.end(cudaErrorInvalidValue);
    }
  }
  std::uint8_t* written = nullptr;
  if ((from_device && !device_bytes(machine, source, bytes, &written)) ||
      (to_device && !device_bytes(machine, target, bytes, &written))) {
    return call.end(bytes == 0 ? cudaSuccess : cudaErrorInvalidValue);
  }
  if (!from_device && to_device) {  // pageable host memory: read before the call returns
    const auto* begin = static_cast<const std::uint8_t*>(source);
    machine.enqueue(
        *queue, [=, &machine, staged = std::vector<std::uint8_t>(begin, begin + bytes)] {
          std::uint8_t* marks = nullptr;
          if (std::uint8_t* to = device_bytes(machine, target, bytes, &marks); to != nullptr) {
            std::memcpy(to, staged.data(), bytes);
            std::memset(marks, 1, bytes);
          }
        });
  } else if (from_device && to_device) {
    machine.enqueue(*queue, [=, &machine] {
      std::uint8_t *from_marks = nullptr, *to_marks = nullptr;
      const std::uint8_t* from = device_bytes(machine, source, bytes, &from_marks);
      std::uint8_t* to = device_bytes(machine, target, bytes, &to_marks);
      if (from == nullptr || to == nullptr) return;
      std::memmove(to, from, bytes);
      std::memmove(to_marks, from_marks, bytes);
    });
  } else if (from_device) {
    machine.enqueue(*queue, [=, &machine] { to_host(machine, target, source, bytes); });
  } else {
    machine.enqueue(*queue, [=] { std::memcpy(target, source, bytes); });
  }
  return call.end(wait ? machine.finish(*queue) : cudaSuccess);
}

cudaError_t fill(const char* name, void* target, int value, std::size_t bytes, cudaStream_t stream,
                 bool wait) {
  const Call call(name, stream, bytes);
  if (call.failed()) return call.end();
  Machine& machine = call.machine;
  emu::Stream* queue = machine.stream(stream);
  if (queue == nullptr) return call.end(cudaErrorInvalidResourceHandle);
  std::uint8_t* marks = nullptr;
  if (bytes > 0 && device_bytes(machine, target, bytes, &marks) == nullptr) {
    return call.end(cudaErrorInvalidValue);
  }
  machine.enqueue(*queue, [=, &machine] {
    std::uint8_t* written = nullptr;
    if (std::uint8_t* to = device_bytes(machine, target, bytes, &written); to != nullptr) {
      std::memset(to, value, bytes);
      std::memset(written, 1, bytes);
    }
  });
  return call.end(wait ? machine.finish(*queue) : cudaSuccess);
}

cudaError_t allocate(const char* name, void** pointer, std::size_t bytes, cudaStream_t stream) {
  const Call call(name, stream, bytes);
  if (call.failed()) return call.end();
  if (call.machine.stream(stream) == nullptr) return call.end(cudaErrorInvalidResourceHandle);
  if (bytes == 0) {
    *pointer = nullptr;
    return call.end(cudaSuccess);
  }
  const emu::Region* region =
      call.machine.memory.allocate(bytes, call.machine.current_device(), true, name);
  if (region == nullptr) return call.end(cudaErrorMemoryAllocation);
  *pointer = reinterpret_cast<void*>(region->base);
  return call.end(cudaSuccess);
}

cudaError_t release(const char* name, void* pointer, cudaStream_t stream, bool wait) {
  const Call call(name, stream);
  if (call.failed()) return call.end();
  Machine& machine = call.machine;
  emu::Stream* queue = machine.stream(stream);
  if (queue == nullptr) return call.end(cudaErrorInvalidResourceHandle);
  if (pointer == nullptr) return call.end(cudaSuccess);
  const emu::Region* region = machine.memory.find(number(pointer), 0);
  if (region == nullptr || region->base != number(pointer)) {
    machine.violations.push_back("free of something never allocated or already freed");
    return call.end(cudaErrorInvalidValue);
  }
  if (wait) machine.finish_all();
  machine.enqueue(*queue, [=, &machine] {
    if (!machine.memory.release(number(pointer))) {
      machine.violations.push_back("memory freed twice");
    }
  });
  return call.end(wait ? machine.finish(*queue) : cudaSuccess);
}

}  // namespace

extern "C" {

cudaError_t cudaMalloc(void** pointer, std::size_t bytes) {
  return allocate("cudaMalloc", pointer, bytes, nullptr);
}
cudaError_t cudaMallocAsync(void** pointer, std::size_t bytes, cudaStream_t stream) {
  return allocate("cudaMallocAsync", pointer, bytes, stream);
}
// Pools: there is one a device, which keeps nothing, so it need not remember what it is told.
cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int device) {
  const Call call("cudaDeviceGetDefaultMemPool");
  if (call.failed()) return call.end();
  if (device < 0 || device >= call.machine.devices) return call.end(cudaErrorInvalidDevice);
  *pool = reinterpret_cast<cudaMemPool_t>(static_cast<std::uintptr_t>(device) + 1);
  return call.end();
}
cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void* value) {
  const Call call("cudaMemPoolGetAttribute");
  if (call.failed()) return call.end();
  if (pool == nullptr || attribute != cudaMemPoolAttrReleaseThreshold) {
    return call.end(cudaErrorInvalidValue);
  }
  *static_cast<std::uint64_t*>(value) = 0;
  return call.end();
}
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void* value) {
  const Call call("cudaMemPoolSetAttribute");
  if (call.failed()) return call.end();
  if (pool == nullptr || attribute != cudaMemPoolAttrReleaseThreshold || value == nullptr) {
    return call.end(cudaErrorInvalidValue);
  }
  return call.end();
}
cudaError_t cudaFree(void* pointer) { return release("cudaFree", pointer, nullptr, true); }
cudaError_t cudaFreeAsync(void* pointer, cudaStream_t stream) {
  return release("cudaFreeAsync", pointer, stream, false);
}
cudaError_t cudaMallocHost(void** pointer, std::size_t bytes) {
  const Call call("cudaMallocHost", nullptr, bytes);
  if (call.failed()) return call.end();
  *pointer = ::operator new(bytes, std::align_val_t{256});
  return call.end();
}
cudaError_t cudaHostAlloc(void** pointer, std::size_t bytes, unsigned) {
  return cudaMallocHost(pointer, bytes);
}
cudaError_t cudaFreeHost(void* pointer) {
  const Call call("cudaFreeHost");
  call.machine.finish_all();
  ::operator delete(pointer, std::align_val_t{256});
  return call.end();
}
cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  return copy("cudaMemcpy", to, from, bytes, kind, nullptr, true);
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  return copy("cudaMemcpyAsync", to, from, bytes, kind, stream, false);
}
cudaError_t cudaMemcpy2DAsync(void* to, std::size_t to_pitch, const void* from,
                              std::size_t from_pitch, std::size_t width, std::size_t height,
                              cudaMemcpyKind kind, cudaStream_t stream) {
  for (std::size_t row = 0; row < height; ++row) {
    const cudaError_t status =
        copy("cudaMemcpy2DAsync", static_cast<char*>(to) + row * to_pitch,
             static_cast<const char*>(from) + row * from_pitch, width, kind, stream, false);
    if (status != cudaSuccess) return status;
  }
  return cudaSuccess;
}
cudaError_t cudaMemset(void* to, int value, std::size_t bytes) {
  return fill("cudaMemset", to, value, bytes, nullptr, true);
}
cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t stream) {
  return fill("cudaMemsetAsync", to, value, bytes, stream, false);
}
cudaError_t cudaMemGetInfo(std::size_t* available, std::size_t* total) {
  const Call call("cudaMemGetInfo");
  *available = *total = std::size_t{8} << 30;
  return call.end();
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  const Call call("cudaPointerGetAttributes");
  if (call.failed()) return call.end();
  *attributes = {};
  const emu::Region* region = call.machine.memory.find(number(pointer), 0);
  attributes->type = region == nullptr ? cudaMemoryTypeUnregistered : cudaMemoryTypeDevice;
  attributes->device = region == nullptr ? -1 : region->device;
  attributes->devicePointer = region == nullptr ? nullptr : const_cast<void*>(pointer);
  return call.end();
}

}  // extern "C"
