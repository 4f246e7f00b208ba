// Memory for wide vectors.
#pragma once

#include <cstddef>
#include <new>
#include <vector>

namespace tamis::detail {

/// Allocates on 64-byte boundaries, so that no wide load of packed data crosses a cache line.
template <class T>
struct CacheLines {
  using value_type = T;
  CacheLines() = default;
  template <class U>
  CacheLines(const CacheLines<U>&) noexcept {}  // NOLINT(google-explicit-constructor)
  T* allocate(std::size_t n) {
    return static_cast<T*>(::operator new(n * sizeof(T), std::align_val_t{64}));
  }
  void deallocate(T* p, std::size_t) noexcept { ::operator delete(p, std::align_val_t{64}); }
  template <class U>
  bool operator==(const CacheLines<U>&) const noexcept {
    return true;
  }
};

template <class T>
using Aligned = std::vector<T, CacheLines<T>>;

}  // namespace tamis::detail
