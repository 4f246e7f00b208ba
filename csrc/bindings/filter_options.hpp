// The filter's options and outcomes under their names.
#pragma once

#include <array>
#include <stdexcept>
#include <string>
#include <string_view>

#include "tamis/iterative_filter.hpp"

namespace tamis::bindings {

// In the order of the enumerations.
inline constexpr std::array<std::string_view, 5> kRules = {"gaussian_tail", "bounded_covariance",
                                                           "fixed_fraction", "soft", "randomized"};
inline constexpr std::array<std::string_view, 3> kAssumptions = {"identity", "scale", "none"};
inline constexpr std::array<std::string_view, 7> kStopReasons = {
    "eigenvalue_explained", "tails_explained", "removal_limit",   "max_rounds",
    "zero_variance",        "too_few_rows",    "no_contamination"};

template <class Enum, std::size_t n>
Enum named(const std::array<std::string_view, n>& names, const std::string& name) {
  for (std::size_t i = 0; i < n; ++i) {
    if (names[i] == name) return static_cast<Enum>(i);
  }
  throw std::invalid_argument("iterative_filter: unknown name " + name);
}

inline FilterOptions filter_options(double contamination, bool automatic, const std::string& rule,
                                    const std::string& assume) {
  FilterOptions options;
  options.rule = named<FilterOptions::Rule>(kRules, rule);
  options.assume = named<FilterOptions::Assume>(kAssumptions, assume);
  options.contamination = contamination;
  options.automatic = automatic;
  return options;
}

inline std::string_view stop_reason(const FilterResult& result) {
  return kStopReasons[static_cast<std::size_t>(result.stop_reason)];
}

}  // namespace tamis::bindings
