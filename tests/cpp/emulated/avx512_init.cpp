// Process 1 of the emulated machine that run_avx512 boots: runs the listed commands one after the
// other, relays what they print and how they ended through the parallel port, and powers off.
//
// /manifest is a sequence of NUL-terminated strings: a token, the number of commands, and for each
// command the number of environment entries, the entries, the number of arguments, the arguments.
// Every line about the run itself starts with "@token ", which a command cannot guess.

#include <cpuid.h>
#include <fcntl.h>
#include <sys/io.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

constexpr unsigned short kParallelPort = 0x378;
constexpr unsigned short kShutdownPort = 0x8900;  // bochs ends on the word "Shutdown"

void send(const char* bytes, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    outb(static_cast<unsigned char>(bytes[i]), kParallelPort);
    outb(0x0d, kParallelPort + 2);  // strobe on and off
    outb(0x0c, kParallelPort + 2);
  }
}

void send(const std::string& text) { send(text.data(), text.size()); }

[[noreturn]] void power_off() {
  for (const char c : std::string("Shutdown")) {
    outb(static_cast<unsigned char>(c), kShutdownPort);
  }
  for (;;) {
    pause();
  }
}

// Empty where processor and kernel both offer AVX-512 F, DQ, BW and VL, else what is missing.
std::string missing_avx512() {
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  __get_cpuid(1, &a, &b, &c, &d);
  if ((c & bit_OSXSAVE) == 0) {
    return "OSXSAVE";
  }
  unsigned low = 0;
  unsigned high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  if ((low & 0xe6u) != 0xe6u) {
    return "the AVX-512 state in XCR0";
  }
  __get_cpuid_count(7, 0, &a, &b, &c, &d);
  constexpr unsigned kWanted = bit_AVX512F | bit_AVX512DQ | bit_AVX512BW | bit_AVX512VL;
  return (b & kWanted) == kWanted ? "" : "a CPUID bit among AVX512F, DQ, BW, VL";
}

std::vector<std::string> read_manifest() {
  std::vector<std::string> fields;
  std::FILE* file = std::fopen("/manifest", "rb");
  if (file == nullptr) {
    return fields;
  }
  std::string field;
  for (int c = std::fgetc(file); c != EOF; c = std::fgetc(file)) {
    if (c == 0) {
      fields.push_back(field);
      field.clear();
    } else {
      field.push_back(static_cast<char>(c));
    }
  }
  std::fclose(file);
  return fields;
}

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> result;
  for (std::string& s : strings) {
    result.push_back(s.data());
  }
  result.push_back(nullptr);
  return result;
}

// Runs one command to its end; returns the status of waitpid, or -1 where it could not be started.
int run(std::vector<std::string> environment, std::vector<std::string> arguments) {
  int ends[2];
  if (pipe(ends) != 0) {
    return -1;
  }
  const pid_t child = fork();
  if (child < 0) {
    return -1;
  }
  if (child == 0) {
    const int null = open("/dev/null", O_RDONLY);
    dup2(null, 0);
    dup2(ends[1], 1);
    dup2(ends[1], 2);
    close(null);
    close(ends[0]);
    close(ends[1]);
    execve(arguments[0].c_str(), pointers(arguments).data(), pointers(environment).data());
    std::fprintf(stderr, "cannot execute %s: %s\n", arguments[0].c_str(), std::strerror(errno));
    _exit(127);
  }
  close(ends[1]);
  char buffer[4096];
  for (;;) {
    const ssize_t count = read(ends[0], buffer, sizeof buffer);
    if (count > 0) {
      send(buffer, static_cast<std::size_t>(count));
    } else if (count == 0 || errno != EINTR) {
      break;
    }
  }
  close(ends[0]);
  int status = -1;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

}  // namespace

int main() {
  if (ioperm(kParallelPort, 3, 1) != 0 || ioperm(kShutdownPort, 1, 1) != 0) {
    std::perror("ioperm");  // to the serial console; the host reports a run without an end
    return 1;
  }
  mkdir("/proc", 0755);
  mkdir("/sys", 0755);
  mkdir("/tmp", 01777);
  mount("proc", "/proc", "proc", 0, nullptr);
  mount("sysfs", "/sys", "sysfs", 0, nullptr);
  mount("devtmpfs", "/dev", "devtmpfs", 0, nullptr);

  const std::vector<std::string> fields = read_manifest();
  std::size_t next = 0;
  const auto take = [&]() -> std::string { return next < fields.size() ? fields[next++] : "0"; };
  const auto take_list = [&] {
    std::vector<std::string> list(std::strtoul(take().c_str(), nullptr, 10));
    for (std::string& entry : list) {
      entry = take();
    }
    return list;
  };

  const std::string mark = "\n@" + take() + " ";
  const std::string missing = missing_avx512();
  if (!missing.empty()) {
    send(mark + "broken the machine lacks " + missing + "\n\n");
    power_off();
  }
  const unsigned long commands = std::strtoul(take().c_str(), nullptr, 10);
  for (unsigned long i = 0; i < commands; ++i) {
    std::vector<std::string> environment = take_list();
    std::vector<std::string> arguments = take_list();
    const std::string number = std::to_string(i);
    send(mark + "start " + number + "\n");
    const int status = arguments.empty() ? -1 : run(environment, arguments);
    send(mark + "end " + number + " ");
    if (status != -1 && WIFEXITED(status)) {
      send("exit " + std::to_string(WEXITSTATUS(status)) + "\n");
    } else if (status != -1 && WIFSIGNALED(status)) {
      send("signal " + std::to_string(WTERMSIG(status)) + "\n");
    } else {
      send("lost 0\n");
    }
  }
  send(mark + "done " + std::to_string(commands) + "\n\n\n");
  power_off();
}
