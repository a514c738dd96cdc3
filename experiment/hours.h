// Daily windows in which a node permits faults, as its file words them. Pure.
#pragma once

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "firedrill/v1/site.pb.h"

namespace firedrill {

// Whether `now` is in one of the policy's windows; any time where there are none. PERMISSION_DENIED
// names the windows, without what to do next. A zone that does not load is an error, never UTC.
absl::Status WithinHours(const v1::Policy& policy, absl::Time now);

}  // namespace firedrill
