// Where and how an operation runs, and what the library was built with.
#pragma once

#include <string>
#include <vector>

#include "tamis/views.hpp"

namespace tamis {

/// Execution resources of one call. The result of an operation never depends on them.
struct Exec {
  /// CPU threads; 0 means default_num_threads(). Ignored on CUDA.
  int num_threads = 0;
  /// Device that owns every pointer of the call.
  Device device = {};
  /// A cudaStream_t; null is the default stream. Work is enqueued, never waited for, unless an
  /// operation says otherwise. Ignored on the CPU.
  void* stream = nullptr;
};

/// TAMIS_NUM_THREADS, else OMP_NUM_THREADS, else the CPUs this process may use (affinity mask and
/// container quota). Read again at every call, so that a changed environment takes effect.
/// @throws std::invalid_argument if a variable is set to something that is not a positive integer.
int default_num_threads();

/// Version of the library, "major.minor.patch".
const char* version();

/// Instruction sets compiled into this library that this machine can run, slowest first.
std::vector<std::string> available_isas();
/// All instruction sets compiled into this library.
std::vector<std::string> built_isas();

/// The instruction set in use: the fastest available, or the one that TAMIS_FORCE_ISA names.
/// @throws std::invalid_argument if TAMIS_FORCE_ISA names one that is unknown, was not built, or
/// cannot run here.
std::string active_isa();

/// State of the CUDA backend. Never throws: a missing driver is an answer.
struct CudaInfo {
  bool built = false;                ///< compiled with TAMIS_CUDA=ON
  std::string toolkit;               ///< "13.0", empty if not built
  std::string architectures;         ///< as compiled, for example "75-real;80-real"
  bool driver = false;               ///< a driver answered
  std::string status;                ///< why there is no device, or "ok"
  std::vector<std::string> devices;  ///< one line per device
};
CudaInfo cuda_info();

}  // namespace tamis
