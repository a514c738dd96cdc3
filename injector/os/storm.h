// Many sessions that run one statement again and again, served by one thread: as many as fit, or at
// a rate that does not slow down when the server does. They live in this process's sockets only.
#pragma once

#include <poll.h>

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "base/mutex.h"
#include "base/unique_fd.h"
#include "injector/os/patience.h"

namespace firedrill {

// One session of a storm, at a server of any kind.
class StormSession {
 public:
  virtual ~StormSession() = default;
  // Negative where it could not begin: Connect() says why.
  virtual int fd() const = 0;
  // For poll(2), also while nothing is asked: the server may end it.
  virtual short events() const = 0;
  virtual bool ready() const = 0;
  virtual bool usable() const = 0;
  virtual absl::Status Connect(const Patience& patience) = 0;
  // While it is not ready.
  virtual absl::Status Advance() = 0;
  // Sends a statement, whose rows are thrown away as they come. Only when Quiet().
  virtual absl::Status Send(const std::string& sql) = 0;
  virtual absl::Status Drain() = 0;
  virtual bool Quiet() const = 0;
  // By which errors are counted: "57014"; empty for one that is not the server's.
  virtual std::string ErrorCode(const absl::Status& status) const = 0;
};

// A session of `injector/os/`, which all have the same calls.
template <typename Session, std::string (*Code)(const absl::Status&)>
class StormSessionOf final : public StormSession {
 public:
  explicit StormSessionOf(std::unique_ptr<Session> session) : session_(std::move(session)) {}
  int fd() const override { return session_->fd(); }
  short events() const override {
    return static_cast<short>(session_->events() | (ready() ? POLLIN : 0));
  }
  bool ready() const override { return session_->ready(); }
  bool usable() const override { return session_->usable(); }
  absl::Status Connect(const Patience& patience) override { return session_->Connect(patience); }
  absl::Status Advance() override { return session_->Advance(); }
  absl::Status Send(const std::string& sql) override { return session_->Send(sql); }
  absl::Status Drain() override { return session_->Drain(); }
  bool Quiet() const override { return session_->Quiet(); }
  std::string ErrorCode(const absl::Status& status) const override { return Code(status); }

 private:
  const std::unique_ptr<Session> session_;
};

class Storm {
 public:
  struct Options {
    // Begins to open one more session. Called from the storm's thread.
    std::function<std::unique_ptr<StormSession>()> begin;
    std::string statement;
    // The statement by which a session's own time-outs end with the time that is left; null where
    // they need not.
    std::function<std::string(absl::Duration left)> limit;
    // With a rate: the most that may be open at once.
    int sessions = 1;
    // Statements a second, each due at its own time; 0: each session begins the next at once.
    double rate = 0;
    // No statement is begun after this boot time.
    absl::Duration end;
  };
  struct Figures {
    int connected = 0;
    int busy = 0;
    uint64_t finished = 0;
    uint64_t failed = 0;
    uint64_t lost_sessions = 0;
    // Due, and not begun for want of a free session.
    uint64_t waiting = 0;
    // Of the last second: due, begun, and with an answer.
    double due_rate = 0;
    double begun_rate = 0;
    double answered_rate = 0;
    // Of the answers of the last second, from the moment at which the statement was due.
    absl::Duration p50, p95;
    // The server's code -> how often.
    std::map<std::string, uint64_t> errors;
    // The last error's words; empty where there was none.
    std::string trouble;
    absl::StatusCode trouble_code = absl::StatusCode::kOk;
  };

  explicit Storm(Options options);
  ~Storm();

  Figures figures() const FD_EXCLUDES(mutex_);
  // Closes every session without waiting for the server. Idempotent.
  void Stop();

 private:
  struct Slot {
    std::unique_ptr<StormSession> session;
    // How much was left when its time-outs were set.
    absl::Duration limited;
    // When what it runs was due.
    absl::Duration due;
    // A statement has been sent, and its end is not counted yet.
    bool running = false;
    bool failed = false;
    absl::Duration next_try;
  };
  struct Answer {
    absl::Duration at;
    absl::Duration took;
  };

  void Loop(std::stop_token stop);
  void Connect(absl::Duration now);
  void Serve(Slot& slot, absl::Duration now);
  void Begin(absl::Duration now);
  // True: it is being told how much time is left.
  bool Limit(Slot& slot, absl::Duration now);
  void CountEnd(Slot& slot, absl::Duration now);
  void Note(const Slot& slot, const absl::Status& status);
  void Fail(Slot& slot, const absl::Status& status, absl::Duration now);
  void Await(absl::Duration now);
  // How many were due by `now` since the start.
  uint64_t DueBy(absl::Duration now) const;
  void Publish(absl::Duration now) FD_EXCLUDES(mutex_);

  const Options options_;
  const UniqueFd wake_;
  const absl::Duration start_;

  // Only the thread touches these, and Stop() after it has ended.
  std::vector<Slot> slots_;
  uint64_t begun_ = 0;
  // A session is free again already.
  bool at_once_ = false;
  std::deque<absl::Duration> recently_begun_;
  std::deque<Answer> recent_;
  Figures now_;
  absl::Duration next_publish_;

  mutable Mutex mutex_;
  Figures published_ FD_GUARDED_BY(mutex_);
  std::jthread thread_;
};

}  // namespace firedrill
