// A real Redis server for one test: its own folder, a port that was free. It is stopped by pid,
// also when the test dies.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/testing/child.h"

namespace firedrill {

struct RedisOptions {
  // Further settings, a word each: {"--requirepass", "secret"}.
  std::vector<std::string> settings;
};

class RedisServer {
 public:
  // Started and answering; a null pointer, and the reason on stderr, when that was not possible.
  // To be called on the test's main thread.
  static std::unique_ptr<RedisServer> Start(const RedisOptions& options = {});
  ~RedisServer();

  // 127.0.0.1, TCP.
  uint16_t port() const { return port_; }
  const std::string& folder() const { return folder_.path(); }
  pid_t pid() const { return child_->pid(); }

  // Runs one command on a connection of its own, over a Unix socket: past every redirect. A bulk
  // string, a status, a number as its text; an error as "-ERR ..."; nil as "(nil)"; the elements of
  // an array, one a line. Throws std::runtime_error when there is no answer within 10 s.
  std::string Run(const std::vector<std::string>& words) const;

  // Ends the server at once (its clients see the connection break). Idempotent.
  void Stop();
  // Starts it again on the same port; nothing was kept.
  bool StartAgain();

 private:
  RedisServer() : folder_("fd-redis") {}

  TempDir folder_;
  std::vector<std::string> settings_;
  uint16_t port_ = 0;
  std::unique_ptr<Child> child_;
};

}  // namespace firedrill
