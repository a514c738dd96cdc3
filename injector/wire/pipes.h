// Pipes through which bytes go from socket to socket without being copied to this process.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "base/unique_fd.h"

namespace firedrill::wire {

struct Pipe {
  UniqueFd in;
  UniqueFd out;
  size_t held = 0;
};

// One thread's. Few: a pipe is borrowed while bulk is under way, and kept by a way only while
// something lies in it.
class Pipes {
 public:
  // Empty; null where there are no descriptors.
  std::unique_ptr<Pipe> Borrow();
  // Nobody's bytes may be left for the next one: what holds any is closed.
  void GiveBack(std::unique_ptr<Pipe> pipe);

 private:
  std::vector<std::unique_ptr<Pipe>> idle_;
};

}  // namespace firedrill::wire
