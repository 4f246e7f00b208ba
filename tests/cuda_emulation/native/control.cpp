// The emulation's own interface, for Python through ctypes: functions named emu_*. Not thread-safe
// beyond the machine's lock; strings returned stay valid until the next call.
#include <cstring>
#include <sstream>

#include "machine.hpp"

using emu::Machine;

namespace {

Machine& machine() { return Machine::instance(); }

std::vector<std::string> lines(const char* text) {
  std::vector<std::string> result;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) result.push_back(line);
  return result;
}

const char* keep(std::string text) {
  static std::string kept;
  kept = std::move(text);
  return kept.c_str();
}

/// Reads the numbers that `emulator.py` has written one after another.
class Numbers {
 public:
  explicit Numbers(const std::int64_t* at) : at_(at) {}
  std::int64_t next() { return *at_++; }
  int next_int() { return static_cast<int>(*at_++); }
  std::uint32_t next_size() { return static_cast<std::uint32_t>(*at_++); }

 private:
  const std::int64_t* at_;
};

std::string quoted(const std::string& text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    result += c == '\n' || c == '\t' ? ' ' : c;
  }
  return result + "\"";
}

std::string triple(const emu::Dim& dim) {
  return "[" + std::to_string(dim.x) + "," + std::to_string(dim.y) + "," + std::to_string(dim.z) +
         "]";
}

}  // namespace

extern "C" {

void emu_reset(int devices, int without_device, int architecture, unsigned order) {
  Machine& m = machine();
  const std::lock_guard lock(m.mutex);
  m.reset();
  m.devices = devices;
  m.without_device = static_cast<cudaError_t>(without_device);
  m.architecture = architecture;
  m.order = order;
}

void emu_set_loader(emu::Loader loader) { machine().loader = loader; }
void emu_set_loader_message(const char* message) { machine().loader_message = message; }
const char* emu_loader_message() { return machine().loader_message.c_str(); }
void emu_set_instruction_limit(std::uint64_t limit) { machine().instruction_limit = limit; }
void emu_set_order(unsigned order) { machine().order = order; }
void emu_set_architecture(int architecture) { machine().architecture = architecture; }

int emu_binaries() { return static_cast<int>(machine().binaries.size()); }
const void* emu_binary(int index) { return machine().binaries[static_cast<std::size_t>(index)]; }

/// numbers: rows, predicates, shared, local, max_threads; count and (row, bits) of constants; count
/// and rows of special registers; count and (offset, size) of parameters; count of instructions and
/// for each guard, negated, offset, arguments, branch targets (each list with its length before
/// it).
int emu_define_kernel(int binary, int architecture, const char* name, const char* opcodes,
                      const char* texts, const char* specials, const std::int64_t* numbers) try {
  auto kernel = std::make_unique<emu::Kernel>();
  Numbers in(numbers);
  kernel->name = name;
  kernel->rows = in.next_int();
  kernel->predicates = in.next_int();
  kernel->shared = in.next_size();
  kernel->local = in.next_size();
  kernel->max_threads = in.next_size();
  for (std::int64_t count = in.next(); count > 0; --count) {
    const int row = in.next_int();
    kernel->constants.push_back({row, static_cast<std::uint64_t>(in.next())});
  }
  const auto special_names = lines(specials);
  const std::int64_t special_count = in.next();
  for (std::int64_t k = 0; k < special_count; ++k) {
    kernel->specials.push_back({special_names[static_cast<std::size_t>(k)], in.next_int()});
  }
  for (std::int64_t count = in.next(); count > 0; --count) {
    const std::uint32_t offset = in.next_size();
    kernel->parameters.push_back({offset, in.next_size()});
  }
  const auto opcode_lines = lines(opcodes), text_lines = lines(texts);
  kernel->code.resize(static_cast<std::size_t>(in.next()));
  for (std::size_t k = 0; k < kernel->code.size(); ++k) {
    emu::Instr& instr = kernel->code[k];
    instr.opcode = opcode_lines[k];
    instr.text = text_lines[k];
    instr.guard = static_cast<std::int16_t>(in.next());
    instr.guard_negated = in.next() != 0;
    instr.offset = in.next();
    instr.args = in.next_int();
    if (instr.args > static_cast<int>(instr.arg.size())) {
      throw emu::Unsupported("too many operands: " + instr.text);
    }
    for (int n = 0; n < instr.args; ++n) instr.arg[static_cast<std::size_t>(n)] = in.next_int();
    for (std::int64_t count = in.next(); count > 0; --count) instr.target.push_back(in.next_int());
    emu::decode(instr);
  }
  machine().define(binary, architecture, std::move(kernel));
  return 0;
} catch (const std::exception& error) {
  machine().loader_message = error.what();
  return 1;
}

/// A variable of a module, in global memory; nobody frees it.
std::uint64_t emu_define_variable(const std::uint8_t* initial, std::uint64_t bytes) {
  return machine().define_variable({initial, initial + bytes});
}

/// A kernel for `emu_launch`, which no extension has registered. Returns its handle.
void* emu_function(int binary, const char* name) {
  static std::vector<std::unique_ptr<emu::Function>> functions;
  functions.push_back(std::make_unique<emu::Function>(emu::Function{binary, name}));
  return functions.back().get();
}

int emu_launch(void* function, const std::uint32_t* grid, const std::uint32_t* block,
               void** arguments, std::uint64_t shared, std::uint64_t stream) {
  Machine& m = machine();
  const std::lock_guard lock(m.mutex);
  auto& target = *static_cast<emu::Function*>(function);
  target.dynamic_limit = static_cast<int>(m.shared_limit());
  return m.launch(target, {grid[0], grid[1], grid[2]}, {block[0], block[1], block[2]}, arguments,
                  shared, reinterpret_cast<cudaStream_t>(stream));
}

// ---- memory of the test itself
std::uint64_t emu_allocate(std::uint64_t bytes, int device, const char* origin) {
  Machine& m = machine();
  const std::lock_guard lock(m.mutex);
  const emu::Region* region = m.memory.allocate(bytes, device, false, origin);
  return region == nullptr ? 0 : region->base;
}
void emu_free(std::uint64_t address) {
  Machine& m = machine();
  const std::lock_guard lock(m.mutex);
  m.release_later(address);
}
/// The host's view of device memory, and of which of its bytes hold a value; null if out of bounds.
std::uint8_t* emu_bytes(std::uint64_t address, std::uint64_t bytes) {
  emu::Region* region = machine().memory.find(address, bytes);
  return region == nullptr ? nullptr : region->data.data() + (address - region->base);
}
std::uint8_t* emu_written(std::uint64_t address, std::uint64_t bytes) {
  emu::Region* region = machine().memory.find(address, bytes);
  return region == nullptr ? nullptr : region->written.data() + (address - region->base);
}
void emu_set_capacity(std::uint64_t bytes) { machine().memory.set_capacity(bytes); }

std::uint64_t emu_create_stream() {
  return reinterpret_cast<std::uint64_t>(machine().create_stream());
}
int emu_synchronize() {
  Machine& m = machine();
  const std::lock_guard lock(m.mutex);
  m.host_is_there = false;
  const cudaError_t status = m.finish_all();
  m.host_is_there = true;
  return status;
}
void emu_inject(const char* call, int k, int error) {
  machine().inject(call, k, static_cast<cudaError_t>(error));
}

/// What happened since the last reset, as JSON: launches, calls, violations, leaks.
const char* emu_report() {
  Machine& m = machine();
  const std::lock_guard lock(m.mutex);
  std::ostringstream out;
  out << "{\"launches\":[";
  const char* comma = "";
  for (const auto& one : m.launches) {
    out << comma << "{\"kernel\":" << quoted(one.kernel) << ",\"grid\":" << triple(one.grid)
        << ",\"block\":" << triple(one.block) << ",\"dynamic_shared\":" << one.dynamic_shared
        << ",\"stream\":" << one.stream << ",\"instructions\":" << one.instructions
        << ",\"local\":" << one.local_accesses << ",\"operands\":[";
    const char* inner = "";
    for (const auto& operand : one.operands) {
      const emu::Traffic& t = operand.traffic;
      out << inner << "{\"address\":" << operand.address << ",\"size\":" << operand.size
          << ",\"read\":" << t.read << ",\"written\":" << t.written
          << ",\"unique_read\":" << t.unique_read << ",\"unique_written\":" << t.unique_written
          << ",\"sectors_read\":" << t.sectors_read << ",\"sectors_written\":" << t.sectors_written
          << "}";
      inner = ",";
    }
    out << "]}";
    comma = ",";
  }
  out << "],\"calls\":[";
  comma = "";
  for (const auto& one : m.calls) {
    out << comma << "{\"name\":" << quoted(one.name) << ",\"stream\":" << one.stream
        << ",\"bytes\":" << one.bytes << "}";
    comma = ",";
  }
  out << "],\"violations\":[";
  comma = "";
  for (const auto& one : m.violations) {
    out << comma << quoted(one);
    comma = ",";
  }
  out << "],\"leaks\":[";
  comma = "";
  for (const auto* region : m.memory.live_from_runtime()) {
    out << comma << quoted(region->origin + " of " + std::to_string(region->size()) + " bytes");
    comma = ",";
  }
  out << "]}";
  return keep(out.str());
}

void emu_clear_report() {
  Machine& m = machine();
  const std::lock_guard lock(m.mutex);
  m.launches.clear();
  m.calls.clear();
  m.violations.clear();
}

}  // extern "C"
