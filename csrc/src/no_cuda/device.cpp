#include "tamis/exec.hpp"

namespace tamis {

CudaInfo cuda_info() {
  CudaInfo info;
  info.status = "not built (TAMIS_CUDA was OFF, or AUTO found no nvcc)";
  return info;
}

}  // namespace tamis
