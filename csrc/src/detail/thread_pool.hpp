// The library's one thread pool.
#pragma once

#include <cstdint>
#include <type_traits>

namespace tamis::detail {

/// A non-owning reference to a callable void(std::int64_t). The callable must outlive the call.
class IndexFunction {
 public:
  template <class Callable>
    requires(!std::is_same_v<std::remove_cvref_t<Callable>, IndexFunction>)
  IndexFunction(Callable&& callable)  // NOLINT(google-explicit-constructor)
      : object_(const_cast<void*>(static_cast<const void*>(&callable))),
        call_([](void* object, std::int64_t index) {
          (*static_cast<std::remove_reference_t<Callable>*>(object))(index);
        }) {}
  void operator()(std::int64_t index) const { call_(object_, index); }

 private:
  void* object_;
  void (*call_)(void*, std::int64_t);
};

/// Calls task(0) .. task(count - 1), each once, in any order, on the calling thread and up to
/// num_threads - 1 pool threads; returns when all are done. Results must not depend on the order.
///
/// - The first exception is rethrown here, after the tasks that had begun have ended; tasks that
///   had not begun are dropped.
/// - Safe to call from several threads at once (their tasks share the pool), from inside a task,
///   and in a forked child, which starts a pool of its own when it first needs one.
/// @param num_threads 0 for default_num_threads().
void parallel_for(std::int64_t count, int num_threads, IndexFunction task);

}  // namespace tamis::detail
