// Stream-ordered device memory and copies, for the operations on rows of a matrix.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "src/cuda/check.cuh"

namespace tamis::cuda {

/// What every CUDA call of an operation needs: a name for messages and a stream.
struct Call {
  const char* op;
  cudaStream_t stream;
  int device;

  Call(const char* name, const Exec& exec)
      : op(name), stream(stream_of(exec)), device(exec.device.index) {}
  void check(cudaError_t status, const char* call) const { cuda::check(status, op, call); }
  void launched() const { check(cudaGetLastError(), "kernel launch"); }
  void wait() const { check(cudaStreamSynchronize(stream), "cudaStreamSynchronize"); }

  /// Before memory is taken. The pool behind cudaMallocAsync gives all of it back whenever a stream
  /// is waited for, unless it is told to keep some: every call would pay for getting it again (0.5
  /// ms of 1.6 for a product with 1,000,000 x 512 numbers on an H200). What the process has set
  /// itself is left alone.
  void keep_memory() const {
    if (keeps_) return;
    constexpr std::uint64_t kKept = std::uint64_t{256} << 20;
    cudaMemPool_t pool = nullptr;
    check(cudaDeviceGetDefaultMemPool(&pool, device), "cudaDeviceGetDefaultMemPool");
    std::uint64_t kept = 0;
    check(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &kept),
          "cudaMemPoolGetAttribute");
    if (kept == 0) {
      kept = kKept;
      check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &kept),
            "cudaMemPoolSetAttribute");
    }
    keeps_ = true;
  }

 private:
  mutable bool keeps_ = false;
};

/// Numbers of the device, now.
template <class T>
std::vector<T> numbers_at(const T* from, std::int64_t size, const Call& call) {
  std::vector<T> out(static_cast<std::size_t>(size));
  if (size == 0) return out;
  call.check(cudaMemcpyAsync(out.data(), from, out.size() * sizeof(T), cudaMemcpyDeviceToHost,
                             call.stream),
             "cudaMemcpyAsync");
  call.wait();
  return out;
}

/// Memory for `size` numbers, allocated and freed in the order of the stream.
template <class T>
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  DeviceBuffer(std::size_t size, const Call& call) : stream_(call.stream), size_(size) {
    if (size == 0) return;
    call.keep_memory();
    void* memory = nullptr;
    call.check(cudaMallocAsync(&memory, size * sizeof(T), stream_), "cudaMallocAsync");
    data_ = static_cast<T*>(memory);
  }
  DeviceBuffer(const std::vector<T>& from, const Call& call) : DeviceBuffer(from.size(), call) {
    upload(from.data(), from.size(), call);
  }
  DeviceBuffer(DeviceBuffer&& other) noexcept { *this = std::move(other); }
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
    std::swap(stream_, other.stream_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  /// With the device current that it was allocated on: hold a DeviceGuard for longer.
  ~DeviceBuffer() {
    // A destructor cannot report; the next checked call on this stream will.
    if (data_ != nullptr) static_cast<void>(cudaFreeAsync(data_, stream_));
  }

  T* get() const { return data_; }
  std::size_t size() const { return size_; }

  /// More memory if it is too small: what it held is then lost.
  void reserve(std::size_t size, const Call& call) {
    if (size <= size_) return;
    *this = DeviceBuffer();
    *this = DeviceBuffer(size, call);
  }
  void zero(std::size_t size, const Call& call) {
    call.check(cudaMemsetAsync(data_, 0, size * sizeof(T), call.stream), "cudaMemsetAsync");
  }
  void upload(const T* from, std::size_t size, const Call& call) {
    if (size == 0) return;
    call.check(cudaMemcpyAsync(data_, from, size * sizeof(T), cudaMemcpyHostToDevice, call.stream),
               "cudaMemcpyAsync");
  }
  /// `to` holds the numbers once the stream has been waited for.
  void download(T* to, std::size_t size, const Call& call) const {
    if (size == 0) return;
    call.check(cudaMemcpyAsync(to, data_, size * sizeof(T), cudaMemcpyDeviceToHost, call.stream),
               "cudaMemcpyAsync");
  }
  /// All numbers, now.
  std::vector<T> numbers(const Call& call) const {
    return numbers_at(data_, static_cast<std::int64_t>(size_), call);
  }

 private:
  cudaStream_t stream_ = nullptr;
  T* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace tamis::cuda
