// A server on TCP that takes every connection in, says nothing, and counts: the other end's own
// opinion of how many there are.
#pragma once

#include <atomic>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/unique_fd.h"

namespace firedrill {

// On 127.0.0.1 and a free port.
class CountingServer {
 public:
  CountingServer();
  // Closes everything.
  ~CountingServer();

  int port() const { return port_; }
  // Connections that are open; one is closed as soon as the client's end is.
  int open();
  // Taken in so far.
  int accepted();
  // What each open connection has said.
  std::vector<std::string> said();
  // Closes so many, the oldest first.
  void Kick(int count);

 private:
  void Serve();

  UniqueFd listener_;
  UniqueFd epoll_;
  int port_ = 0;
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;
  std::map<int, std::string> said_;
  int accepted_ = 0;
  std::thread thread_;
};

}  // namespace firedrill
