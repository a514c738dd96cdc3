// The faults that are in force on one server's traffic: what they come to together, and what each
// of them has met.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "firedrill/v1/wire_control.pb.h"
#include "injector/wire/flow.h"
#include "injector/wire/proxy.h"
#include "injector/wire/rules.h"

namespace firedrill::wire {

class Wishes {
 public:
  // By their stamps.
  using ByStamp = std::map<std::string, v1::WireWish>;

  // INVALID_ARGUMENT says which of them makes no sense; nothing changes.
  static absl::Status Check(v1::Protocol protocol, const v1::WireWishes& wishes);

  const ByStamp& all() const { return wishes_; }
  bool empty() const { return wishes_.empty(); }
  // Counts of those that stay go on. Takes effect by Compose().
  void Set(ByStamp wishes, uint64_t seed);
  // Boot time: those whose time is over by then are dropped; true where there were any.
  bool DropEnded(absl::Duration now);
  void Clear();

  // All of them at once. FAILED_PRECONDITION where two cannot be in force together.
  absl::StatusOr<Disturbance> Compose(v1::Protocol protocol);

  // What each has met so far.
  void Report(v1::WireStatus* status) const;

 private:
  absl::Status CompileRules(v1::Protocol protocol);
  std::shared_ptr<HoldLog> HoldsOf(const std::string& stamp);
  void FoldRuleCounts();

  ByStamp wishes_;
  uint64_t seed_ = 0;
  std::shared_ptr<const Rules> rules_;
  // The stamps of the compiled rules, in order, and what the compiled ones were made from.
  std::vector<std::string> rule_stamps_;
  std::string rules_made_from_;
  std::map<std::string, Rules::Count> counted_;
  // What was held for each wish: by its stamp, and of the compiled rules in their order.
  std::map<std::string, std::shared_ptr<HoldLog>> holds_;
  std::vector<std::shared_ptr<HoldLog>> rule_holds_;
};

}  // namespace firedrill::wire
