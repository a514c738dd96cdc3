// Goes through a history once more, as the conductor has.
#include "controller/replay.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/util/message_differencer.h>

#include <algorithm>
#include <tuple>
#include <utility>
#include <variant>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/text.h"
#include "base/time_proto.h"

namespace firedrill {
namespace {

using google::protobuf::util::MessageDifferencer;

// Whether `written` is what was decided. Group and epoch of a command are the conductor's.
bool Records(const v1::Event& decided, const v1::Event& written) {
  if (decided.body_case() != written.body_case()) return false;
  switch (decided.body_case()) {
    case v1::Event::kCommand: {
      v1::Command command = written.command().command();
      command.mutable_id()->clear_group();
      command.mutable_id()->clear_epoch();
      return MessageDifferencer::Equals(decided.command().command(), command);
    }
    case v1::Event::kPhase:
      return MessageDifferencer::Equals(decided.phase(), written.phase());
    case v1::Event::kStop:
      return MessageDifferencer::Equals(decided.stop(), written.stop());
    default:
      return decided.body_case() == v1::Event::kFinished;
  }
}

Fate Undo(v1::StopRequested::Cause cause, std::string why) {
  Fate fate{Fate::What::kUndo, why};
  fate.stop.emplace();
  fate.stop->set_cause(cause);
  fate.stop->set_by("controller");
  fate.stop->set_reason(std::move(why));
  return fate;
}

}  // namespace

std::optional<v1::Event> RecordOf(const Action& action) {
  v1::Event event;
  if (const auto* issue = std::get_if<Issue>(&action)) {
    *event.mutable_command()->mutable_command() = issue->command;
  } else if (const auto* phase = std::get_if<EnterPhase>(&action)) {
    event.mutable_phase()->set_phase(phase->phase);
    event.mutable_phase()->set_reason(phase->reason);
  } else if (const auto* stop = std::get_if<Stop>(&action)) {
    *event.mutable_stop() = stop->stop;
  } else if (const auto* finish = std::get_if<Finish>(&action)) {
    *event.mutable_finished() = finish->finished;
  } else {
    return std::nullopt;
  }
  return event;
}

bool IsPrivate(const std::vector<v1::Event>& history) {
  return std::any_of(history.begin(), history.end(), [](const v1::Event& event) {
    return event.has_command() &&
           absl::StartsWith(event.command().command().id().group(), kPrivateGroup);
  });
}

Fate FateOf(const std::vector<v1::Event>& history, const Machine& machine,
            const std::optional<std::string>& lever, bool was_going) {
  using What = Fate::What;
  if (history.empty() || !history.front().has_created()) return {What::kClose, "it has no begin"};
  const RunState state = Fold(history);
  if (state.finished.has_value()) return {What::kNothing};
  const v1::RunCreated& created = history.front().created();
  if (created.boot_id().empty() || created.boot_id() != machine.boot_id) {
    return {What::kClose, "the machine of its controller was started again"};
  }
  // Only the event that says so was lost.
  if (state.finishing) return {What::kGoOn};
  if (state.phase < v1::PHASE_GATE) return {What::kClose, "nothing of it had begun"};
  if (IsPrivate(history)) return {What::kClose, "its nodes served no other controller"};
  if (!was_going) {
    return Undo(
        v1::StopRequested::CAUSE_CONTROLLER_LOST,
        "it was not going on any more when its controller ended: the history does not have "
        "its end, which could not be written, or which came after this copy of it was made");
  }
  if (lever.has_value()) {
    return Undo(
        v1::StopRequested::CAUSE_LEVER,
        absl::StrCat("the emergency lever was pulled while the controller was away: ", *lever));
  }
  const absl::Duration away = machine.boot - FromProto(created.boot()) -
                              (FromProto(history.back().at()) - FromProto(history.front().at()));
  if (away > kLongestAway) {
    return Undo(v1::StopRequested::CAUSE_CONTROLLER_LOST,
                absl::StrCat("its controller was away for ", firedrill::FormatDuration(away),
                             ", and no node waits for longer than ",
                             firedrill::FormatDuration(kLongestAway)));
  }
  return {What::kGoOn};
}

std::string MarkOf(const v1::Event& report) {
  v1::Event told = report;
  // What the controller has added, and moved to its own clock.
  told.clear_seq();
  told.clear_epoch();
  told.clear_at();
  told.clear_clock_offset();
  told.clear_clock_error();
  if (told.has_load()) told.mutable_load()->clear_start();
  if (told.has_sample()) told.mutable_sample()->clear_asked();
  std::string mark;
  google::protobuf::io::StringOutputStream stream(&mark);
  google::protobuf::io::CodedOutputStream coded(&stream);
  coded.SetSerializationDeterministic(true);
  told.SerializeToCodedStream(&coded);
  coded.Trim();
  return mark;
}

void DropBeginnings(std::deque<v1::Event>& decided) {
  std::erase_if(decided, [](const v1::Event& event) {
    return event.has_command() && !EndsSomething(event.command().command());
  });
}

Replayed Replay(const std::vector<v1::Event>& history) {
  Replayed replayed;
  if (history.empty()) return replayed;
  const v1::Plan& plan = history.front().created().plan();
  // By node, name and kind.
  std::map<std::tuple<std::string, std::string, int>, v1::Command> ending;
  for (const v1::Event& event : history) {
    if (event.has_command() && EndsSomething(event.command().command())) {
      const v1::Command& command = event.command().command();
      ending[{command.id().node(), command.id().name(), command.action_case()}] = command;
    }
    if (event.has_timer()) replayed.timers.erase(event.timer().name());
    const auto done =
        std::find_if(replayed.decided.begin(), replayed.decided.end(),
                     [&](const v1::Event& decided) { return Records(decided, event); });
    if (done != replayed.decided.end()) replayed.decided.erase(done);
    if (event.has_stop()) DropBeginnings(replayed.decided);
    Step step = Advance(plan, std::move(replayed.state), event);
    replayed.state = std::move(step.state);
    for (const Action& action : step.actions) {
      if (const auto* set = std::get_if<SetTimer>(&action)) {
        replayed.timers[set->name] = FromProto(event.at()) + set->delay;
      } else if (const auto* cancel = std::get_if<CancelTimer>(&action)) {
        replayed.timers.erase(cancel->name);
      } else if (std::holds_alternative<StartProbes>(action)) {
        replayed.asking = true;
      } else if (std::holds_alternative<StopProbes>(action)) {
        replayed.asking = false;
      } else if (std::optional<v1::Event> record = RecordOf(action)) {
        replayed.decided.push_back(*std::move(record));
      }
    }
  }
  const absl::Time last = FromProto(history.back().at());
  for (auto event = history.rbegin(); event != history.rend(); ++event) {
    if (last - FromProto(event->at()) > kLongestAway) break;
    if (absl::StartsWith(event->source(), "injector/")) replayed.told.insert(MarkOf(*event));
  }
  for (auto& [key, command] : ending) {
    const auto fault =
        replayed.state.faults.find(absl::StrCat(command.id().name(), "@", command.id().node()));
    const bool heard = command.has_revert() && fault != replayed.state.faults.end() &&
                       fault->second.apply_issued && !IsLive(fault->second);
    if (heard) continue;
    command.mutable_id()->clear_group();
    command.mutable_id()->clear_epoch();
    replayed.unheard.push_back(std::move(command));
  }
  return replayed;
}

}  // namespace firedrill
