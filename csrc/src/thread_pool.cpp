#include "src/detail/thread_pool.hpp"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cmath>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <exception>
#include <fstream>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tamis/exec.hpp"

namespace tamis {
namespace detail {
namespace {

/// One parallel_for. Threads take indices from `next`; the owner waits until no helper is inside.
struct Job {
  IndexFunction task;
  std::int64_t count;
  std::atomic<std::int64_t> next{0};
  int helpers_wanted;          // guarded by Pool::mutex_
  int helpers_inside = 0;      // guarded by Pool::mutex_
  std::exception_ptr error{};  // guarded by Pool::mutex_
};

class Pool {
 public:
  static Pool& instance();

  void run(Job& job, int helpers) {
    {
      std::lock_guard lock(mutex_);
      while (static_cast<int>(threads_.size()) < helpers) {
        threads_.emplace_back([this] { serve(); });
      }
      jobs_.push_back(&job);
    }
    wake_.notify_all();
    work_on(job);
    std::unique_lock lock(mutex_);
    jobs_.erase(std::remove(jobs_.begin(), jobs_.end(), &job), jobs_.end());
    done_.wait(lock, [&] { return job.helpers_inside == 0; });
  }

 private:
  void work_on(Job& job) {
    try {
      for (;;) {
        const std::int64_t index = job.next.fetch_add(1, std::memory_order_relaxed);
        if (index >= job.count) return;
        job.task(index);
      }
    } catch (...) {
      job.next.store(job.count, std::memory_order_relaxed);  // drop what has not begun
      std::lock_guard lock(mutex_);
      if (!job.error) job.error = std::current_exception();
    }
  }

  void serve() {
    std::unique_lock lock(mutex_);
    for (;;) {
      Job* job = nullptr;
      wake_.wait(lock, [&] {
        for (Job* candidate : jobs_) {
          if (candidate->helpers_wanted > 0) {
            job = candidate;
            return true;
          }
        }
        return false;
      });
      --job->helpers_wanted;
      ++job->helpers_inside;
      lock.unlock();
      work_on(*job);
      lock.lock();
      --job->helpers_inside;
      done_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable done_;
  std::deque<Job*> jobs_;
  std::vector<std::thread> threads_;
};

// The pool is never destroyed: its threads sleep until the process ends, so no destructor can race
// with a thread that still computes. A forked child inherits the memory but not the threads; it
// forgets the old pool, whose locks may be held by threads that no longer exist, and makes another.
Pool* pool = nullptr;
std::mutex pool_mutex;

void forget_pool_in_child() {
  pool = nullptr;
  new (&pool_mutex) std::mutex;
}

Pool& Pool::instance() {
  std::lock_guard lock(pool_mutex);
  if (pool == nullptr) {
    static const int registered = pthread_atfork(nullptr, nullptr, forget_pool_in_child);
    if (registered != 0) throw std::runtime_error("[tamis] pthread_atfork failed");
    pool = new Pool;
  }
  return *pool;
}

int positive_integer(const char* name, const char* text) {
  // OMP_NUM_THREADS may be a list, one entry a nesting level; the first one counts.
  const char* end = text + std::strcspn(text, ",");
  int value = 0;
  const auto [stop, error] = std::from_chars(text, end, value);
  if (error != std::errc() || stop != end || value < 1) {
    throw std::invalid_argument("[tamis] expected " + std::string(name) +
                                " to be a positive integer, got '" + text + "'");
  }
  return value;
}

/// CPUs granted by the container (cgroup v2), rounded up; 0 if there is no limit.
int container_quota() {
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  double quota = 0, period = 0;
  if (!(file >> quota >> period) || period <= 0) return 0;  // "max" does not parse: no limit
  return static_cast<int>(std::ceil(quota / period));
}

int allowed_cpus() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace

void parallel_for(std::int64_t count, int num_threads, IndexFunction task) {
  if (count <= 0) return;
  if (num_threads < 0) {
    throw std::invalid_argument("[tamis] expected num_threads >= 0, got " +
                                std::to_string(num_threads));
  }
  if (num_threads == 0) num_threads = default_num_threads();
  const int threads = static_cast<int>(std::min<std::int64_t>(num_threads, count));
  if (threads == 1) {
    for (std::int64_t k = 0; k < count; ++k) task(k);
    return;
  }
  Job job{.task = task, .count = count, .helpers_wanted = threads - 1};
  Pool::instance().run(job, threads - 1);
  if (job.error) std::rethrow_exception(job.error);
}

}  // namespace detail

int default_num_threads() {
  for (const char* name : {"TAMIS_NUM_THREADS", "OMP_NUM_THREADS"}) {
    const char* text = std::getenv(name);
    if (text != nullptr && *text != '\0') return detail::positive_integer(name, text);
  }
  const int cpus = detail::allowed_cpus();
  const int quota = detail::container_quota();
  return quota > 0 ? std::min(cpus, quota) : cpus;
}

}  // namespace tamis
