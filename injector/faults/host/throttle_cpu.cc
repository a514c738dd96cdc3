// throttle_cpu: the processes of a subject get less processor time than they ask for.
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "injector/by_hand.h"
#include "injector/fault.h"
#include "injector/os/cpu_subject.h"

namespace firedrill {
namespace {

// For how long the use is measured of which a share is asked for, and how often it is looked at.
constexpr absl::Duration kMeasureFor = absl::Seconds(2);
constexpr absl::Duration kMeasureEvery = absl::Milliseconds(100);
// Over how long the use is told: a few periods at least, so that it is even.
constexpr absl::Duration kTellOver = absl::Seconds(2);
// It is in force while it has held somebody back so shortly before.
constexpr absl::Duration kBitten = absl::Seconds(1);
// Processes that are born while others are moved are met in the next round.
constexpr int kMostRounds = 100;

// What a group uses, by the kernel's count or else by that of its processes.
class CpuMeter {
 public:
  explicit CpuMeter(Cgroup group) : group_(std::move(group)) {}
  // Since the first call.
  absl::StatusOr<absl::Duration> Used() {
    ASSIGN_OR_RETURN(const CpuCount count, group_.Count());
    if (count.used.has_value()) {
      if (!first_.has_value()) first_ = *count.used;
      return *count.used - *first_;
    }
    ASSIGN_OR_RETURN(const std::vector<pid_t> members, group_.MembersOfAll());
    return processes_.Used(members);
  }

 private:
  const Cgroup group_;
  std::optional<absl::Duration> first_;
  ProcessMeter processes_;
};

// The tightest limit of a group and those above it.
struct Tightest {
  double cpus;
  std::string folder;
};
Tightest TightestOf(const Cgroup& group) {
  Tightest tightest{CpuLimit().cpus(), ""};
  std::string folder = group.folder();
  while (Cgroup(folder).IsThere()) {
    const auto limit = Cgroup(folder).Limit();
    if (limit.ok() && limit->cpus() < tightest.cpus) tightest = {limit->cpus(), folder};
    folder.resize(folder.rfind('/'));
  }
  return tightest;
}

std::string GroupName(const Context& context, const Node& node) {
  const std::string& name = node.spec().name();
  return absl::StrCat(kOurGroups, context.run, "-", context.fault, name.empty() ? "" : "-", name);
}

class ThrottleCpu final : public Fault, public NamesSubject, public TellsAfter {
 public:
  explicit ThrottleCpu(const v1::ThrottleCpu& message) : message_(message) {}

  absl::Status Validate(const Node& node) const override {
    ASSIGN_OR_RETURN(const CpuSubject subject, Find(node));
    if (message_.size_case() == v1::ThrottleCpu::kOfUse) return absl::OkStatus();
    return LimitOf(subject, message_.cpus()).status();
  }

  absl::StatusOr<v1::Subject> Subject(const Context&, const Node& node) const override {
    ASSIGN_OR_RETURN(const CpuSubject found, Find(node));
    v1::Subject subject;
    subject.set_identity(found.identity());
    subject.set_family(found.identity().substr(0, found.identity().find('/')));
    subject.set_words(absl::StrCat(found.words(), " on ", node.spec().name()));
    return subject;
  }

  absl::Status Apply(const Context& context, Node& node, Changes& changes) override {
    const Patience patience = context.patience();
    RETURN_IF_ERROR(patience.Check());
    ASSIGN_OR_RETURN(const CpuSubject subject, Find(node));
    double cpus = message_.cpus();
    if (message_.size_case() == v1::ThrottleCpu::kOfUse) {
      ASSIGN_OR_RETURN(measured_, Measure(subject, patience));
      cpus = *measured_ * message_.of_use();
    }
    ASSIGN_OR_RETURN(const CpuLimit limit, LimitOf(subject, cpus));
    words_ = subject.words();
    identity_ = subject.identity();
    if (subject.must_move()) {
      RETURN_IF_ERROR(Move(subject, GroupName(context, node), limit, changes, patience));
    } else {
      RETURN_IF_ERROR(Limit(subject, limit, changes));
    }
    meter_ = std::make_unique<CpuMeter>(*limited_);
    return Sample(context.clock.Boot()).status();
  }

  absl::StatusOr<v1::Observation> Observe(const Context& context, const Node&) const override {
    if (meter_ == nullptr) {
      return absl::FailedPreconditionError("holding back processor time: not applied");
    }
    RETURN_IF_ERROR(StillInForce());
    ASSIGN_OR_RETURN(const CpuCount count, Sample(context.clock.Boot()));
    return Saying(count);
  }

  void Release() override {}

  absl::Status ReadBack(const Context& context, const Node& node) const override {
    if (!limited_.has_value()) return LookForOthers(context, node);
    if (origin_.has_value()) {
      if (limited_->IsThere()) return StillThere(limited_->folder());
      after_ = After(absl::StrCat(words_, ": back in ", origin_->folder()));
      return absl::OkStatus();
    }
    const auto now = limited_->Limit();
    if (absl::IsNotFound(now.status())) return absl::OkStatus();
    RETURN_IF_ERROR(now.status());
    if (limited_->LimitText(*now) == limited_->LimitText(ours_)) return StillLimited(*limited_);
    after_ = After(absl::StrCat(limited_->LimitFile(), " says ", limited_->LimitText(*now),
                                " again, as before"));
    lock_.Reset();
    return absl::OkStatus();
  }

  std::optional<v1::Observation> After() const override { return after_; }

 private:
  struct Look {
    absl::Duration at;
    absl::Duration used;
    CpuCount count;
  };

  absl::StatusOr<CpuSubject> Find(const Node& node) const {
    ASSIGN_OR_RETURN(const v1::HostSubject subject, node.FindSubject(message_.subject()));
    return CpuSubject::Find(subject);
  }

  // Refuses what the kernel would not take, and what would hold nobody back.
  absl::StatusOr<CpuLimit> LimitOf(const CpuSubject& subject, double cpus) const {
    const long processors = sysconf(_SC_NPROCESSORS_ONLN);
    if (cpus >= static_cast<double>(processors)) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "%g processors are all that this machine has (%d): ask for less", cpus, processors));
    }
    const Tightest tightest = TightestOf(subject.group());
    if (tightest.cpus <= cpus) {
      return absl::FailedPreconditionError(absl::StrFormat(
          "%s is limited to %g processors already, by %s: %g would hold back nobody; ask for less",
          subject.words(), tightest.cpus, tightest.folder, cpus));
    }
    CpuLimit base;
    if (!subject.must_move()) {
      ASSIGN_OR_RETURN(base, subject.group().Limit());
      RETURN_IF_ERROR(CheckInner(subject.group(), cpus));
    }
    const CpuLimit limit = base.To(cpus);
    if (*limit.quota_us >= kLeastQuotaUs) return limit;
    const double least = static_cast<double>(kLeastQuotaUs) / static_cast<double>(base.period_us);
    return absl::FailedPreconditionError(absl::StrFormat(
        "%.4f processors are less than the kernel can hold %s to, which is %g%s", cpus,
        subject.words(), least,
        measured_.has_value()
            ? absl::StrFormat("; it used %.3f: apply it under load, or say `cpus: %g`", *measured_,
                              least)
            : ""));
  }

  // Version 1 takes no limit that is tighter than one beneath it.
  static absl::Status CheckInner(const Cgroup& group, double cpus) {
    if (group.version() != 1) return absl::OkStatus();
    ASSIGN_OR_RETURN(const std::vector<Cgroup> all, group.All());
    for (const Cgroup& inner : all) {
      const auto limit = inner.Limit();
      if (&inner == &all.front() || !limit.ok() || !limit->quota_us.has_value()) continue;
      if (limit->cpus() <= cpus) continue;
      return absl::FailedPreconditionError(absl::StrFormat(
          "%s has a limit of its own, of %g processors, and the kernel takes none that is tighter "
          "above it; name that group as the subject, or ask for %g",
          inner.folder(), limit->cpus(), limit->cpus()));
    }
    return absl::OkStatus();
  }

  // In processors.
  static absl::StatusOr<double> Measure(const CpuSubject& subject, const Patience& patience) {
    CpuMeter group(subject.group());
    ProcessMeter processes;
    const auto used = [&]() -> absl::StatusOr<absl::Duration> {
      if (!subject.must_move()) return group.Used();
      ASSIGN_OR_RETURN(const std::vector<Process> now, subject.Processes());
      std::vector<pid_t> pids;
      for (const Process& process : now) pids.push_back(process.pid);
      return processes.Used(pids);
    };
    RETURN_IF_ERROR(used().status());
    const absl::Duration begin = RealClock().Boot();
    absl::Duration sum, took;
    while (took < kMeasureFor) {
      absl::SleepFor(kMeasureEvery);
      RETURN_IF_ERROR(Annotate(patience.Check(), "measuring what it uses"));
      ASSIGN_OR_RETURN(sum, used());
      took = RealClock().Boot() - begin;
    }
    return absl::FDivDuration(sum, took);
  }

  absl::Status Limit(const CpuSubject& subject, const CpuLimit& limit, Changes& changes) {
    const Cgroup& group = subject.group();
    // Another injector would take our limit for what was there before.
    lock_ = UniqueFd(open(group.folder().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!lock_.valid() || flock(lock_.get(), LOCK_EX | LOCK_NB) != 0) {
      return absl::FailedPreconditionError(absl::StrCat(
          "another fault holds back ", subject.words(), " already; wait until that is over"));
    }
    ASSIGN_OR_RETURN(const CpuLimit before, group.Limit());
    const std::string file = group.LimitFile(), old = group.LimitText(before);
    limited_ = group;
    ours_ = limit;
    return changes.Make({"file", file, old, group.LimitText(limit),
                         absl::StrCat("echo ", ShellQuoted(old), " > ", ShellQuoted(file))},
                        [&] { return group.SetLimit(limit); });
  }

  absl::Status Move(const CpuSubject& subject, const std::string& name, const CpuLimit& limit,
                    Changes& changes, const Patience& patience) {
    const Cgroup& origin = subject.group();
    const Cgroup inner = origin.Inner(name);
    limited_ = inner;
    origin_ = origin;
    ours_ = limit;
    const Undo undo{"cpu_group",
                    inner.folder(),
                    "not there",
                    origin.LimitText(limit),
                    origin.UnmakeByHand(inner),
                    PassedOnBefore(origin) ? "" : "controller"};
    return changes.Make(undo, [&]() -> absl::Status {
      RETURN_IF_ERROR(origin.MakeInner(name).status());
      RETURN_IF_ERROR(Fill(subject, inner, patience));
      // Else all of them together would count as much as one of their neighbours, and be held back
      // by that, too.
      ASSIGN_OR_RETURN(const std::vector<pid_t> members, inner.Members());
      RETURN_IF_ERROR(inner.SetWeight(members.size()));
      return inner.SetLimit(limit);
    });
  }

  // Not for faults alone, the last of which takes it back.
  static bool PassedOnBefore(const Cgroup& group) {
    if (!group.PassesOnCpu()) return false;
    const auto inner = group.Children();
    if (group.version() == 1 || !inner.ok() || inner->empty()) return true;
    const std::string ours = absl::StrCat(group.folder(), "/", kOurGroups);
    return !std::all_of(inner->begin(), inner->end(),
                        [&](const Cgroup& one) { return absl::StartsWith(one.folder(), ours); });
  }

  // Until no process of the subject is outside. A child of who was moved already is born inside.
  static absl::Status Fill(const CpuSubject& subject, const Cgroup& inner,
                           const Patience& patience) {
    for (int round = 0; round < kMostRounds; ++round) {
      RETURN_IF_ERROR(patience.Check());
      ASSIGN_OR_RETURN(const std::vector<Process> outside, subject.Outside(inner));
      if (outside.empty()) return absl::OkStatus();
      for (const Process& process : outside) {
        const absl::Status taken = inner.Take(process.pid);
        if (absl::IsNotFound(taken)) continue;
        RETURN_IF_ERROR(taken);
        // It may have ended since we looked, and its number be another's now.
        const auto now = FindProcess(process.pid);
        if (now.ok() && now->start != process.start) {
          RETURN_IF_ERROR(subject.group().Take(process.pid));
        }
      }
    }
    return absl::UnavailableError(
        absl::StrCat(subject.words(),
                     " bears processes faster than they can be moved; name a "
                     "unit or a control group instead"));
  }

  absl::Status StillInForce() const {
    const auto now = limited_->Limit();
    if (!now.ok() && !absl::IsNotFound(now.status())) return now.status();
    if (!now.ok()) {
      return absl::AbortedError(absl::StrCat(limited_->folder(), " is not there any more: ", words_,
                                             " was stopped or started again"));
    }
    if (limited_->LimitText(*now) != limited_->LimitText(ours_)) {
      return absl::AbortedError(absl::StrCat("somebody else has changed ", limited_->LimitFile(),
                                             " to ", limited_->LimitText(*now)));
    }
    ASSIGN_OR_RETURN(const std::vector<pid_t> members, limited_->MembersOfAll());
    if (!members.empty()) return absl::OkStatus();
    return absl::AbortedError(absl::StrCat("nobody is held back any more: ", words_,
                                           " has ended, or was moved by somebody else"));
  }

  absl::StatusOr<CpuCount> Sample(absl::Duration now) const {
    ASSIGN_OR_RETURN(const CpuCount count, limited_->Count());
    ASSIGN_OR_RETURN(const absl::Duration used, meter_->Used());
    if (looks_.empty()) first_ = count;
    if (!looks_.empty() && count.throttled > looks_.back().count.throttled) bitten_ = now;
    looks_.push_back({now, used, count});
    while (looks_.size() > 2 && now - looks_[1].at >= kTellOver) looks_.pop_front();
    return count;
  }

  v1::Observation Saying(const CpuCount& count) const {
    const Look& from = looks_.front();
    const Look& to = looks_.back();
    const double real =
        to.at > from.at ? absl::FDivDuration(to.used - from.used, to.at - from.at) : 0;
    const bool bites = bitten_.has_value() && to.at - *bitten_ <= kBitten;
    const absl::Duration held_back = count.held_back - first_.held_back;
    const int64_t throttled = count.throttled - first_.throttled;
    v1::Observation observation;
    observation.set_requested(ours_.cpus());
    observation.set_real(real);
    observation.set_unit("processors");
    observation.set_reached(bites);
    observation.set_subject(identity_);
    const std::string before =
        measured_.has_value() ? absl::StrFormat(" (%.3f were used before)", *measured_) : "";
    const std::string how =
        throttled == 0
            ? "not held back so far: they get no more than that anyhow"
            : absl::StrFormat(
                  "%s, for %.1f s so far in %d of %d periods",
                  bites ? "held back" : "not held back now: they get no more than that anyhow",
                  absl::ToDoubleSeconds(held_back), throttled, count.periods - first_.periods);
    observation.set_detail(absl::StrFormat("%s: %.2f of %g processors used%s, %s", words_, real,
                                           ours_.cpus(), before, how));
    auto& figures = *observation.mutable_figures();
    figures["held_back_seconds"] = absl::ToDoubleSeconds(held_back);
    figures["periods"] = static_cast<double>(count.periods - first_.periods);
    figures["periods_held_back"] = static_cast<double>(throttled);
    if (measured_.has_value()) figures["processors_before"] = *measured_;
    return observation;
  }

  v1::Observation After(std::string detail) const {
    v1::Observation observation;
    observation.set_unit("processors");
    observation.set_subject(identity_);
    observation.set_detail(std::move(detail));
    return observation;
  }

  // Of a process that has not applied it: another pair of eyes, or a predecessor's heir.
  absl::Status LookForOthers(const Context& context, const Node& node) const {
    const auto hierarchy = FindCpuHierarchy();
    if (!hierarchy.ok()) return absl::OkStatus();
    ASSIGN_OR_RETURN(const std::vector<Cgroup> all, Cgroup(hierarchy->mount).All());
    const std::string name = absl::StrCat("/", GroupName(context, node));
    for (const Cgroup& group : all) {
      if (absl::EndsWith(group.folder(), name)) return StillThere(group.folder());
    }
    const auto subject = Find(node);
    // A limit that it had before is looser. Of a share nobody knows any more what it was.
    if (!subject.ok() || subject->must_move() || !message_.has_cpus()) return absl::OkStatus();
    const auto limit = subject->group().Limit();
    if (!limit.ok() || limit->cpus() > message_.cpus()) return absl::OkStatus();
    return StillLimited(subject->group());
  }
  static absl::Status StillThere(const std::string& folder) {
    return absl::FailedPreconditionError(
        absl::StrCat("the control group ", folder, " is still there"));
  }
  static absl::Status StillLimited(const Cgroup& group) {
    return absl::FailedPreconditionError(absl::StrCat(group.LimitFile(), " is still limited"));
  }

  const v1::ThrottleCpu message_;
  // Processors that were used before, where a share of them is asked for.
  std::optional<double> measured_;
  std::string words_, identity_;
  // Which group is limited, and where its processes came from, if they were moved.
  std::optional<Cgroup> limited_, origin_;
  CpuLimit ours_;
  // On a group that is not ours; as long as its limit is.
  mutable UniqueFd lock_;
  std::unique_ptr<CpuMeter> meter_;
  // Looks come from one thread.
  mutable std::deque<Look> looks_;
  mutable CpuCount first_;
  mutable std::optional<absl::Duration> bitten_;
  mutable std::optional<v1::Observation> after_;
};

const FaultRegistration kThrottleCpu(
    v1::Fault::kThrottleCpu,
    [](const v1::Fault& fault) { return std::make_unique<ThrottleCpu>(fault.throttle_cpu()); },
    []() -> std::optional<Lack> {
      const absl::Status found = FindCpuHierarchy().status();
      if (found.ok()) return std::nullopt;
      return Lack{std::string(found.message()), "stormQueries, which keeps processors busy"};
    });

}  // namespace
}  // namespace firedrill
