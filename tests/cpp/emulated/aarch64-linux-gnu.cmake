# CMake toolchain: cross-compile for 64-bit ARM and let ctest run the executables under qemu.
#   cmake -S . -B build/neon --toolchain tests/cpp/emulated/aarch64-linux-gnu.cmake
# The emulated processor is a Cortex-A57, plain ARMv8.0-A: anything past baseline NEON is refused.

set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)

find_program(TAMIS_AARCH64_CXX aarch64-linux-gnu-g++)
find_program(TAMIS_QEMU_AARCH64 NAMES qemu-aarch64-static qemu-aarch64)
if(NOT TAMIS_AARCH64_CXX OR NOT TAMIS_QEMU_AARCH64)
  message(FATAL_ERROR "cross-compiling for AArch64 needs Debian packages: "
    "apt-get install --no-install-recommends g++-aarch64-linux-gnu qemu-user-static")
endif()

set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER ${TAMIS_AARCH64_CXX})
set(CMAKE_EXE_LINKER_FLAGS_INIT "-static") # no ARM loader and libraries needed at run time
set(CMAKE_CROSSCOMPILING_EMULATOR "${TAMIS_QEMU_AARCH64};-cpu;cortex-a57")

set(CMAKE_FIND_ROOT_PATH /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
