// Every index once, exceptions out, nesting, concurrent callers, forked children.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <thread>
#include <vector>

#include "check.hpp"
#include "src/detail/thread_pool.hpp"
#include "tamis/exec.hpp"

using tamis::detail::parallel_for;

namespace {

std::int64_t sum_of_squares(std::int64_t count, int threads) {
  std::atomic<std::int64_t> sum{0};
  parallel_for(count, threads, [&](std::int64_t k) { sum += k * k; });
  return sum;
}

constexpr std::int64_t squares_below(std::int64_t n) { return (n - 1) * n * (2 * n - 1) / 6; }

}  // namespace

TEST_CASE(every_index_once) {
  for (const int threads : {0, 1, 2, 3, 8}) {
    for (const std::int64_t count : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> seen(static_cast<std::size_t>(count));
      parallel_for(count, threads, [&](std::int64_t k) { ++seen[static_cast<std::size_t>(k)]; });
      for (const auto& times : seen) CHECK_EQ(times.load(), 1);
    }
  }
}

TEST_CASE(exceptions_come_out_and_the_pool_survives) {
  for (int repeat = 0; repeat < 50; ++repeat) {
    CHECK_THROWS_AS(parallel_for(100, 4,
                                 [](std::int64_t k) {
                                   if (k == 37) throw std::domain_error("37");
                                 }),
                    std::domain_error);
    CHECK_EQ(sum_of_squares(100, 4), squares_below(100));
  }
}

TEST_CASE(nested_calls) {
  std::atomic<std::int64_t> sum{0};
  parallel_for(8, 4, [&](std::int64_t) { sum += sum_of_squares(50, 4); });
  CHECK_EQ(sum.load(), 8 * squares_below(50));
}

TEST_CASE(concurrent_callers) {
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < 6; ++c) {
    callers.emplace_back([&] {
      for (int repeat = 0; repeat < 100; ++repeat) {
        if (sum_of_squares(97, 3) != squares_below(97)) ++wrong;
      }
    });
  }
  for (auto& caller : callers) caller.join();
  CHECK_EQ(wrong.load(), 0);
}

TEST_CASE(forked_child_gets_a_pool_of_its_own) {
#if defined(__SANITIZE_THREAD__)
  // ThreadSanitizer itself refuses to start threads in a forked child.
  std::printf("     not run: ThreadSanitizer does not support threads after fork\n");
#else
  CHECK_EQ(sum_of_squares(1000, 4), squares_below(1000));  // the parent's pool exists
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);  // a hang becomes a failure
    _exit(sum_of_squares(1000, 4) == squares_below(1000) ? 0 : 1);
  }
  int status = -1;
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  CHECK_EQ(sum_of_squares(1000, 4), squares_below(1000));
#endif
}

TEST_CASE(thread_count_from_the_environment) {
  setenv("TAMIS_NUM_THREADS", "3", 1);
  CHECK_EQ(tamis::default_num_threads(), 3);
  setenv("TAMIS_NUM_THREADS", "", 1);
  setenv("OMP_NUM_THREADS", "5,2", 1);
  CHECK_EQ(tamis::default_num_threads(), 5);
  for (const char* wrong : {"0", "-1", "two", "2x", "99999999999"}) {
    setenv("TAMIS_NUM_THREADS", wrong, 1);
    CHECK_THROWS_AS(tamis::default_num_threads(), std::invalid_argument);
  }
  unsetenv("TAMIS_NUM_THREADS");
  unsetenv("OMP_NUM_THREADS");
  CHECK(tamis::default_num_threads() >= 1);
  CHECK_THROWS_AS(parallel_for(2, -1, [](std::int64_t) {}), std::invalid_argument);
}
