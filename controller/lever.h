// The emergency lever: while it is pulled nothing starts. It is a file, so it outlives every
// process; and whoever pulls it waits for neither the executor nor the store.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/mutex.h"

namespace firedrill {

// Who has pulled it, and why.
struct Pull {
  // Empty where the file was put there by hand, without a word.
  std::string by;
  std::string reason;
  absl::Time at;

  std::string Words() const;  // "alice: a real outage"
};

// Any thread.
class Lever {
 public:
  // What a pull has reached.
  struct Reached {
    size_t runs = 0;
    size_t injectors = 0;
  };
  struct Acts {
    // Everything off; must wait for nothing. Called again at each further pull.
    std::function<Reached(const Pull&)> pulled;
    std::function<void()> released;
  };
  struct Answer {
    // That of the first, where it was pulled before.
    Pull pull;
    Reached reached;
    // An error: it holds, and the file could not be written, so that it may not outlive this
    // process.
    absl::Status kept;
  };

  // `path` is the STOP file; its folder must exist.
  explicit Lever(std::string path) : path_(std::move(path)) {}
  ~Lever();
  Lever(const Lever&) = delete;
  Lever& operator=(const Lever&) = delete;

  // Once, before anybody pulls it: from now on it acts, also when somebody puts the file there, or
  // removes it, by hand.
  void Act(Acts acts) FD_EXCLUDES(acting_, mutex_);
  // Nothing is called afterwards. It can still be pulled.
  void Rest() FD_EXCLUDES(acting_, mutex_);

  // Empty where it is released. A file that cannot be read counts as pulled.
  std::optional<Pull> Pulled() const FD_EXCLUDES(mutex_);
  // First everything off, then the disk. Idempotent. Never refused for want of a reason: where the
  // first pull had none, the next one that has is added to the record.
  Answer PullIt(const std::string& by, const std::string& reason) FD_EXCLUDES(acting_, mutex_);
  absl::Status Release() FD_EXCLUDES(acting_, mutex_);
  const std::string& path() const { return path_; }

 private:
  // `anew`: in the place of the words that are there.
  absl::Status Keep(const Pull& pull, bool anew) const;
  void Watch() FD_EXCLUDES(acting_, mutex_);

  const std::string path_;
  // One pull or release at a time.
  Mutex acting_;
  Acts acts_ FD_GUARDED_BY(acting_);
  bool acted_ FD_GUARDED_BY(acting_) = false;
  mutable Mutex mutex_;
  CondVar ending_;
  bool ended_ FD_GUARDED_BY(mutex_) = false;
  // By this process: of a file without a word on a full disk nobody else knows who it was.
  std::optional<Pull> last_ FD_GUARDED_BY(mutex_);
  // It is pulled, and not on the disk, or not yet.
  bool unkept_ FD_GUARDED_BY(mutex_) = false;
  std::thread watch_;
};

}  // namespace firedrill
