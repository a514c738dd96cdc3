// A real MariaDB server for one test: its own data folder, a port that was free, an unprivileged
// user. It is stopped by pid, also when the test dies.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/testing/child.h"

namespace firedrill {

struct MariadbOptions {
  // Further settings, as `name=value`.
  std::vector<std::string> settings;
};

class MariadbServer {
 public:
  // Started and answering; a null pointer, and the reason on stderr, when that was not possible.
  // Takes a few seconds. To be called on the test's main thread.
  static std::unique_ptr<MariadbServer> Start(const MariadbOptions& options = {});
  ~MariadbServer();

  // 127.0.0.1, TCP: `tester` with the password `tester` may do everything there. There is an empty
  // database `test`.
  uint16_t port() const { return port_; }
  const std::string& folder() const { return folder_.path(); }
  // The Unix socket, by which `root` gets in without a password.
  std::string socket() const { return folder_.path() + "/socket"; }
  pid_t pid() const { return child_->pid(); }

  // Runs one statement as root over the Unix socket. Rows of text, "" for NULL. Throws
  // std::runtime_error with the server's words.
  std::vector<std::vector<std::string>> Run(const std::string& sql) const;
  // The first value of the first row, as a number.
  int Number(const std::string& sql) const;

  // Ends the server at once (its clients see the connection break). Idempotent.
  void Stop();
  // Starts it again with the same data and port.
  bool StartAgain();

 private:
  MariadbServer() : folder_("fd-mariadb") {}

  TempDir folder_;
  std::vector<std::string> settings_;
  uint16_t port_ = 0;
  std::unique_ptr<Child> child_;
};

}  // namespace firedrill
