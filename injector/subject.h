// What a fault would hit, told so that two runs which reach it in different ways see that it is the
// same.
#pragma once

#include <vector>

#include "base/clock.h"
#include "firedrill/v1/injector.pb.h"
#include "injector/fault.h"

namespace firedrill {

// A subject for each fault, in their order: as the fault names it itself (NamesSubject), else the
// server of its profile, asked who it is where its protocol has a way to say that, and by its
// addresses otherwise. Disturbs nothing. Blocks until `deadline`, a boot time; never fails: what
// could not be heard stands in `unsure`.
std::vector<v1::Subject> FindSubjects(const v1::SubjectsAsked& asked, const Node& node,
                                      const Clock& clock, absl::Duration deadline);

}  // namespace firedrill
