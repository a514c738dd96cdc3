// Many sessions that do nothing but exist, kept by a thread of their own. They live in this
// process's sockets only: when it ends, the server ends them.
#pragma once

#include <sys/types.h>

#include <functional>
#include <map>
#include <memory>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "base/unique_fd.h"
#include "injector/os/postgres.h"

namespace firedrill {

class PostgresCrowd {
 public:
  struct Need {
    // Sessions to be opened now, besides those held; those being opened count as missing.
    int missing = 0;
    // Connections to keep ready: the server has made a process for each, but it has no slot yet,
    // because we have not said who we are. With these a freed slot is ours before an application,
    // which must begin at the beginning, can ask for it.
    int spares = 0;
  };

  struct Options {
    PostgresAccount account;
    std::string application_name;
    // Asked for every session anew, since time-outs that end at one instant become shorter.
    std::function<PostgresSettings()> settings;
    // What each session does once it is there; its answer is not waited for. Empty: nothing.
    std::function<std::string()> statement;
    // Asked every few milliseconds, on the crowd's thread; may block until `stop`.
    std::function<absl::StatusOr<Need>(int held, std::stop_token stop)> need;
  };

  struct Figures {
    int held = 0;
    int opening = 0;
    uint64_t opened = 0;
    // Ended by the server or by others.
    uint64_t lost = 0;
    // For want of a free slot.
    uint64_t refused = 0;
    // Why the last attempt, or the last look, failed; OK after a success.
    absl::Status trouble;
  };

  explicit PostgresCrowd(Options options);
  ~PostgresCrowd();

  Figures figures() const FD_EXCLUDES(mutex_);
  // Closes every session without waiting for the server. Idempotent. Not from within `need`.
  void Stop() FD_EXCLUDES(mutex_);

 private:
  struct Opening {
    std::unique_ptr<PostgresSession> session;
    absl::Duration since;
    int steps = 0;
    // Our proof of the password is sent; what comes next is the server's yes or no.
    bool proven = false;
  };

  void Loop(std::stop_token stop);
  void Look(std::stop_token stop, absl::Duration now);
  void Launch(absl::Duration now);
  void KeepSpares(absl::Duration now);
  void Await(absl::Duration now);
  void Advance(Opening& opening, absl::Duration now);
  void Hold(std::unique_ptr<PostgresSession> session);
  void ServeHeld();
  void Failed(const absl::Status& status, absl::Duration now);
  void Publish() FD_EXCLUDES(mutex_);

  const Options options_;
  const UniqueFd wake_;
  const UniqueFd epoll_;

  // Only the crowd's thread touches these, and Stop() after it has ended.
  std::vector<Opening> opening_;
  std::vector<Opening> spares_;
  std::map<int, std::unique_ptr<PostgresSession>> held_;
  Figures now_;
  // What was needed at the last look, less what has been opened since.
  Need need_;
  int refused_in_a_row_ = 0;
  absl::Duration next_look_;
  absl::Duration next_try_;

  mutable Mutex mutex_;
  Figures published_ FD_GUARDED_BY(mutex_);
  std::jthread thread_;
};

}  // namespace firedrill
