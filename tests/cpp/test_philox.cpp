// Oracle: tests/data/philox_kat.txt.
#include <cstdint>
#include <fstream>
#include <sstream>
#include <string>

#include "check.hpp"
#include "tamis/philox.hpp"

TEST_CASE(known_answers) {
  std::ifstream file(TAMIS_TEST_DATA "/philox_kat.txt");
  CHECK(file.good());
  int vectors = 0;
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line[0] == '#') continue;
    std::istringstream words(line);
    std::uint32_t w[10];
    for (auto& word : w) words >> std::hex >> word;
    CHECK(!words.fail());
    const std::uint64_t key = (static_cast<std::uint64_t>(w[5]) << 32) | w[4];
    const auto result = tamis::philox4x32_10({{w[0], w[1], w[2], w[3]}}, key);
    for (int k = 0; k < 4; ++k) CHECK_EQ(result.w[k], w[6 + k]);
    ++vectors;
  }
  CHECK(vectors >= 8);
}
