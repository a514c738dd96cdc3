// The loss of an index, from the plan before it to the plan after it.
#include "injector/faults/lost_index.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace firedrill {
namespace {

template <typename Sight>
std::string BothWays(const Sight& sight) {
  return absl::StrCat(sight.pooled.read_by, " on a prepared and ", sight.fresh.read_by,
                      " on a fresh session");
}

}  // namespace

absl::Status LostIndex::Validate(const Node& node) const {
  ASSIGN_OR_RETURN(const v1::Profile profile, node.FindProfile(message_.profile()));
  return server_->Validate(profile);
}

absl::Status LostIndex::Prepare(const Context& context, Node& node) {
  const Patience patience = context.patience();
  if (prepared_ == nullptr || !prepared_->usable()) {
    ASSIGN_OR_RETURN(const v1::Profile profile, node.FindProfile(message_.profile()));
    RETURN_IF_ERROR(server_->Open(profile, context.run, patience));
    ASSIGN_OR_RETURN(prepared_, server_->OpenPlans(context.run, patience));
  }
  return CheckPlan(context.run, patience);
}

// A statement that does not use the index would not notice its loss.
absl::Status LostIndex::CheckPlan(const std::string& run, const Patience& patience) {
  ASSIGN_OR_RETURN(before_, LookOnce(run, patience));
  RETURN_IF_ERROR(before_.blind);
  if (before_.pooled.uses_index && before_.fresh.uses_index) return absl::OkStatus();
  const std::string& read_by =
      before_.pooled.uses_index ? before_.fresh.read_by : before_.pooled.read_by;
  return absl::FailedPreconditionError(
      absl::StrCat("to lose the index ", server_->Name(), " would have no effect: the ",
                   server_->words().planner, " reads ", server_->table(), " by ",
                   read_by.empty() ? "other means" : read_by, " for ", server_->statement(),
                   message_.statement().empty() ? "; name a statement of the profile that uses it"
                                                : "; name another statement"));
}

absl::Status LostIndex::Apply(const Context& context, Node& node, Changes& changes) {
  RETURN_IF_ERROR(Prepare(context, node));
  const Patience patience = context.patience();
  RETURN_IF_ERROR(server_->OpenForLoss(context.run, patience));
  applied_ = true;
  const IndexServer::Words& words = server_->words();
  const Undo undo{
      words.undo_kind,   absl::StrCat("index ", server_->Name(), " of ", server_->identity()),
      words.usable,      words.not_usable,
      server_->ByHand(), server_->Access()};
  return changes.Make(undo, [&] { return server_->Lose(patience); });
}

absl::StatusOr<v1::Observation> LostIndex::Observe(const Context& context, const Node&) const {
  if (!applied_) return absl::FailedPreconditionError("losing an index: not applied");
  ASSIGN_OR_RETURN(const Sight now, Look(context.run, context.patience()));
  if (now.index == IndexState::kLost && now.blind.ok()) return Saying(now);
  if (now.index == IndexState::kLost) return absl::FailedPreconditionError(Saying(now).detail());
  // VACUUM FULL and REINDEX make it usable, REINDEX CONCURRENTLY makes another one.
  return absl::AbortedError(absl::StrCat("it is not in force any more, by somebody else's doing: ",
                                         Saying(now).detail()));
}

v1::Observation LostIndex::Saying(const Sight& now) const {
  const IndexServer::Words& words = server_->words();
  const int without = (now.pooled.uses_index ? 0 : 1) + (now.fresh.uses_index ? 0 : 1);
  const bool lost = now.index == IndexState::kLost;
  v1::Observation observation;
  observation.set_requested(2);
  observation.set_real(lost ? without : 0);
  observation.set_unit("plans without the index");
  observation.set_reached(lost && without == 2);
  observation.set_subject(server_->identity());
  const std::string state =
      now.index == IndexState::kGone
          ? absl::StrCat("not there any more: somebody has ", words.gone, " it")
          : (lost ? words.lost : words.usable);
  const std::string before =
      before_.pooled.read_by == before_.fresh.read_by ? before_.pooled.read_by : BothWays(before_);
  std::string detail = absl::StrCat("the index ", server_->Name(), " is ", state, "; ",
                                    server_->table(), " was read by ", before);
  if (now.index == IndexState::kGone) {
    observation.set_detail(detail);
    return observation;
  }
  if (!now.blind.ok()) {
    observation.set_detail(
        absl::StrCat(detail, ", and how now is not to be seen: ", now.blind.message()));
    return observation;
  }
  absl::StrAppend(&detail, ", now by ", BothWays(now));
  if (now.index == IndexState::kUsable && !now.fresh.uses_index) {
    absl::StrAppend(&detail, ": so chooses the ", words.planner, ", who may use the index again");
  }
  observation.set_detail(detail);
  auto& figures = *observation.mutable_figures();
  figures[absl::StrCat(words.weight, "_before")] = before_.pooled.weight;
  figures[absl::StrCat(words.weight, "_before_fresh")] = before_.fresh.weight;
  figures[absl::StrCat(words.weight, "_prepared")] = now.pooled.weight;
  figures[absl::StrCat(words.weight, "_fresh")] = now.fresh.weight;
  return observation;
}

void LostIndex::Release() {
  // After Apply() the prepared session is needed to look whether the index is used again.
  if (!applied_) prepared_.reset();
}

absl::Status LostIndex::ReadBack(const Context& context, const Node& node) const {
  const Patience patience = context.patience();
  if (!applied_) {
    ASSIGN_OR_RETURN(const v1::Profile profile, node.FindProfile(message_.profile()));
    ASSIGN_OR_RETURN(const IndexState state, server_->LookByName(profile, context.run, patience));
    return state == IndexState::kLost ? StillLost() : absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const Sight now, Look(context.run, patience));
  if (now.index == IndexState::kLost) return StillLost();
  after_ = Saying(now);
  // A plan with the index was made since it is back. Without it: a session that plans as a fresh
  // one does has planned anew, whatever others have changed; one that does not goes on with the
  // plan that it made meanwhile, and is as slow as during the fault.
  const bool stale = now.index == IndexState::kUsable && now.blind.ok() && !now.pooled.uses_index &&
                     now.pooled.read_by != now.fresh.read_by;
  if (stale) {
    return absl::FailedPreconditionError(
        absl::StrCat("the index ", server_->Name(), " is ", server_->words().usable,
                     " again, and prepared sessions still read ", server_->table(), " by ",
                     now.pooled.read_by, ", where a fresh one does by ", now.fresh.read_by,
                     "; to make them plan anew: ", server_->ByHand()));
  }
  prepared_.reset();
  return absl::OkStatus();
}

absl::Status LostIndex::StillLost() const {
  return absl::FailedPreconditionError(
      absl::StrCat("the index ", server_->Name(), " is still ", server_->words().not_usable));
}

absl::StatusOr<LostIndex::Sight> LostIndex::Look(const std::string& run,
                                                 const Patience& patience) const {
  absl::StatusOr<Sight> sight = LookOnce(run, patience);
  // The server was started again: all its sessions are new ones now.
  if (!sight.ok() && prepared_ != nullptr && !prepared_->usable()) {
    ASSIGN_OR_RETURN(prepared_, server_->OpenPlans(run, patience));
    sight = LookOnce(run, patience);
  }
  return sight;
}

absl::StatusOr<LostIndex::Sight> LostIndex::LookOnce(const std::string& run,
                                                     const Patience& patience) const {
  Sight sight;
  if (prepared_ == nullptr) {
    ASSIGN_OR_RETURN(prepared_, server_->OpenPlans(run, patience));
  }
  ASSIGN_OR_RETURN(sight.index, prepared_->Look(patience));
  // Nobody expects plans of it, nor has its statement a table any more, maybe.
  if (sight.index == IndexState::kGone) return sight;
  const absl::Status looked = LookAtPlans(run, patience, sight);
  sight.blind = Annotate(looked, absl::StrCat("preparing ", server_->statement()));
  if (!looked.ok() && !server_->Refuses(looked)) return sight.blind;
  return sight;
}

absl::Status LostIndex::LookAtPlans(const std::string& run, const Patience& patience,
                                    Sight& sight) const {
  absl::StatusOr<IndexPlan> pooled = prepared_->Explain(patience);
  // Upon such an answer a driver prepares anew, and so does who looks in its place.
  if (!pooled.ok() && server_->Refuses(pooled.status())) {
    ASSIGN_OR_RETURN(prepared_, server_->OpenPlans(run, patience));
    pooled = prepared_->Explain(patience);
  }
  RETURN_IF_ERROR(pooled.status());
  sight.pooled = *std::move(pooled);
  ASSIGN_OR_RETURN(const auto fresh, server_->OpenPlans(run, patience));
  ASSIGN_OR_RETURN(sight.fresh, fresh->Explain(patience));
  return absl::OkStatus();
}

}  // namespace firedrill
