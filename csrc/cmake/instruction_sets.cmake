# Adds the CPU kernels: the baseline body for every machine, and one more copy, compiled with its own
# flags, for each instruction set of this architecture. src/isa.cpp chooses among them at run time.
foreach(op IN LISTS cpu_kernels)
  target_sources(tamis PRIVATE ${src}/cpu/${op}.cpp)
endforeach()

function(tamis_add_isa name)
  string(TOUPPER ${name} upper)
  target_compile_definitions(tamis PUBLIC $<BUILD_INTERFACE:TAMIS_HAVE_${upper}>)
  foreach(op IN LISTS cpu_kernels)
    set(file ${src}/cpu/${op}_${name}.cpp)
    target_sources(tamis PRIVATE ${file})
    set_source_files_properties(${file} PROPERTIES COMPILE_OPTIONS "${ARGN}")
  endforeach()
endfunction()

if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64|amd64")
  set(avx2 -mavx2 -mfma -mf16c)
  tamis_add_isa(avx2 ${avx2})
  # GCC 12 warns about its own _mm512_undefined_*() (GCC bug 105593); clang does not.
  tamis_add_isa(avx512 ${avx2} -mavx512f -mavx512bw -mavx512dq -mavx512vl -mprefer-vector-width=512
                -Wno-uninitialized $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64|ARM64")
  tamis_add_isa(neon)
endif()
