// The smallest test harness that does the job: named cases, checks that print what they saw, a
// non-zero exit status on any failure. Run a program with a word to select cases by name.
#pragma once

#include <cmath>
#include <functional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace check {

struct Case {
  const char* name;
  void (*run)();
};
std::vector<Case>& cases();
bool add(const char* name, void (*run)());
void failed(const char* file, int line, const std::string& message);

template <class A, class B>
std::string both(const A& a, const B& b) {
  std::ostringstream out;
  out.precision(17);
  out << a << " and " << b;
  return out.str();
}

}  // namespace check

#define TEST_CASE(name)                                     \
  static void name();                                       \
  static const bool name##_added = check::add(#name, name); \
  static void name()

#define CHECK(condition) \
  ((condition) ? void() : check::failed(__FILE__, __LINE__, "not true: " #condition))

#define CHECK_EQ(a, b)                                                              \
  do {                                                                              \
    const auto& check_a = (a);                                                      \
    const auto& check_b = (b);                                                      \
    if (!(check_a == check_b)) {                                                    \
      check::failed(__FILE__, __LINE__,                                             \
                    "not equal: " #a ", " #b ": " + check::both(check_a, check_b)); \
    }                                                                               \
  } while (false)

#define CHECK_NEAR(a, b, tolerance)                                                \
  do {                                                                             \
    const double check_a = (a);                                                    \
    const double check_b = (b);                                                    \
    if (!(std::fabs(check_a - check_b) <= (tolerance))) {                          \
      check::failed(__FILE__, __LINE__,                                            \
                    "not near: " #a ", " #b ": " + check::both(check_a, check_b)); \
    }                                                                              \
  } while (false)

#define CHECK_THROWS_AS(expression, type)                                                     \
  do {                                                                                        \
    bool check_threw = false;                                                                 \
    try {                                                                                     \
      (void)(expression);                                                                     \
    } catch (const type&) {                                                                   \
      check_threw = true;                                                                     \
    }                                                                                         \
    if (!check_threw) check::failed(__FILE__, __LINE__, #expression " did not throw " #type); \
  } while (false)
