// What this node permits. Pure: the node's own words against one request. Stronger than any
// controller, so that a plan made elsewhere, wrongly or in bad faith, stops here.
#pragma once

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "firedrill/v1/run.pb.h"
#include "firedrill/v1/site.pb.h"

namespace firedrill {

// All of them: OK, or PERMISSION_DENIED with what is not permitted and what would do; NOT_FOUND
// where the node has no such profile. `now` is the node's wall time.
absl::Status PermitsFault(const v1::NodeSpec& node, const v1::PlannedFault& fault, absl::Time now);
absl::Status PermitsLoad(const v1::NodeSpec& node, const v1::PlannedLoad& load);
// `leaves` is what the remedy says that it leaves behind.
absl::Status PermitsRemedy(const v1::NodeSpec& node, const v1::PlannedRemedy& remedy,
                           v1::Leaves leaves);
absl::Status PermitsProbe(const v1::NodeSpec& node, const v1::PlannedProbe& probe);

// The longest that a fault may live here; infinite where the policy says nothing.
absl::Duration LongestFault(const v1::Policy& policy);

}  // namespace firedrill
