// How somebody else ends a request that is held here: who asks comes on a connection of its own,
// perhaps to another thread or another proxy of the same server.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/mutex.h"
#include "injector/wire/codec.h"
#include "injector/wire/flow.h"

namespace firedrill::wire {

class Lane;

// Whoever asks for this long in vain is not held up any more, in microseconds.
inline constexpr uint32_t kAskFor = 1'000'000;

// The lanes of all proxies of one server. Nothing is kept of sessions: being asked is rare, and
// each lane looks through its own.
class Cancels {
 public:
  void Join(Lane* lane) FD_EXCLUDES(mutex_);
  // Is not asked any more, and not told.
  void Leave(Lane* lane) FD_EXCLUDES(mutex_);

  // What the session of this key holds is cancelled, soon. The relay of this number of `asker`,
  // which may be null, is told whether there was something. Any thread.
  void Ask(uint64_t key, Lane* asker, uint64_t relay) FD_EXCLUDES(mutex_);

 private:
  struct Question {
    uint64_t key = 0;
    Lane* asker = nullptr;
    uint64_t relay = 0;
    std::atomic<size_t> left = 0;
    std::atomic<bool> cancelled = false;
  };
  void Answer(const Question& question) FD_EXCLUDES(mutex_);

  Mutex mutex_;
  std::vector<Lane*> lanes_ FD_GUARDED_BY(mutex_);
};

// Cancels what lies in front of `flow`, where that is a request that is held and can be. What the
// codec puts in its place may go at once. Says how it was held; nullopt: nothing has changed.
std::optional<Hold> CancelFront(Codec& codec, Flow& flow, Nanos now);

}  // namespace firedrill::wire
