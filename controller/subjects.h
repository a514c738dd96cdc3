// The blast lease: who may hit what at the moment. Two runs never hit one subject at a time,
// whatever nodes and profiles lead to it. On the executor, in memory.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "absl/time/time.h"
#include "controller/run_left.h"
#include "firedrill/v1/run.pb.h"

namespace firedrill {

class Subjects {
 public:
  struct Holder {
    std::string run, experiment, owner;
    absl::Time since;
  };

  // A circumstance for each fault of `plan` whose subject another run has, or may have: who that
  // is, since when, and what to do.
  void Check(v1::Plan& plan) const;
  // Before the first command of the run. Several faults of one run may share a subject.
  void Take(const v1::Plan& plan, Holder holder);
  // The run has ended, and this is what it has left: what may be on still is not free. May be
  // called again, when more is known of it.
  void Settle(const std::string& run, const std::map<std::string, LeftFault>& left);
  // Faults by which a run holds something still.
  std::map<std::string, v1::PlannedFault> HeldBy(const std::string& run) const;

 private:
  struct Lease {
    Holder holder;
    // By FaultKey().
    std::map<std::string, v1::PlannedFault> faults;
    // Set when the run has ended; by FaultKey().
    std::optional<std::map<std::string, LeftFault>> left;
  };
  // By run.
  std::map<std::string, Lease> leases_;
};

}  // namespace firedrill
