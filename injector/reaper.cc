// Watches an injector, and undoes what it left.
#include "injector/reaper.h"

#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <optional>
#include <stop_token>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "base/mutex.h"
#include "base/text.h"
#include "injector/disk.h"
#include "injector/leftovers.h"
#include "injector/state_dir.h"

namespace firedrill {
namespace {

// Bounds on what a beat may ask for.
constexpr absl::Duration kShortest = absl::Milliseconds(200);
constexpr absl::Duration kLongest = absl::Seconds(60);
// Another process may be replaying the same journal.
constexpr absl::Duration kLockWait = absl::Seconds(10);
constexpr int kMostTries = 5;
constexpr absl::Duration kTryAgain = absl::Seconds(1);

void Say(const std::string& text) { std::fprintf(stderr, "firedrill-reaper: %s\n", text.c_str()); }

// Keeps what the undoing of the journal's open records will need: a connection to a server may not
// be had any more by then. On a thread of its own, since a hanging server must not keep the watch
// from seeing a hanging injector.
class Readiness {
 public:
  explicit Readiness(const ReaperOptions& options) : options_(options) {
    thread_ = std::jthread([this](std::stop_token stop) { Loop(std::move(stop)); });
  }
  // Interrupts what is being opened; what is open stays, for the undo.
  ~Readiness() {
    thread_.request_stop();
    MutexLock lock(mutex_);
    changed_.NotifyAll();
  }

  // A question, or without a value a beat: opens what a new record needs, and answers; lets go of
  // what is undone.
  void Look(std::optional<uint32_t> question) FD_EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    if (question.has_value()) questions_.push_back(*question);
    look_ = true;
    changed_.NotifyAll();
  }

 private:
  void Loop(std::stop_token stop) {
    while (true) {
      std::vector<uint32_t> questions;
      {
        MutexLock lock(mutex_);
        while (!look_ && !stop.stop_requested()) changed_.Wait(mutex_);
        if (stop.stop_requested()) return;
        look_ = false;
        questions.swap(questions_);
      }
      // Between questions only what is kept already is looked after.
      if (questions.empty() && kept_.empty() && looked_) continue;
      looked_ = true;
      const std::string lacking = Update(stop);
      for (const uint32_t question : questions) {
        const std::string answer =
            absl::StrCat(question, " ", absl::StrReplaceAll(lacking, {{"\n", " "}}), "\n");
        if (send(options_.line, answer.data(), answer.size(), MSG_NOSIGNAL) < 0) return;
      }
    }
  }

  // What is lacking; empty where everything is there.
  std::string Update(const std::stop_token& stop) {
    FileDisk disk(NodeFolder(options_.state_dir, options_.node));
    // Read beside the injector, which writes it: a torn last line is not our record yet.
    const auto journal = Journal::Open(disk, options_.node);
    if (!journal.ok()) return std::string(journal.status().message());
    std::vector<Undo> open;
    std::vector<std::string> lacking;
    for (const Journal::Entry& entry : (*journal)->open()) {
      if (!NeedsReadiness(entry.undo)) continue;
      open.push_back(entry.undo);
      const absl::Status made = MakeReady(entry.undo, stop);
      if (!made.ok()) lacking.push_back(std::string(made.message()));
    }
    for (const Undo& undo : kept_) {
      if (std::find(open.begin(), open.end(), undo) == open.end()) ForgetReadiness(undo);
    }
    kept_ = std::move(open);
    return absl::StrJoin(lacking, "; ");
  }

  const ReaperOptions& options_;
  // Only the thread touches these.
  std::vector<Undo> kept_;
  bool looked_ = false;
  Mutex mutex_;
  CondVar changed_;
  bool look_ FD_GUARDED_BY(mutex_) = true;
  std::vector<uint32_t> questions_ FD_GUARDED_BY(mutex_);
  std::jthread thread_;
};

class Watch {
 public:
  Watch(const ReaperOptions& options, Readiness& readiness)
      : options_(options),
        readiness_(readiness),
        lease_(std::clamp(options.lease, kShortest, kLongest)) {}

  // Until the injector is dead. True where it said goodbye before.
  bool UntilDeath() {
    absl::Duration overdue = Awake() + lease_;
    while (true) {
      pollfd waits[] = {{options_.pidfd, POLLIN, 0}, {open_ ? options_.line : -1, POLLIN, 0}};
      const int64_t left = absl::ToInt64Milliseconds(overdue - Awake()) + 1;
      const int ready =
          poll(waits, 2, goodbye_ && open_ ? -1 : static_cast<int>(std::max<int64_t>(0, left)));
      if (ready < 0 && errno != EINTR) return goodbye_;
      // Always drained before it is judged: we may have been late ourselves.
      if (ready >= 0 && Drain()) overdue = Awake() + lease_;
      if ((waits[0].revents & (POLLIN | POLLHUP)) != 0) return goodbye_;
      if (Awake() < overdue || (goodbye_ && open_)) continue;
      Say(firedrill::FormatDuration(lease_) + " without a beat of the injector of " +
          options_.node + ": it hangs, and is killed");
      syscall(SYS_pidfd_send_signal, options_.pidfd, SIGKILL, nullptr, 0);
      pollfd dead{options_.pidfd, POLLIN, 0};
      while (poll(&dead, 1, -1) < 0 && errno == EINTR) {
      }
      return false;
    }
  }

 private:
  // Without the time in which the machine slept: after it both of us wake, and only a hang is our
  // business.
  static absl::Duration Awake() {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return absl::DurationFromTimespec(now);
  }

  // True where there was a beat.
  bool Drain() {
    bool beat = false;
    while (open_) {
      pollfd wait{options_.line, POLLIN, 0};
      if (poll(&wait, 1, 0) <= 0) break;
      uint32_t values[256];
      const ssize_t got = read(options_.line, values, sizeof(values));
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) {
        // Nobody can beat any more: dead within a moment, or to be killed.
        open_ = false;
        lease_ = kShortest;
        return true;
      }
      for (size_t i = 0; i < static_cast<size_t>(got) / sizeof(uint32_t); ++i) {
        if (values[i] >= kAsk) {
          // Of a fault's thread: it says nothing of the loop.
          readiness_.Look(values[i]);
          continue;
        }
        readiness_.Look(std::nullopt);
        beat = true;
        goodbye_ = values[i] == kGoodbye;
        if (!goodbye_) lease_ = std::clamp(absl::Milliseconds(values[i]), kShortest, kLongest);
      }
    }
    return beat;
  }

  const ReaperOptions& options_;
  Readiness& readiness_;
  absl::Duration lease_;
  bool open_ = true;
  bool goodbye_ = false;
};

// Not set where somebody else owns the journal now, and so its undoing.
std::optional<NodeLeftovers> Replay(const ReaperOptions& options, absl::Duration wait) {
  // Removed by somebody meanwhile: taking the lock would make it again.
  if (access(NodeFolder(options.state_dir, options.node).c_str(), F_OK) != 0) return std::nullopt;
  const auto lock = NodeLock::Take(options.state_dir, options.node, wait);
  if (!lock.ok()) return std::nullopt;
  FileDisk disk(NodeFolder(options.state_dir, options.node));
  const auto journal = Journal::Open(disk, options.node);
  if (!journal.ok()) {
    return NodeLeftovers{options.node, 0, {}, {}, std::string(journal.status().message())};
  }
  return ReplayJournal(**journal, options.node, /*forget_begun=*/false);
}

}  // namespace

int RunReaper(const ReaperOptions& options) {
  std::optional<Readiness> readiness(options);
  const bool goodbye = Watch(options, *readiness).UntilDeath();
  readiness.reset();
  absl::Duration wait = kLockWait;
  for (int tries = 1;; ++tries) {
    const std::optional<NodeLeftovers> left = Replay(options, wait);
    if (!left.has_value()) return 0;
    for (const std::string& undone : left->undone) Say("undone: " + undone);
    if (left->entries.empty() && left->trouble.empty()) return 0;
    if (tries < kMostTries && !goodbye) {
      // In between the lock is free: an injector that starts now takes over, and does the same.
      absl::SleepFor(kTryAgain);
      wait = absl::ZeroDuration();
      continue;
    }
    if (!left->trouble.empty()) Say(left->trouble);
    for (const v1::Leftover& entry : left->entries) {
      Say("NOT undone: " + entry.resource() + ": " + entry.reason() +
          "; by hand: " + entry.undo_by_hand());
    }
    return 5;
  }
}

}  // namespace firedrill
