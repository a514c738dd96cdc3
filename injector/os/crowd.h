// Many connections that do nothing but exist, kept by a thread of their own, whatever they speak.
// They live in this process's sockets only.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <stop_token>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "base/unique_fd.h"

namespace firedrill {

// One connection, from its first step on. Closed without waiting when it is destroyed.
class CrowdMember {
 public:
  virtual ~CrowdMember() = default;
  // -1 where there is none: the next Advance() says why.
  virtual int fd() const = 0;
  // What poll(2) is to wait for.
  virtual short events() const = 0;
  // Goes on as far as possible without blocking. An error ends it: before ready() it was refused,
  // after that it is lost.
  virtual absl::Status Advance() = 0;
  // It is there, and does what it was opened for.
  virtual bool ready() const = 0;
  // Boot time at which Advance() is wanted although nothing has arrived; about 0.1 s exact.
  virtual absl::Duration due() const { return absl::InfiniteDuration(); }
};

class Crowd {
 public:
  struct Figures {
    int held = 0;
    int opening = 0;
    uint64_t opened = 0;
    // Ended by the server or by others.
    uint64_t lost = 0;
    // For want of a free slot: RESOURCE_EXHAUSTED.
    uint64_t refused = 0;
    // Why the last attempt, or the last look, failed; empty after a success.
    std::string trouble;
    absl::StatusCode trouble_code = absl::StatusCode::kOk;
  };

  struct Options {
    std::function<std::unique_ptr<CrowdMember>()> begin;
    // How many are to be opened now, besides those held; those being opened count as missing. Asked
    // every `look_every`, on the crowd's thread; may block until `stop`.
    std::function<absl::StatusOr<int>(const Figures& now, std::stop_token stop)> missing;
    absl::Duration look_every = absl::Milliseconds(5);
    // At once.
    int most_opening = 32;
  };

  explicit Crowd(Options options);
  ~Crowd();

  Figures figures() const FD_EXCLUDES(mutex_);
  // Closes every connection without waiting for the server. Idempotent. Not from within `missing`.
  void Stop() FD_EXCLUDES(mutex_);

 private:
  struct Entry {
    std::unique_ptr<CrowdMember> member;
    absl::Duration since;
    bool held = false;
    // As epoll knows it.
    int fd = -1;
    short events = 0;
  };
  using Entries = std::map<CrowdMember*, Entry>;

  void Loop(std::stop_token stop);
  void Look(std::stop_token stop, absl::Duration now);
  void Launch(absl::Duration now);
  // Those whose time has come, and those that take too long.
  void Sweep(absl::Duration now);
  void Await(absl::Duration now);
  // False when the entry is gone.
  bool Go(Entries::iterator entry);
  void Watch(CrowdMember* member, Entry& entry);
  void Gone(Entries::iterator entry, const absl::Status& why);
  void Trouble(const absl::Status& status);
  void Publish() FD_EXCLUDES(mutex_);

  const Options options_;
  const UniqueFd wake_;
  const UniqueFd epoll_;

  // Only the crowd's thread touches these, and Stop() after it has ended.
  Entries entries_;
  Figures now_;
  int missing_ = 0;
  absl::Duration next_look_;
  absl::Duration next_try_;
  absl::Duration next_sweep_;

  mutable Mutex mutex_;
  Figures published_ FD_GUARDED_BY(mutex_);
  std::jthread thread_;
};

}  // namespace firedrill
