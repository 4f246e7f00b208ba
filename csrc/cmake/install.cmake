# find_package(tamis) for C++ projects: headers, the static library and its CMake package.
# Only outside wheels; the wheel holds the Python package and nothing else.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/tamis)
install(TARGETS tamis EXPORT tamisTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT devel)
install(DIRECTORY csrc/include/tamis DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT devel)
install(EXPORT tamisTargets NAMESPACE tamis:: DESTINATION ${package_dir} COMPONENT devel)
configure_package_config_file(csrc/cmake/tamisConfig.cmake.in tamisConfig.cmake
                              INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(tamisConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/tamisConfig.cmake
              ${CMAKE_CURRENT_BINARY_DIR}/tamisConfigVersion.cmake
        DESTINATION ${package_dir} COMPONENT devel)
