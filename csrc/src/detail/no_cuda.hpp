// What the no_cuda siblings say.
#pragma once

#include <stdexcept>
#include <string>

namespace tamis::detail {

[[noreturn]] inline void throw_no_cuda(const char* op) {
  throw std::runtime_error(std::string("[") + op +
                           "] this build of tamis has no CUDA backend: rebuild with "
                           "TAMIS_CUDA=ON and nvcc on the PATH, or move the data to the CPU");
}

}  // namespace tamis::detail
