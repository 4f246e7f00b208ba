#include "machine.hpp"

#include <algorithm>

namespace emu {
namespace {

thread_local int current = 0;
thread_local cudaError_t last = cudaSuccess;

}  // namespace

Machine& Machine::instance() {
  static Machine machine;
  return machine;
}

void Machine::reset() {
  const std::lock_guard lock(mutex);
  streams_.clear();
  streams_[0] = std::make_unique<Stream>();
  faults_.clear();
  launches.clear();
  calls.clear();
  violations.clear();
  loader_message.clear();
  memory.clear();
  for (Variable& variable : variables_) {
    variable.region->data = variable.initial;
    variable.region->written.assign(variable.initial.size(), 1);
  }
  for (auto& [stub, function] : functions) function->dynamic_limit = kSharedDefault;
  devices = 1;
  without_device = cudaErrorNoDevice;
  order = 0;
  fatal_ = last = cudaSuccess;
  current = 0;
}

cudaError_t Machine::begin(const char* call, std::uint64_t stream, std::uint64_t bytes) {
  calls.push_back({call, stream, bytes});
  if (const auto fault = faults_.find(call); fault != faults_.end()) {
    if (--fault->second.countdown == 0) {
      const cudaError_t error = fault->second.error;
      faults_.erase(fault);
      return error;
    }
  }
  if (devices == 0) return without_device;
  return fatal_;
}

cudaError_t Machine::note(cudaError_t error) {
  if (error != cudaSuccess) last = error;
  return error;
}

cudaError_t Machine::last_error(bool clear) {
  const cudaError_t error = fatal_ != cudaSuccess ? fatal_ : last;
  if (clear) last = cudaSuccess;
  return error;
}

void Machine::inject(const std::string& call, int k, cudaError_t error) {
  faults_[call] = {k, error};
}

int Machine::current_device() const { return current; }
void Machine::set_current_device(int device) { current = device; }

Stream* Machine::stream(cudaStream_t handle) {
  auto number = reinterpret_cast<std::uint64_t>(handle);
  if (number <= 2) number = 0;  // default, cudaStreamLegacy, cudaStreamPerThread
  const auto found = streams_.find(number);
  return found == streams_.end() ? nullptr : found->second.get();
}

cudaStream_t Machine::create_stream() {
  next_stream_ += 0x100;
  auto stream = std::make_unique<Stream>();
  stream->device = current;
  streams_[next_stream_] = std::move(stream);
  return reinterpret_cast<cudaStream_t>(next_stream_);
}

bool Machine::destroy_stream(cudaStream_t handle) {
  Stream* found = stream(handle);
  const auto number = reinterpret_cast<std::uint64_t>(handle);
  if (found == nullptr || number <= 2) return false;
  finish(*found);
  streams_.erase(number);
  return true;
}

void Machine::enqueue(Stream& target, std::function<void()> work) {
  // The legacy default stream waits for all others, and they for it.
  Stream& legacy = *streams_[0];
  if (&target == &legacy) {
    for (auto& [number, other] : streams_) {
      if (other.get() != &legacy) finish(*other);
    }
  } else {
    finish(legacy);
  }
  target.queue.push_back(std::move(work));
}

cudaError_t Machine::finish(Stream& target) {
  while (!target.queue.empty()) {
    const std::function<void()> work = std::move(target.queue.front());
    target.queue.pop_front();
    if (fatal_ == cudaSuccess) work();
  }
  return fatal_;
}

cudaError_t Machine::finish_all() {
  for (auto& [number, stream] : streams_) finish(*stream);
  return fatal_;
}

void Machine::release_later(std::uint64_t address) {
  const std::shared_ptr<void> last(nullptr, [=, this](void*) { memory.release(address); });
  for (auto& [number, stream] : streams_) {
    if (!stream->queue.empty()) stream->queue.push_back([last] {});
  }
}

void Machine::violate(const std::string& message, cudaError_t fatal) {
  violations.push_back(message);
  fatal_ = fatal;
}

void Machine::define(int binary, int arch, std::unique_ptr<Kernel> kernel) {
  const std::string name = kernel->name;
  kernels_[{binary, arch}][name] = std::move(kernel);
}

const Kernel* Machine::kernel(const Function& function) {
  auto& known = kernels_[{function.binary, architecture}];
  if (known.find(function.name) == known.end()) {
    loader_message.clear();
    if (loader == nullptr || loader(function.binary, function.name.c_str(), architecture) != 0) {
      violations.push_back("cannot load " + function.name + ": " + loader_message);
      return nullptr;
    }
  }
  const auto found = known.find(function.name);
  return found == known.end() ? nullptr : found->second.get();
}

std::uint64_t Machine::define_variable(std::vector<std::uint8_t> initial) {
  Region* region = memory.allocate(initial.size(), Region::kEveryDevice, false, "a variable");
  region->data = initial;
  region->written.assign(initial.size(), 1);
  variables_.push_back({region, std::move(initial)});
  return region->base;
}

std::uint32_t Machine::shared_limit() const {
  switch (architecture) {  // CUDA programming guide, "Compute Capabilities"
    case 75:
      return 64 << 10;
    case 80:
    case 87:
      return 163 << 10;
    case 86:
    case 89:
      return 99 << 10;
    default:
      return 227 << 10;
  }
}

cudaError_t Machine::launch(Function& function, Dim grid, Dim block, void** arguments,
                            std::size_t shared, cudaStream_t handle) {
  Stream* target = stream(handle);
  if (target == nullptr) return cudaErrorInvalidResourceHandle;
  const std::uint64_t threads = block.count();
  if (threads == 0 || grid.count() == 0 || block.x > 1024 || block.y > 1024 || block.z > 64 ||
      threads > 1024 || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535) {
    return cudaErrorInvalidConfiguration;
  }
  const Kernel* code = kernel(function);
  if (code == nullptr) return cudaErrorNoKernelImageForDevice;
  if (threads > code->max_threads) return cudaErrorInvalidValue;
  if (shared > static_cast<std::size_t>(function.dynamic_limit) ||
      shared + code->shared > shared_limit() ||
      (function.dynamic_limit <= static_cast<int>(kSharedDefault) &&
       shared + code->shared > kSharedDefault)) {
    return cudaErrorInvalidValue;
  }
  std::vector<std::uint8_t> parameters(code->parameter_bytes());
  for (std::size_t k = 0; k < code->parameters.size(); ++k) {
    std::memcpy(parameters.data() + code->parameters[k].offset, arguments[k],
                code->parameters[k].size);
  }
  const int device = current;
  const auto number = reinterpret_cast<std::uint64_t>(handle);
  enqueue(*target, [=, this, parameters = std::move(parameters)]() mutable {
    Launch run{*code, memory, grid, block, std::move(parameters)};
    run.dynamic_shared = static_cast<std::uint32_t>(shared);
    run.device = device;
    run.order = order;
    run.instruction_limit = instruction_limit;
    try {
      run.run();
    } catch (const Violation& fault) {
      const std::string what = fault.what();
      violate(what, what.find("misaligned") != std::string::npos      ? cudaErrorMisalignedAddress
                    : what.find("out of bounds") != std::string::npos ? cudaErrorIllegalAddress
                    : what.find("assertion") != std::string::npos     ? cudaErrorAssert
                                                                      : cudaErrorLaunchFailure);
    } catch (const std::exception& fault) {
      violate(code->name + ": " + fault.what(), cudaErrorLaunchFailure);
    }
    LaunchRecord record{
        code->name,         grid, block, static_cast<std::uint32_t>(shared), number, run.executed,
        run.local_accesses, {}};
    for (const Region* region : memory.touched()) {
      record.operands.push_back({region->base, region->size(), region->traffic});
    }
    launches.push_back(std::move(record));
  });
  return cudaSuccess;
}

}  // namespace emu
