// A tiny HTTP server for tests, with answers that the test makes.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "base/unique_fd.h"

namespace firedrill {

struct ServerRequest {
  std::string method;
  std::string target;                          // Path and query.
  std::map<std::string, std::string> headers;  // Names in lower case.
  std::string body;
};

struct ServerAnswer {
  int status = 200;
  std::string body;
  std::map<std::string, std::string> headers;
  // Before the first byte is sent.
  absl::Duration delay;
  // Closes the connection instead of answering.
  bool hang_up = false;
};

// On 127.0.0.1 and a free port; each connection has a thread and carries one request.
class HttpServer {
 public:
  // Called on a thread of its own for each request.
  using Answers = std::function<ServerAnswer(const ServerRequest&)>;
  explicit HttpServer(Answers answers);
  ~HttpServer();

  int port() const { return port_; }
  // "http://127.0.0.1:<port>".
  std::string url() const;
  // Requests so far.
  std::vector<ServerRequest> seen();

 private:
  void Accept();
  void Serve(UniqueFd fd);

  const Answers answers_;
  UniqueFd listener_;
  int port_ = 0;
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;
  std::vector<ServerRequest> seen_;
  std::vector<std::thread> threads_;
  std::thread acceptor_;
};

}  // namespace firedrill
