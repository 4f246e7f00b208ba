#include "src/detail/isa.hpp"

#include <atomic>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "tamis/exec.hpp"

namespace tamis {
namespace detail {
namespace {

bool runs_here([[maybe_unused]] Isa isa) {
  switch (isa) {
    case Isa::baseline:
      return true;
    case Isa::neon:
      return isa_built(Isa::neon);  // every AArch64 machine has it
#if defined(__x86_64__)
    case Isa::avx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
             __builtin_cpu_supports("f16c");
    case Isa::avx512:
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
             __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
             __builtin_cpu_supports("f16c");
#endif
    default:
      return false;
  }
}

bool usable(Isa isa) { return isa_built(isa) && runs_here(isa); }

template <class Predicate>
std::vector<std::string> names_where(Predicate predicate) {
  std::vector<std::string> names;
  for (std::size_t k = 0; k < kIsaCount; ++k) {
    if (predicate(static_cast<Isa>(k))) names.emplace_back(kIsaNames[k]);
  }
  return names;
}

std::string join(const std::vector<std::string>& names) {
  std::string text;
  for (const auto& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

Isa choose() {
  const char* forced = std::getenv("TAMIS_FORCE_ISA");
  if (forced != nullptr && *forced != '\0') {
    for (std::size_t k = 0; k < kIsaCount; ++k) {
      if (std::string_view(forced) == kIsaNames[k] && usable(static_cast<Isa>(k))) {
        return static_cast<Isa>(k);
      }
    }
    throw std::invalid_argument(
        "[tamis] expected TAMIS_FORCE_ISA to be one of {" + join(names_where(usable)) +
        "} (built in and able to run on this machine), got '" + std::string(forced) + "'");
  }
  Isa best = Isa::baseline;
  for (std::size_t k = 0; k < kIsaCount; ++k) {
    if (usable(static_cast<Isa>(k))) best = static_cast<Isa>(k);
  }
  return best;
}

}  // namespace

Isa active() {
  static const Isa isa = choose();  // a throw leaves it unset, so every call reports the mistake
  return isa;
}

}  // namespace detail

std::vector<std::string> available_isas() { return detail::names_where(detail::usable); }
std::vector<std::string> built_isas() { return detail::names_where(detail::isa_built); }
std::string active_isa() { return detail::kIsaNames[static_cast<std::size_t>(detail::active())]; }

const char* version() { return TAMIS_VERSION; }

}  // namespace tamis
