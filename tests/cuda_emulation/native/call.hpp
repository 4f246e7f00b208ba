// One call of the stand-in runtime library: locked, counted, its error noted.
#pragma once

#include <mutex>

#include "machine.hpp"

namespace emu {

/// Locks the machine for one call, and notes the error it ends with.
class Call {
 public:
  explicit Call(const char* name, cudaStream_t stream = nullptr, std::size_t bytes = 0)
      : machine(Machine::instance()),
        lock_(machine.mutex),
        status(machine.begin(name, reinterpret_cast<std::uint64_t>(stream), bytes)) {}

  bool failed() const { return status != cudaSuccess; }
  cudaError_t end(cudaError_t error) const { return machine.note(error); }
  cudaError_t end() const { return machine.note(status); }

  Machine& machine;

 private:
  std::lock_guard<std::recursive_mutex> lock_;

 public:
  cudaError_t status;
};

inline std::uint64_t number(const void* pointer) {
  return reinterpret_cast<std::uint64_t>(pointer);
}

}  // namespace emu
