// isa_check ISA PROGRAM: runs PROGRAM with TAMIS_FORCE_ISA=ISA, or exits with 77 ("skipped") where
// this machine cannot run that instruction set.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "tamis/exec.hpp"

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: isa_check ISA PROGRAM\n");
    return 2;
  }
  const auto isas = tamis::available_isas();
  if (std::find(isas.begin(), isas.end(), argv[1]) == isas.end()) {
    std::printf("SKIPPED: this machine cannot run %s\n", argv[1]);
    return 77;
  }
  setenv("TAMIS_FORCE_ISA", argv[1], 1);
  execl(argv[2], argv[2], static_cast<char*>(nullptr));
  std::perror(argv[2]);
  return 2;
}
