// The life of one fault, as steps that block.
#include "injector/fault_life.h"

#include <google/protobuf/util/json_util.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "firedrill/v1/options.pb.h"

namespace firedrill {
namespace {

constexpr absl::Duration kPrepareFor = absl::Seconds(5);
constexpr absl::Duration kApplyFor = absl::Seconds(10);
constexpr absl::Duration kTickFor = absl::Seconds(1);
constexpr absl::Duration kObserveFor = absl::Seconds(2);
constexpr absl::Duration kLookOnceFor = absl::Seconds(2);

// The door to lasting changes: the journal has the undo before the change is made.
class JournalledChanges final : public Changes {
 public:
  JournalledChanges(Journal& journal, const std::string& run, const std::string& fault)
      : journal_(journal), run_(run), fault_(fault) {}
  absl::Status Make(const Undo& undo, absl::FunctionRef<absl::Status()> change) override {
    const absl::StatusOr<uint64_t> recorded = journal_.Record(run_, fault_, undo);
    if (!recorded.ok()) {
      return Annotate(recorded.status(),
                      absl::StrCat("changing ", undo.resource,
                                   " was not begun, since its undo could not be kept"));
    }
    return change();
  }

 private:
  Journal& journal_;
  const std::string& run_;
  const std::string& fault_;
};

std::string AsJson(const v1::PlannedFault& planned) {
  std::string json;
  if (!google::protobuf::util::MessageToJsonString(planned, &json).ok()) json.clear();
  return json;
}

}  // namespace

FaultLife::FaultLife(std::string run, v1::PlannedFault planned, std::unique_ptr<Fault> fault,
                     Node& node, Journal& journal, const Clock& clock)
    : run_(std::move(run)),
      planned_(std::move(planned)),
      fault_(std::move(fault)),
      node_(node),
      journal_(journal),
      clock_(clock),
      sustains_(dynamic_cast<Sustains*>(fault_.get())) {}

Context FaultLife::ContextFor(absl::Duration length, std::stop_token stop) const {
  return {clock_,          run_,     planned_.name(), clock_.Boot() + length,
          std::move(stop), ends_at_, planned_.seed()};
}

absl::Status FaultLife::Prepare(std::stop_token stop) {
  RETURN_IF_ERROR(fault_->Validate(node_));
  auto* const prepares = dynamic_cast<Prepares*>(fault_.get());
  if (prepares == nullptr || prepared_) return absl::OkStatus();
  RETURN_IF_ERROR(prepares->Prepare(ContextFor(kPrepareFor, std::move(stop)), node_));
  prepared_ = true;
  return absl::OkStatus();
}

absl::Status FaultLife::Apply(std::stop_token stop, absl::Duration ends_at) {
  ends_at_ = ends_at;
  // What cannot even open its control connection has touched nothing, and there is no look at it.
  RETURN_IF_ERROR(Prepare(stop));
  if (stop.stop_requested()) return absl::CancelledError("it was taken back before it began");
  if (planned_.ending() != v1::ENDING_ONE_SHOT) {
    RETURN_IF_ERROR(Annotate(journal_.Begin(run_, planned_.name(), AsJson(planned_)).status(),
                             "nothing was touched, since the journal could not be written"));
  }
  touched_ = true;
  JournalledChanges changes(journal_, run_, planned_.name());
  Context context = ContextFor(kApplyFor, std::move(stop));
  context.deadline = std::min(context.deadline, ends_at);
  RETURN_IF_ERROR(fault_->Apply(context, node_, changes));
  counting_ = true;
  tick_due_ = observe_due_ = clock_.Boot();
  return absl::OkStatus();
}

FaultLife::Turn FaultLife::Sustain(std::stop_token stop) {
  Turn turn;
  if (sustains_ != nullptr && clock_.Boot() >= tick_due_) {
    // A tick that fails shows in the observation; the next one tries again.
    sustains_->Tick(ContextFor(kTickFor, stop), node_).IgnoreError();
    tick_due_ = clock_.Boot() + sustains_->pace();
  }
  if (clock_.Boot() >= observe_due_ && !stop.stop_requested()) {
    turn.observed = fault_->Observe(ContextFor(kObserveFor, stop), node_);
    reached_ = turn.observed->ok() && (*turn.observed)->reached();
    observe_due_ = clock_.Boot() + (reached_ ? kObserveLater : kObserveSoon);
  }
  turn.next = sustains_ == nullptr ? observe_due_ : std::min(tick_due_, observe_due_);
  return turn;
}

std::optional<FaultEnd> FaultLife::End(std::stop_token stop) {
  if (std::exchange(counting_, false)) Count();
  fault_->Release();
  prepared_ = false;
  if (!touched_) return FaultEnd{};
  if (!looking_since_.has_value()) looking_since_ = clock_.Boot();
  undone_ = journal_.RollBack(run_, planned_.name());
  for (const Journal::Problem& problem : undone_.problems) {
    if (problem.result == UndoResult::kSuperseded) superseded_.push_back(problem);
  }
  // What somebody else has set since is theirs: to look for it would find no fault of ours.
  absl::Status looked = superseded_.empty()
                            ? fault_->ReadBack(ContextFor(kLookOnceFor, std::move(stop)), node_)
                            : absl::OkStatus();
  const bool gone = looked.ok() && !undone_.failed();
  if (!gone && clock_.Boot() - *looking_since_ < kLookFor) return std::nullopt;
  return Settle(std::move(looked));
}

void FaultLife::Count() {
  const auto* const counts = dynamic_cast<const Counts*>(fault_.get());
  if (counts == nullptr) return;
  absl::StatusOr<v1::Observation> count = counts->LastCount();
  if (count.ok()) last_ = *std::move(count);
}

FaultEnd FaultLife::Settle(absl::Status looked) {
  looking_since_.reset();
  FaultEnd end;
  end.last = std::exchange(last_, std::nullopt);
  std::vector<std::string> reasons, by_hand;
  for (const Journal::Problem& problem : undone_.problems) {
    if (problem.result != UndoResult::kFailed) continue;
    reasons.push_back(absl::StrCat(problem.entry.undo.resource, ": ", problem.why));
    by_hand.push_back(problem.entry.undo.by_hand);
  }
  if (!looked.ok()) {
    reasons.push_back(absl::StrCat("a look after ", firedrill::FormatDuration(kLookFor),
                                   " did not find it gone: ", looked.message()));
    // What dies with the process is gone when the process is.
    if (by_hand.empty() && planned_.ending() != v1::ENDING_JOURNALLED) {
      by_hand.push_back(
          absl::StrCat("kill ", getpid(),
                       "  # this node's injector: all that it has on ends with it, so look first"));
    }
  }
  if (!reasons.empty()) {
    end.how = FaultEnd::How::kStuck;
    end.reason = JoinWords(reasons);
    for (const std::string& command : by_hand) {
      absl::StrAppend(&end.undo_by_hand, end.undo_by_hand.empty() ? "" : "; ", command);
    }
    return end;
  }
  journal_.End(run_, planned_.name());
  touched_ = false;
  const auto* const tells = dynamic_cast<const TellsAfter*>(fault_.get());
  if (tells != nullptr && superseded_.empty()) end.after = tells->After();
  for (const Journal::Problem& problem : superseded_) reasons.push_back(problem.why);
  if (!reasons.empty()) {
    end.how = FaultEnd::How::kSuperseded;
    end.reason = JoinWords(reasons);
  }
  return end;
}

}  // namespace firedrill
