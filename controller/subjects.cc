// Who may hit what at the moment.
#include "controller/subjects.h"

#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "base/text.h"
#include "base/time_proto.h"

namespace firedrill {
namespace {

enum class Likeness { kOther, kMayBeSame, kSame };

bool ShareAddress(const v1::Subject& a, const v1::Subject& b) {
  return absl::c_any_of(a.addresses(), [&b](const std::string& address) {
    return absl::c_linear_search(b.addresses(), address);
  });
}

Likeness Compare(const v1::Subject& a, const v1::Subject& b) {
  // Two that say who they are are told apart by that alone: private addresses are used twice.
  if (!a.identity().empty() && !b.identity().empty()) {
    return a.identity() == b.identity() ? Likeness::kSame : Likeness::kOther;
  }
  if (ShareAddress(a, b)) return Likeness::kSame;
  const bool unsure = !a.unsure().empty() || !b.unsure().empty();
  const bool related = a.family().empty() || b.family().empty() || a.family() == b.family();
  return unsure && related ? Likeness::kMayBeSame : Likeness::kOther;
}

// Nothing is known of it, and nothing is to be: a fault that hits no subject.
bool IsNone(const v1::Subject& subject) {
  return subject.identity().empty() && subject.addresses().empty() && subject.unsure().empty();
}

std::string NameOf(const v1::Subject& subject) {
  if (subject.identity().empty()) return subject.words();
  return absl::StrCat(subject.words(), " (", subject.identity(), ")");
}

// Who has it, or may have it; empty where they are two.
std::string TakenWords(const v1::Subject& wanted, const v1::Subject& held, const std::string& who) {
  switch (Compare(wanted, held)) {
    case Likeness::kSame:
      return absl::StrCat(NameOf(wanted), " is taken: ", who);
    case Likeness::kMayBeSame:
      return absl::StrCat(NameOf(wanted), " may be the same as ", NameOf(held),
                          ", which is taken: ", who, "; they cannot be told apart: ",
                          wanted.unsure().empty() ? held.unsure() : wanted.unsure());
    default:
      return "";
  }
}

}  // namespace

void Subjects::Check(v1::Plan& plan) const {
  for (const auto& [run, lease] : leases_) {
    if (run == plan.run()) continue;
    const Holder& holder = lease.holder;
    const std::string who =
        absl::StrCat("run ", run, " of ", holder.experiment,
                     holder.owner.empty() ? "" : absl::StrCat(", started by ", holder.owner),
                     ", has had it since ", firedrill::FormatTime(holder.since));
    for (const v1::PlannedFault& wanted : plan.faults()) {
      if (IsNone(wanted.subject())) continue;
      for (const auto& [key, held] : lease.faults) {
        if (lease.left.has_value() && !lease.left->at(key).MayBeOn()) continue;
        const std::string taken = TakenWords(wanted.subject(), held.subject(), who);
        if (taken.empty()) continue;
        v1::Finding& finding = *plan.add_findings();
        finding.set_kind(v1::Finding::KIND_CIRCUMSTANCE);
        finding.set_code("subject-taken");
        finding.set_subject(wanted.name());
        finding.set_message(absl::StrCat(wanted.name(), ": ", taken));
        finding.set_mend(
            !lease.left.has_value()
                ? absl::StrCat("wait until that run has ended, or end it: firedrill stop ", run,
                               " --reason WHY")
                : absl::StrCat("that run has ended, and ", lease.left->at(key).Words(),
                               "; undo that first (firedrill leftovers on its node says how), or, "
                               "once somebody has looked and it is gone, or its node is: firedrill "
                               "settle ",
                               run, " --reason WHY"));
        break;
      }
    }
  }
}

void Subjects::Take(const v1::Plan& plan, Holder holder) {
  Lease& lease = leases_[plan.run()];
  lease.holder = std::move(holder);
  for (const v1::PlannedFault& fault : plan.faults()) {
    if (!IsNone(fault.subject())) lease.faults[FaultKey(fault)] = fault;
  }
  if (lease.faults.empty()) leases_.erase(plan.run());
}

void Subjects::Settle(const std::string& run, const std::map<std::string, LeftFault>& left) {
  const auto found = leases_.find(run);
  if (found == leases_.end()) return;
  found->second.left = left;
  std::erase_if(found->second.faults,
                [&left](const auto& held) { return left.count(held.first) == 0; });
  if (found->second.faults.empty()) leases_.erase(found);
}

std::map<std::string, v1::PlannedFault> Subjects::HeldBy(const std::string& run) const {
  const auto found = leases_.find(run);
  return found == leases_.end() ? std::map<std::string, v1::PlannedFault>() : found->second.faults;
}

}  // namespace firedrill
