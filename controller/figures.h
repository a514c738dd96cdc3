// What this controller is doing, as numbers for Prometheus: gathered on the executor, counted on
// any thread, read without waiting for either.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "base/mutex.h"
#include "controller/run.h"
#include "firedrill/v1/controller.pb.h"

namespace firedrill {

// A state of affairs. Pure data.
struct Figures {
  absl::Time now;
  std::vector<v1::InjectorSummary> injectors;
  // Of each run that is going on.
  std::vector<v1::Phase> phases;
  bool lever_pulled = false;
  absl::Time lever_since;
  // Of our own certificate; the far future where there is none.
  absl::Time certificate_expires = absl::InfiniteFuture();
  uint64_t store_failures = 0;
  // By experiment; with a 0 for each that has a schedule, so that the first one counts.
  std::map<std::string, uint64_t> slots_missed;
};

// Everything in Prometheus' text format. Never a reason's words: they are anybody's.
std::string FiguresText(const Figures& figures, const std::map<std::string, uint64_t>& refused);

// Any thread.
class FigureBoard {
 public:
  void Set(Figures figures) FD_EXCLUDES(mutex_);
  // A call that was let in nowhere: "unauthenticated", "permission_denied", "resource_exhausted".
  void CountRefused(const std::string& code) FD_EXCLUDES(mutex_);
  // As of the last Set(). `firedrill_figures_age_seconds` says how old that is.
  std::string Text(absl::Time now) const FD_EXCLUDES(mutex_);

 private:
  mutable Mutex mutex_;
  Figures figures_ FD_GUARDED_BY(mutex_);
  std::map<std::string, uint64_t> refused_ FD_GUARDED_BY(mutex_);
};

}  // namespace firedrill
