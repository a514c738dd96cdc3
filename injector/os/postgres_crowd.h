// Many sessions that do nothing but exist, kept by a thread of their own. They live in this
// process's sockets only: when it ends, the server ends them.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "base/unique_fd.h"
#include "injector/os/crowd.h"
#include "injector/os/postgres.h"

namespace firedrill {

class PostgresCrowd {
 public:
  using Figures = Crowd::Figures;

  struct Need {
    // Sessions to be opened now, besides those held; those being opened count as missing.
    int missing = 0;
    // Connections to keep ready: the server has made a process for each, but it has no slot yet,
    // because we have not said who we are. With these a freed slot is ours before an application,
    // which must begin at the beginning, can ask for it.
    int spares = 0;
    // Every slot of the server is wanted: an attempt too many is refused, and does no harm.
    bool to_the_last = false;
  };

  struct Options {
    // The server's identity, the same for all who use it.
    std::string server;
    PostgresAccount account;
    std::string application_name;
    // Asked for every session anew, since time-outs that end at one instant become shorter.
    std::function<PostgresSettings()> settings;
    // What each session does once it is there; its answer is not waited for. Empty: nothing.
    std::function<std::string()> statement;
    // Asked every few milliseconds, on the crowd's thread; may block until `stop`.
    std::function<absl::StatusOr<Need>(const Figures& now, std::stop_token stop)> need;
  };

  explicit PostgresCrowd(Options options);
  ~PostgresCrowd();

  // `count` slots of this server are about to become free by our own doing: every crowd there that
  // takes slots back goes to the door now, and is through before those who lose them can come back.
  // Returns when they are there. Any thread.
  static void ExpectFreedSlots(const std::string& server, int count);

  Figures figures() const FD_EXCLUDES(mutex_);
  // Closes every session without waiting for the server. Idempotent. Not from within `need`.
  void Stop() FD_EXCLUDES(mutex_);

 private:
  // A session on its way in. Each has a thread: the proof of a password takes 3 ms of our own time,
  // in which a refusal of another one must not go unnoticed.
  struct Attempt {
    std::unique_ptr<PostgresSession> session;
    absl::Status result;
    std::jthread thread;
  };
  struct Spare {
    std::unique_ptr<PostgresSession> session;
    absl::Duration since;
  };

  void Loop(std::stop_token stop);
  void Look(std::stop_token stop, absl::Duration now);
  void Launch(absl::Duration now);
  bool Expecting(absl::Duration now) const;
  int Wanted(absl::Duration now) const;
  void Begin(std::unique_ptr<PostgresSession> session);
  void KeepSpares(absl::Duration now);
  void Await(absl::Duration now);
  void Collect() FD_EXCLUDES(mutex_);
  void Hold(std::unique_ptr<PostgresSession> session);
  void ServeHeld();
  void Trouble(const absl::Status& status);
  void Failed(const absl::Status& status, absl::Duration now);
  void Publish() FD_EXCLUDES(mutex_);

  const Options options_;
  const UniqueFd wake_;
  const UniqueFd epoll_;

  // Only the crowd's thread touches these, and Stop() after it has ended.
  std::list<Attempt> attempts_;
  std::vector<Spare> spares_;
  std::map<int, std::unique_ptr<PostgresSession>> held_;
  Figures now_;
  // What was needed at the last look, less what has been opened since.
  Need need_;
  int refused_in_a_row_ = 0;
  absl::Duration next_look_;
  absl::Duration next_try_;

  // Boot time in nanoseconds.
  std::atomic<int64_t> expecting_until_ = 0;
  std::atomic<int> expected_ = 0;

  mutable Mutex mutex_;
  Figures published_ FD_GUARDED_BY(mutex_);
  std::vector<std::list<Attempt>::iterator> finished_ FD_GUARDED_BY(mutex_);
  std::jthread thread_;
};

}  // namespace firedrill
