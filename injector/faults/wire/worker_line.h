// The injector's end of a wire worker: starts the process, beats, asks, and ends it. Faults of one
// injector on one server share one worker, and their disturbances add up.
#pragma once

#include <sys/types.h>

#include <map>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "base/unique_fd.h"
#include "firedrill/v1/wire_control.pb.h"

namespace firedrill {

// All functions may be called from any thread, and block for two seconds at most; Acquire() also
// for those who acquire one before.
class WireWorker {
 public:
  // The worker for this traffic: one that is there, also one that only carries open connections
  // from an earlier fault, or a new one. `key` names the traffic, `subject` does so for people.
  static absl::StatusOr<std::shared_ptr<WireWorker>> Acquire(const std::string& key,
                                                             const v1::WireSetup& setup,
                                                             const std::string& subject);
  // Null where there is none that lives.
  static std::shared_ptr<WireWorker> Find(const std::string& key);
  // Ends those that no fault has any more and that carry nothing; `listen` is about to be wanted by
  // another.
  static void Tidy(const std::string& listen = "");
  // Another binary than firedrill-wire beside this process's own: for tests.
  static void SetProgram(const std::string& path);
  // The state folder of this process's node: what outlives the process is found by it.
  static void SetOwner(const std::string& node_folder);
  static std::string Owner();

  ~WireWorker();

  // Whether this could be wished: regular expressions, codes, tables.
  absl::Status Check(const v1::WireWish& wish);
  // What the wishes of all faults leave to chance is drawn from all their seeds.
  absl::Status Wish(const v1::WireWish& wish, uint64_t seed);
  // When it returns nothing of that wish is in force, whatever has to be done for it: a worker that
  // does not answer is killed. Idempotent.
  void Drop(const std::string& stamp);
  absl::StatusOr<v1::WireStatus> Ask();
  // How many connections were reset.
  absl::StatusOr<uint64_t> Reset(double share, uint64_t seed);
  // How many clients' connections past the worker were ended.
  absl::StatusOr<uint64_t> Reconnect(double share, uint64_t seed);

  pid_t pid() const { return pid_; }
  bool Lives() const;

 private:
  WireWorker() = default;
  absl::Status Start(const v1::WireSetup& setup, const std::string& subject);
  absl::StatusOr<v1::WireReply> Exchange(const v1::WireRequest& request);
  v1::WireRequest AllWishes() const FD_REQUIRES(mutex_);
  absl::Status SendWishes() FD_REQUIRES(mutex_);
  absl::StatusOr<v1::WireReply> ExchangeLocked(const v1::WireRequest& request) FD_REQUIRES(mutex_);
  std::string HowItEnded(const absl::Status& line) const;
  void Kill() FD_REQUIRES(mutex_);
  void BeatFor(std::stop_token stop);

  // Carries nothing that anybody may still need: also not for clients that come to its address,
  // unless another is to have that.
  bool IsIdle(const std::string& listen) const;

  std::string listen_;
  pid_t pid_ = 0;
  UniqueFd pidfd_;
  mutable Mutex mutex_;
  UniqueFd line_ FD_GUARDED_BY(mutex_);
  struct Wished {
    v1::WireWish wish;
    uint64_t seed = 0;
  };
  std::map<std::string, Wished> wishes_ FD_GUARDED_BY(mutex_);
  std::string dead_ FD_GUARDED_BY(mutex_);
  uint64_t open_ FD_GUARDED_BY(mutex_) = 0;
  std::jthread beats_;
};

}  // namespace firedrill
