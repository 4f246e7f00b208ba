// The state behind the stand-in runtime: devices, streams, kernels, errors, and what was counted.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "executor.hpp"
#include "memory.hpp"
#include "program.hpp"

namespace emu {

/// A kernel as the extension registered it: the name of its code in one of the fat binaries.
struct Function {
  int binary;
  std::string name;
  int dynamic_limit = 48 << 10;  ///< bytes of dynamic shared memory it may ask for
};

/// Work in a stream waits in its queue until something makes the host wait for it. So a missing
/// synchronisation shows: the host then reads what was there before.
struct Stream {
  int device = 0;
  std::deque<std::function<void()>> queue;
};

struct Event {
  Stream* stream = nullptr;
  bool recorded = false;
};

struct LaunchRecord {
  std::string kernel;
  Dim grid, block;
  std::uint32_t dynamic_shared;
  std::uint64_t stream;
  std::uint64_t instructions, local_accesses;
  struct Operand {
    std::uint64_t address, size;
    Traffic traffic;
  };
  std::vector<Operand> operands;  ///< the allocations it has touched
};

struct CallRecord {
  std::string name;
  std::uint64_t stream, bytes;
};

/// Asks the host program for the code of a kernel: it answers by calling `emu_define_kernel`.
using Loader = int (*)(int binary, const char* kernel, int architecture);

class Machine {
 public:
  Machine() { streams_[0] = std::make_unique<Stream>(); }
  static Machine& instance();

  std::recursive_mutex mutex;
  Memory memory;
  int devices = 1;
  cudaError_t without_device = cudaErrorNoDevice;
  int architecture = 90;
  std::uint32_t order = 0;
  std::uint64_t instruction_limit = std::uint64_t{1} << 32;
  Loader loader = nullptr;
  /// False while the test itself empties the queues: host memory that nobody waited for may be
  /// gone.
  bool host_is_there = true;
  std::vector<const void*> binaries;
  std::map<const void*, std::unique_ptr<Function>> functions;  ///< by host stub
  std::vector<LaunchRecord> launches;
  std::vector<CallRecord> calls;
  std::vector<std::string> violations;
  std::string loader_message;

  void reset();

  /// Every runtime call begins here: an injected fault, a missing device, an earlier fatal error.
  cudaError_t begin(const char* call, std::uint64_t stream = 0, std::uint64_t bytes = 0);
  /// Remembers an error for cudaGetLastError.
  cudaError_t note(cudaError_t error);
  cudaError_t last_error(bool clear);

  /// The `k`-th call of a runtime function from now on fails.
  void inject(const std::string& call, int k, cudaError_t error);

  int current_device() const;
  void set_current_device(int device);

  Stream* stream(cudaStream_t handle);  ///< null: no such stream
  cudaStream_t create_stream();
  bool destroy_stream(cudaStream_t handle);
  void enqueue(Stream& stream, std::function<void()> work);
  cudaError_t finish(Stream& stream);  ///< runs what waits in it
  cudaError_t finish_all();
  /// Frees memory of the test once all that waits in streams now has run: as array libraries do.
  void release_later(std::uint64_t address);

  void define(int binary, int architecture, std::unique_ptr<Kernel> kernel);
  /// The code of a function for this architecture, loaded when first needed; null on failure.
  const Kernel* kernel(const Function& function);
  std::uint64_t define_variable(std::vector<std::uint8_t> initial);

  cudaError_t launch(Function& function, Dim grid, Dim block, void** arguments, std::size_t shared,
                     cudaStream_t stream);
  /// Limits of shared memory a block: without asking, and at most.
  static constexpr std::uint32_t kSharedDefault = 48 << 10;
  std::uint32_t shared_limit() const;

 private:
  void violate(const std::string& message, cudaError_t fatal);

  std::map<std::uint64_t, std::unique_ptr<Stream>> streams_;
  std::uint64_t next_stream_ = 0x57'0000'0000ull;
  struct Fault {
    int countdown;
    cudaError_t error;
  };
  std::map<std::string, Fault> faults_;
  std::map<std::pair<int, int>, std::map<std::string, std::unique_ptr<Kernel>>> kernels_;
  struct Variable {
    Region* region;
    std::vector<std::uint8_t> initial;
  };
  std::vector<Variable> variables_;
  cudaError_t fatal_ = cudaSuccess;
};

}  // namespace emu
