#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>

#include "check.hpp"
#include "tamis/exec.hpp"

namespace check {

namespace {
int failures = 0;
}

std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}

bool add(const char* name, void (*run)()) {
  cases().push_back({name, run});
  return true;
}

void failed(const char* file, int line, const std::string& message) {
  if (++failures <= 50) std::printf("%s:%d: %s\n", file, line, message.c_str());
}

}  // namespace check

namespace {

/// Does TAMIS_FORCE_ISA ask for instructions that this machine does not have?
bool cannot_run_here() {
  const char* forced = std::getenv("TAMIS_FORCE_ISA");
  if (forced == nullptr || *forced == '\0') return false;
  const auto built = tamis::built_isas();
  const auto available = tamis::available_isas();
  return std::count(built.begin(), built.end(), forced) == 1 &&
         std::count(available.begin(), available.end(), forced) == 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (cannot_run_here()) {
    std::printf("SKIPPED: this machine cannot run %s\n", std::getenv("TAMIS_FORCE_ISA"));
    return 77;
  }
  int run = 0;
  for (const auto& test : check::cases()) {
    if (argc > 1 && std::strstr(test.name, argv[1]) == nullptr) continue;
    const int before = check::failures;
    try {
      test.run();
    } catch (const std::exception& error) {
      check::failed(test.name, 0, std::string("unexpected exception: ") + error.what());
    }
    std::printf("%s %s\n", check::failures == before ? "ok  " : "FAIL", test.name);
    ++run;
  }
  std::printf("%d cases, %d failed checks\n", run, check::failures);
  return check::failures == 0 && run > 0 ? 0 : 1;
}
