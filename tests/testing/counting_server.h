// A server on TCP that takes every connection in, says nothing, and counts: the other end's own
// opinion of how many there are. It has no thread, and serves whenever it is asked: between two
// questions the kernel takes connections in. (A test that forks must not have threads: the child of
// one that is just allocating waits forever.)
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/unique_fd.h"

namespace firedrill {

// On 127.0.0.1 and a free port; one thread asks.
class CountingServer {
 public:
  CountingServer();
  // Closes everything.
  ~CountingServer();

  int port() const { return port_; }
  // Connections that are open; one is closed once the client's end is.
  int open();
  // Taken in so far.
  int accepted();
  // What each open connection has said.
  std::vector<std::string> said();
  // Closes so many, the oldest first.
  void Kick(int count);

 private:
  // All that has happened since it was called last.
  void Serve();

  UniqueFd listener_;
  UniqueFd epoll_;
  int port_ = 0;
  std::map<int, std::string> said_;
  int accepted_ = 0;
};

}  // namespace firedrill
