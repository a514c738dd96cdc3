// The door to the processes of this machine: who is whose child, who listens on a port, and whose
// number stands in a file.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace firedrill {

struct Process {
  pid_t pid = 0;
  pid_t parent = 0;
  // Ticks since boot: with the number it tells a process from a later one of the same number.
  uint64_t start = 0;
  // At most 15 characters.
  std::string name;
  // A thread of the kernel.
  bool kernel = false;
  // It is about to be no more: nothing can be done with it.
  bool ending = false;
  // Processor time of it and of those of its children that have ended and were waited for.
  absl::Duration used;

  // "postgres (process 1234)".
  std::string Words() const;
  // The injector, its reaper, its worker, a controller, `firedrill` itself: who must go on.
  bool IsOurs() const;
};

// NOT_FOUND where it has ended.
absl::StatusOr<Process> FindProcess(pid_t pid);
// Every process there is, by its number.
std::map<pid_t, Process> AllProcesses();
// Itself first, and all its children and theirs, parents first.
std::vector<Process> TreeOf(const Process& process, const std::map<pid_t, Process>& all);
// Their numbers, its own among them.
std::vector<pid_t> ThreadsOf(pid_t pid);

// Whose number is in the first line of the file. FAILED_PRECONDITION where the file is left over
// from a process that has ended, or was written by a user who may not speak for that process.
absl::StatusOr<Process> ProcessOfPidfile(const std::string& path);
// Who listens on the TCP port; of several with the same socket the one whose children the others
// are.
absl::StatusOr<Process> ListenerOf(uint16_t port);

// The processor time that a changing set of processes uses, where no group counts it.
class ProcessMeter {
 public:
  // Looks at them: at first what they have used so far does not count. From then on, all that was
  // used since, by whoever is among them now or was waited for by one of them.
  absl::Duration Used(const std::vector<pid_t>& pids);

 private:
  struct Seen {
    uint64_t start;
    pid_t parent;
    absl::Duration used;
  };
  bool begun_ = false;
  absl::Duration sum_, before_;
  std::map<pid_t, Seen> seen_;
};

}  // namespace firedrill
