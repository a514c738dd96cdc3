// A real PostgreSQL server for one test: its own data folder, a port that was free, an unprivileged
// user. It is stopped by pid, also when the test dies.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace firedrill {

struct PostgresOptions {
  int max_connections = 60;
  int reserved = 3;
  // Further settings, as `name=value`.
  std::vector<std::string> settings;
};

class PostgresServer {
 public:
  // Started and answering; a null pointer, and the reason on stderr, when that was not possible.
  static std::unique_ptr<PostgresServer> Start(const PostgresOptions& options = {});
  // A standby that streams from `primary`, with the same settings, on a port of its own.
  static std::unique_ptr<PostgresServer> StartReplica(const PostgresServer& primary);
  ~PostgresServer();

  // 127.0.0.1; passwords are asked for there (SCRAM). The superuser `postgres` has the password
  // `postgres`.
  uint16_t port() const { return port_; }
  // The folder of the Unix socket, by which everyone gets in without a password.
  const std::string& folder() const { return folder_; }
  pid_t pid() const { return pid_; }

  // Runs SQL as the superuser, over the Unix socket. Rows of text, "" for NULL. Throws
  // std::runtime_error with the server's words.
  std::vector<std::vector<std::string>> Run(const std::string& sql) const;
  // The first value of the first row, as a number.
  int Number(const std::string& sql) const;

  // Ends the server at once (its clients see the connection break). Idempotent.
  void Stop();
  // Starts it again with the same data and port.
  bool StartAgain();

 private:
  PostgresServer() = default;
  // A folder of its own, for the user that the server runs as; null where that is not possible.
  static std::unique_ptr<PostgresServer> InNewFolder();
  bool StartOnFreePort();

  std::string folder_;
  std::vector<std::string> arguments_;
  uint16_t port_ = 0;
  pid_t pid_ = -1;
};

}  // namespace firedrill
