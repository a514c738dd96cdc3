// What is reported of faults, and what is remembered so that the same command gets the same answer.
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/time_proto.h"
#include "injector/warden.h"
#include "injector/warden_parts.h"

namespace firedrill {
namespace {

std::string IdKey(const v1::CommandId& id) {
  return absl::StrCat(id.group(), "\n", id.epoch(), "\n", id.run(), "\n", id.name(), "\n",
                      id.verb(), "\n", id.attempt());
}

}  // namespace

std::vector<v1::ActiveFault> Warden::active() const {
  std::vector<v1::ActiveFault> all;
  for (const auto& [key, entry] : entries_) {
    if (!entry.touched) continue;
    v1::ActiveFault& fault = all.emplace_back();
    fault.set_run(key.first);
    fault.set_fault(key.second);
    fault.set_state(entry.state);
  }
  return all;
}

v1::FaultReport Warden::ReportOf(const Entry& entry) const {
  v1::FaultReport report;
  report.set_fault(entry.key.second);
  report.set_node(node_.name());
  report.set_state(entry.state);
  report.set_reason(entry.reason);
  if (entry.observation.has_value() && entry.state == v1::FAULT_STATE_ACTIVE) {
    *report.mutable_observation() = *entry.observation;
  }
  return report;
}

void Warden::Send(const Key& key, const v1::FaultReport& report, const v1::CommandId* answers,
                  std::optional<absl::Time> at) {
  if (last_.emplace(key, report).second) {
    last_order_.push_back(key);
    // What is on is never forgotten: there are far fewer faults than memories.
    for (size_t tries = last_order_.size();
         last_order_.size() > warden::kMostRemembered && tries > 0; --tries) {
      const Key oldest = last_order_.front();
      last_order_.pop_front();
      if (entries_.count(oldest) > 0) {
        last_order_.push_back(oldest);
      } else {
        last_.erase(oldest);
      }
    }
  } else {
    last_[key] = report;
  }
  SendOnly(key, report, answers, at);
}

void Warden::SendOnly(const Key& key, const v1::FaultReport& report, const v1::CommandId* answers,
                      std::optional<absl::Time> at) {
  v1::Report out;
  v1::Event& event = *out.mutable_event();
  event.set_run(key.first);
  *event.mutable_source_time() = ToProto(at.value_or(executor_.clock().Now()));
  *event.mutable_fault() = report;
  if (answers != nullptr) *out.mutable_answers() = *answers;
  report_(std::move(out));
}

void Warden::Refuse(const v1::CommandId& id, const Key& key, const absl::Status& why) {
  v1::FaultReport report;
  report.set_fault(key.second);
  report.set_node(node_.name());
  report.set_state(v1::FAULT_STATE_REFUSED);
  report.set_reason(std::string(why.message()));
  report.set_code(why.raw_code());
  Remember(id, {key, report});
  SendOnly(key, report, &id);
}

void Warden::Remember(const v1::CommandId& id, Answered answered) {
  const std::string key = IdKey(id);
  const bool known = answered_.count(key) > 0;
  answered_[key] = std::move(answered);
  if (!known) warden::Bound(answered_, answered_order_, key);
}

bool Warden::AnswerAgain(const v1::CommandId& id) {
  const auto found = answered_.find(IdKey(id));
  if (found == answered_.end()) return false;
  const Answered& answered = found->second;
  if (answered.refusal.has_value()) {
    SendOnly(answered.key, *answered.refusal, &id);
    return true;
  }
  const auto last = last_.find(answered.key);
  // A fault that was prepared is answered for only when it was refused.
  if (id.verb() != "prepare" && last != last_.end()) SendOnly(answered.key, last->second, &id);
  return true;
}

}  // namespace firedrill
