// Goes through a history once more, as the conductor has.
#include "controller/replay.h"

#include <google/protobuf/util/message_differencer.h>

#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
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

std::string AlertKey(const v1::Event& event) {
  const v1::AlertTransition& alert = event.alert();
  const std::map<std::string, std::string> labels(alert.labels().begin(), alert.labels().end());
  std::string key = absl::StrCat(event.source(), "\n", alert.alert());
  for (const auto& [name, value] : labels) absl::StrAppend(&key, "\n", name, "=", value);
  return key;
}

bool IsActive(v1::AlertState state) {
  return state == v1::ALERT_STATE_PENDING || state == v1::ALERT_STATE_FIRING;
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

Replayed Replay(const std::vector<v1::Event>& history) {
  Replayed replayed;
  if (history.empty()) return replayed;
  const v1::Plan& plan = history.front().created().plan();
  for (const v1::Event& event : history) {
    if (event.has_timer()) replayed.timers.erase(event.timer().name());
    if (!replayed.decided.empty() && Records(replayed.decided.front(), event)) {
      replayed.decided.pop_front();
    }
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
  return replayed;
}

std::vector<v1::Event> BlindSpell(const std::vector<v1::Event>& history, absl::Time now) {
  constexpr char kWhy[] = "the controller was started again";
  std::vector<v1::Event> events;
  const v1::SiteSpec& site = history.front().created().site().spec();
  std::vector<std::string> sources;
  if (site.has_prometheus()) sources.emplace_back("prometheus");
  for (int i = 0; i < site.alertmanagers_size(); ++i) {
    sources.push_back(absl::StrCat("alertmanager/", i));
  }
  for (const std::string& source : sources) {
    for (const bool over : {false, true}) {
      v1::Event& event = events.emplace_back();
      event.set_source(source);
      event.mutable_gap()->set_source(source);
      *event.mutable_gap()->mutable_from() = history.back().at();
      if (over) *event.mutable_gap()->mutable_to() = ToProto(now);
      event.mutable_gap()->set_reason(kWhy);
    }
  }
  std::map<std::string, const v1::Event*> last;
  for (const v1::Event& event : history) {
    // What a receiver was told does not end by itself.
    if (event.has_alert() && event.alert().source() != v1::ALERT_SOURCE_WEBHOOK) {
      last[AlertKey(event)] = &event;
    }
  }
  for (const auto& [key, before] : last) {
    if (!IsActive(before->alert().state())) continue;
    v1::Event& event = events.emplace_back();
    event.set_source(before->source());
    *event.mutable_alert() = before->alert();
    event.mutable_alert()->set_state(v1::ALERT_STATE_UNKNOWN);
    event.mutable_alert()->set_series_present(false);
    *event.mutable_alert()->mutable_evaluated_at() = ToProto(now);
  }
  return events;
}

}  // namespace firedrill
