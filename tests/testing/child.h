// A server process of a test: started without a shell, ended by its id, and gone with the test.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "tests/testing/test_folder.h"

namespace firedrill {

class Child {
 public:
  struct Options {
    std::vector<std::string> arguments;  // The program's absolute path first.
    // Both outputs go there.
    std::string log;
    // Another user, by name; only root can ask for one.
    std::string user;
  };
  // The child dies with the thread that starts it: start it on the test's main thread.
  static absl::StatusOr<std::unique_ptr<Child>> Start(const Options& options);
  // Stop(SIGKILL) where it still runs.
  ~Child();

  pid_t pid() const { return pid_; }
  bool Running();
  void Signal(int signal);
  // Sends the signal and waits; SIGKILL when it has not ended after `patience`. Idempotent.
  void Stop(int signal, absl::Duration patience = absl::Seconds(10));
  // Waits for the end and returns the exit code, 128 + signal for a death by signal.
  absl::StatusOr<int> Wait(absl::Duration patience);

 private:
  explicit Child(pid_t pid) : pid_(pid) {}
  pid_t pid_;
  bool ended_ = false;
  int code_ = 0;
};

// A new folder in TestFolder(), 0755, removed at the end.
class TempDir {
 public:
  explicit TempDir(const std::string& prefix);
  ~TempDir();
  TempDir(const TempDir&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// A TCP port on loopback that nobody listens on at this moment.
int FreePort();
void WriteFile(const std::string& path, const std::string& text);
std::string ReadFile(const std::string& path);

}  // namespace firedrill
