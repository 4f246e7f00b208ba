# Decides TAMIS_WITH_CUDA and defines tamis_link_cuda(target). AUTO never fails in silence: the
# configure log and `tamis info` both say what was built and why.
set(TAMIS_WITH_CUDA OFF)
set(TAMIS_CUDA_ARCHITECTURES "" CACHE STRING "CUDA architectures; empty for all that nvcc knows")
set(TAMIS_CUDA_RUNTIME CUDA::cudart_static CACHE STRING
    "CUDA runtime to link: CUDA::cudart_static, CUDA::cudart, or a target that stands in for it")
if(NOT TAMIS_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "TAMIS_CUDA must be AUTO, ON or OFF, got '${TAMIS_CUDA}'")
endif()
if(NOT TAMIS_CUDA STREQUAL "OFF")
  if(TAMIS_CUDA STREQUAL "AUTO" AND DEFINED ENV{CUDACXX} AND NOT EXISTS "$ENV{CUDACXX}")
    message(FATAL_ERROR "CUDACXX names '$ENV{CUDACXX}', which does not exist. "
                        "Correct or unset it, or pass TAMIS_CUDA=OFF.")
  endif()
  set(CMAKE_CUDA_ARCHITECTURES 75)  # for the compiler check; the targets have their own list
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    enable_language(CUDA)
    find_package(CUDAToolkit REQUIRED)
    set(TAMIS_WITH_CUDA ON)
    if(NOT TAMIS_CUDA_ARCHITECTURES)
      set(TAMIS_CUDA_ARCHITECTURES 75-real 80-real 86-real 90-real)
      if(CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 12.8)
        list(APPEND TAMIS_CUDA_ARCHITECTURES 100-real 100-virtual)
      else()
        list(APPEND TAMIS_CUDA_ARCHITECTURES 90-virtual)
      endif()
    endif()
    if(NOT DEFINED CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25 stops at C++17
      set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
      set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
    endif()
  elseif(TAMIS_CUDA STREQUAL "ON")
    message(FATAL_ERROR "TAMIS_CUDA=ON, but CMake found no CUDA compiler. Put nvcc on the PATH or "
                        "set CUDACXX.")
  endif()
endif()
if(TAMIS_WITH_CUDA)
  message(STATUS "tamis: CUDA ${CMAKE_CUDA_COMPILER_VERSION}, architectures ${TAMIS_CUDA_ARCHITECTURES}")
else()
  message(STATUS "tamis: no CUDA backend (TAMIS_CUDA=${TAMIS_CUDA}, no compiler used)")
endif()

function(tamis_link_cuda target)
  set(runtime None)  # what CMake itself adds to the link; a stand-in must remain the only runtime
  if(TAMIS_CUDA_RUNTIME STREQUAL "CUDA::cudart_static")
    set(runtime Static)
  elseif(TAMIS_CUDA_RUNTIME STREQUAL "CUDA::cudart")
    set(runtime Shared)
  endif()
  set_target_properties(
    ${target} PROPERTIES CUDA_STANDARD 20 CUDA_STANDARD_REQUIRED ON CUDA_RUNTIME_LIBRARY ${runtime}
                         CUDA_ARCHITECTURES "${TAMIS_CUDA_ARCHITECTURES}" CUDA_SEPARABLE_COMPILATION OFF)
  # -fmad=false: only the explicit fma, as on the CPU. A kernel that spills is a design mistake here,
  # but no reason to break a user's install: warnings are errors for developers only.
  target_compile_options(
    ${target} PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-fmad=false -Xptxas=-warn-spills
                      -Xcompiler=-Wall,-Wextra>)
  if(TAMIS_WERROR)
    target_compile_options(
      ${target} PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:--Werror=all-warnings -Xptxas=-Werror>)
  endif()
  list(JOIN TAMIS_CUDA_ARCHITECTURES " " architectures)
  target_compile_definitions(
    ${target} PRIVATE TAMIS_CUDA_TOOLKIT="${CMAKE_CUDA_COMPILER_VERSION}"
                      TAMIS_CUDA_ARCHITECTURES="${architectures}")
  target_link_libraries(${target} PRIVATE ${TAMIS_CUDA_RUNTIME})
endfunction()
