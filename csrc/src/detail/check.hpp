// Contract violations, all worded alike: "[op] expected ..., got ...".
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace tamis::detail {

/// The arguments, streamed one after the other into a string.
template <class... Parts>
std::string text(const Parts&... parts) {
  std::ostringstream stream;
  (stream << ... << parts);
  return stream.str();
}

/// Throws std::invalid_argument("[op] expected <expected>, got <got>").
[[noreturn]] inline void fail(const char* op, const std::string& expected, const std::string& got) {
  throw std::invalid_argument(text("[", op, "] expected ", expected, ", got ", got));
}

}  // namespace tamis::detail
