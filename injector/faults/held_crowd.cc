// A crowd of connections at any server, as a fault.
#include "injector/faults/held_crowd.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "injector/os/descriptors.h"

namespace firedrill {
namespace {

// A look at the server; a healthy one answers in a millisecond.
constexpr absl::Duration kLookTimeout = absl::Milliseconds(500);
// Descriptors that this process needs for everything else.
constexpr size_t kOtherDescriptors = 128;

}  // namespace

absl::string_view StateWords(v1::SessionState state) {
  switch (state) {
    case v1::SESSION_STATE_IDLE_IN_TRANSACTION:
      return "idle in transaction";
    case v1::SESSION_STATE_ACTIVE:
      return "active";
    default:
      return "idle";
  }
}

absl::Status CheckCrowdSize(const v1::HoldConnections& message) {
  if (message.size_case() == v1::HoldConnections::SIZE_NOT_SET) {
    return absl::InvalidArgumentError("say how many: count, fillTo or leaveFree");
  }
  return PermitDescriptors(message.count() + kOtherDescriptors);
}

absl::Status CheckCrowdGoal(const CrowdGoal& goal) {
  RETURN_IF_ERROR(goal.Check());
  return PermitDescriptors(goal.Wanted() + kOtherDescriptors);
}

absl::Status AwaitFirst(const v1::HoldConnections& message, const CrowdGoal& goal, int taken,
                        absl::FunctionRef<Crowd::Figures()> crowd, const Patience& patience) {
  if (!goal.counts_sessions() && taken >= goal.Wanted()) return absl::OkStatus();
  for (;;) {
    const Crowd::Figures figures = crowd();
    if (figures.opened > 0 || figures.refused > 0) return absl::OkStatus();
    if (!figures.trouble.empty()) {
      return Annotate(absl::Status(figures.trouble_code, figures.trouble),
                      absl::StrCat("holding connections with profile ", message.profile()));
    }
    // Full by others' sessions before ours began.
    if (goal.counts_sessions() && taken >= goal.usable()) return absl::OkStatus();
    RETURN_IF_ERROR(Annotate(patience.Check(), "opening the first session"));
    absl::SleepFor(absl::Milliseconds(1));
  }
}

v1::Observation ObserveCrowd(const v1::HoldConnections& message, const CrowdGoal& goal,
                             const CrowdCounts& counts, const Crowd::Figures& crowd,
                             const std::string& identity) {
  const int real = goal.counts_sessions() ? counts.ours_as_asked : counts.taken;
  const bool limited = goal.usable() != CrowdGoal::kUnlimited;
  v1::Observation observation;
  observation.set_requested(goal.Wanted());
  observation.set_real(real);
  observation.set_unit(goal.counts_sessions() ? "sessions" : "usable slots");
  observation.set_reached(real >= goal.Wanted() && counts.ours_as_asked == counts.ours);
  observation.set_subject(identity);
  std::string detail =
      limited ? absl::StrCat(counts.taken, " of ", goal.usable(), " usable slots taken, ") : "";
  absl::StrAppend(&detail, counts.ours_as_asked, limited ? " by this fault (" : " held (",
                  StateWords(message.state()), ")");
  if (!crowd.trouble.empty() && !observation.reached()) {
    absl::StrAppend(&detail, "; last: ", crowd.trouble);
  }
  observation.set_detail(detail);
  auto& figures = *observation.mutable_figures();
  figures["held"] = counts.ours_as_asked;
  if (limited) {
    figures["taken"] = counts.taken;
    figures["usable"] = goal.usable();
  }
  figures["opened"] = static_cast<double>(crowd.opened);
  figures["lost"] = static_cast<double>(crowd.lost);
  figures["refused"] = static_cast<double>(crowd.refused);
  return observation;
}

absl::Status HeldCrowd::Validate(const Node& node) const {
  ASSIGN_OR_RETURN(const v1::Profile profile, node.FindProfile(message_.profile()));
  RETURN_IF_ERROR(make_(message_, profile, "").status());
  return CheckCrowdSize(message_);
}

absl::Status HeldCrowd::Open(Watched& watched, const Context& context, const Node& node) const {
  MutexLock lock(watched.mutex);
  if (watched.server == nullptr) {
    ASSIGN_OR_RETURN(watched.profile, node.FindProfile(message_.profile()));
    ASSIGN_OR_RETURN(watched.server, make_(message_, watched.profile, context.Stamp()));
  }
  return watched.server->Open(watched.profile, context.run, context.patience());
}

absl::Status HeldCrowd::Prepare(const Context& context, Node& node) {
  if (watched_ == nullptr) watched_ = std::make_unique<Watched>();
  return Open(*watched_, context, node);
}

absl::Status HeldCrowd::Apply(const Context& context, Node& node, Changes&) {
  RETURN_IF_ERROR(Prepare(context, node));
  const Patience patience = context.patience();
  const absl::Duration now = RealClock().Boot();
  const absl::Duration end = now + (context.ends_at - context.clock.Boot());
  int taken = 0;
  {
    MutexLock lock(watched_->mutex);
    ASSIGN_OR_RETURN(const CrowdCounts counts, watched_->server->Count(patience));
    taken = counts.taken;
    goal_.emplace(message_, watched_->server->usable(), taken, now, end);
  }
  RETURN_IF_ERROR(CheckCrowdGoal(*goal_));
  Crowd::Options options;
  options.begin = [this, end] {
    MutexLock lock(watched_->mutex);
    return watched_->server->Begin(end);
  };
  options.missing = [this, profile = message_.profile(), run = context.run](
                        const Crowd::Figures& crowd, std::stop_token stop) -> absl::StatusOr<int> {
    const absl::Duration moment = RealClock().Boot();
    const bool enough = goal_->counts_sessions() && crowd.held >= goal_->Wanted();
    // Nothing to ask the server for.
    if (enough || !goal_->Goes(moment)) {
      return goal_->Missing(0, crowd.held, crowd.opened, moment);
    }
    const Patience look(kLookTimeout, std::move(stop));
    MutexLock lock(watched_->mutex);
    RETURN_IF_ERROR(watched_->server->Open(watched_->profile, run, look));
    ASSIGN_OR_RETURN(const int now_taken, watched_->server->Taken(look));
    return goal_->Missing(now_taken, crowd.held, crowd.opened, RealClock().Boot());
  };
  crowd_ = std::make_unique<Crowd>(std::move(options));
  const absl::Status status = AwaitFirst(
      message_, *goal_, taken, [this] { return crowd_->figures(); }, patience);
  if (!status.ok()) Release();
  return status;
}

absl::StatusOr<v1::Observation> HeldCrowd::Observe(const Context& context, const Node& node) const {
  if (watched_ == nullptr || !goal_.has_value()) {
    return absl::FailedPreconditionError("holding connections: not applied");
  }
  RETURN_IF_ERROR(Open(*watched_, context, node));
  MutexLock lock(watched_->mutex);
  ASSIGN_OR_RETURN(const CrowdCounts counts, watched_->server->Count(context.patience()));
  const Crowd::Figures crowd = crowd_ == nullptr ? Crowd::Figures() : crowd_->figures();
  return ObserveCrowd(message_, *goal_, counts, crowd, watched_->server->identity());
}

void HeldCrowd::Release() {
  crowd_.reset();
  // After Apply() it is needed to look whether all is gone.
  if (!goal_.has_value()) watched_.reset();
}

absl::Status HeldCrowd::ReadBack(const Context& context, const Node& node) const {
  const auto fresh = watched_ != nullptr ? nullptr : std::make_unique<Watched>();
  Watched& watched = watched_ != nullptr ? *watched_ : *fresh;
  RETURN_IF_ERROR(LookUntilOk([&] { return LookForOurs(watched, context, node); },
                              absl::Milliseconds(10), context.patience(),
                              "looking whether all held connections are gone"));
  MutexLock lock(watched.mutex);
  if (watched.server != nullptr) watched.server->Close();
  return absl::OkStatus();
}

absl::Status HeldCrowd::LookForOurs(Watched& watched, const Context& context,
                                    const Node& node) const {
  const absl::Status opened = Open(watched, context, node);
  MutexLock lock(watched.mutex);
  // A server that is down holds no session.
  if (watched.server != nullptr && watched.server->Down(opened)) return absl::OkStatus();
  RETURN_IF_ERROR(opened);
  ASSIGN_OR_RETURN(const CrowdCounts counts, watched.server->Count(context.patience()));
  if (counts.ours == 0) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(counts.ours, " connections of ",
                                                    context.Stamp(), " are still there; ",
                                                    watched.server->ByHand()));
}

}  // namespace firedrill
