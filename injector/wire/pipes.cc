// A small stock of pipes.
#include "injector/wire/pipes.h"

#include <fcntl.h>
#include <unistd.h>

#include <utility>

namespace firedrill::wire {
namespace {

constexpr int kCapacity = 256 * 1024;
constexpr size_t kMostIdle = 4;

}  // namespace

std::unique_ptr<Pipe> Pipes::Borrow() {
  if (!idle_.empty()) {
    std::unique_ptr<Pipe> pipe = std::move(idle_.back());
    idle_.pop_back();
    return pipe;
  }
  int ends[2];
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return nullptr;
  auto pipe = std::make_unique<Pipe>();
  pipe->out.Reset(ends[0]);
  pipe->in.Reset(ends[1]);
  // Where that is not permitted, the usual 64 KiB do too.
  fcntl(ends[1], F_SETPIPE_SZ, kCapacity);
  return pipe;
}

void Pipes::GiveBack(std::unique_ptr<Pipe> pipe) {
  if (pipe->held == 0 && idle_.size() < kMostIdle) idle_.push_back(std::move(pipe));
}

}  // namespace firedrill::wire
