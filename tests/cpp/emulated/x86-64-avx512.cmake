# CMake toolchain: link statically and let ctest run every executable in the emulated AVX-512
# machine of run_avx512. Each test boots the machine anew; to pay for the boot only once, give
# run_avx512 several commands instead (README.md).
#   cmake -S . -B build/avx512 --toolchain tests/cpp/emulated/x86-64-avx512.cmake
# TAMIS_EMULATION_DIR (a CMake or environment variable) is where the machine keeps its kernel.

set(CMAKE_SYSTEM_NAME Linux) # set, so CMAKE_CROSSCOMPILING is true and add_test uses the emulator
set(CMAKE_SYSTEM_PROCESSOR x86_64)

find_program(TAMIS_BOCHS bochs-bin)
if(NOT TAMIS_BOCHS)
  message(FATAL_ERROR "the emulated AVX-512 machine needs Debian packages: "
    "apt-get install --no-install-recommends bochs bochs-term g++ binutils")
endif()

if(NOT DEFINED TAMIS_EMULATION_DIR)
  if(DEFINED ENV{TAMIS_EMULATION_DIR})
    set(TAMIS_EMULATION_DIR $ENV{TAMIS_EMULATION_DIR})
  else()
    set(TAMIS_EMULATION_DIR ${CMAKE_CURRENT_LIST_DIR}/../../../build/emulated)
  endif()
endif()
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES TAMIS_EMULATION_DIR)

set(CMAKE_CXX_COMPILER g++)
set(CMAKE_EXE_LINKER_FLAGS_INIT "-static")
set(CMAKE_CROSSCOMPILING_EMULATOR
  "${CMAKE_CURRENT_LIST_DIR}/run_avx512;--build-dir;${TAMIS_EMULATION_DIR}")
