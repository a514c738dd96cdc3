// How often somebody may call.
#include "identity/pace.h"

#include <algorithm>

namespace firedrill {

bool Pace::Take(const std::string& name, absl::Duration now) {
  MutexLock lock(mutex_);
  const auto found = by_name_.find(name);
  if (found != by_name_.end()) {
    buckets_.splice(buckets_.begin(), buckets_, found->second);
  } else {
    if (buckets_.size() >= kMostNames) {
      by_name_.erase(buckets_.back().name);
      buckets_.pop_back();
    }
    buckets_.push_front({name, at_once_, now});
    by_name_[name] = buckets_.begin();
  }
  Bucket& bucket = buckets_.front();
  bucket.left =
      std::min(at_once_, bucket.left + a_second_ * absl::ToDoubleSeconds(now - bucket.at));
  bucket.at = now;
  if (bucket.left < 1) return false;
  bucket.left -= 1;
  return true;
}

}  // namespace firedrill
