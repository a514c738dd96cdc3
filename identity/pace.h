// How often somebody may call.
#pragma once

#include <list>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "base/mutex.h"

namespace firedrill {

// A bucket for each name: full at first, filled again at a rate. Any thread.
class Pace {
 public:
  Pace(double a_second, double at_once) : a_second_(a_second), at_once_(at_once) {}

  // Takes one from the bucket of `name`; false where it is empty. `now`: boot time.
  bool Take(const std::string& name, absl::Duration now) FD_EXCLUDES(mutex_);

  double a_second() const { return a_second_; }

 private:
  struct Bucket {
    std::string name;
    double left;
    absl::Duration at;
  };
  // The one that was taken from last comes first; more than this, and the last is forgotten, which
  // fills it.
  static constexpr size_t kMostNames = 10000;

  const double a_second_, at_once_;
  Mutex mutex_;
  std::list<Bucket> buckets_ FD_GUARDED_BY(mutex_);
  absl::flat_hash_map<std::string, std::list<Bucket>::iterator> by_name_ FD_GUARDED_BY(mutex_);
};

}  // namespace firedrill
