// Targets, faults and loads: each by itself, and against the blast radius.
#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "experiment/rules.h"
#include "experiment/vocabulary.h"
#include "re2/re2.h"

namespace firedrill {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

class Steps {
 public:
  Steps(const v1::ExperimentSpec& spec, Reporter* reporter) : spec_(spec), reporter_(*reporter) {}

  void CheckTargets() {
    for (int i = 0; i < spec_.targets_size(); ++i) {
      const auto& conditions = spec_.targets(i).selector().match_expressions();
      for (int j = 0; j < conditions.size(); ++j) {
        CheckLabelCondition(conditions[j],
                            ItemPath(ItemPath("targets", i) + ".selector.matchExpressions", j));
      }
    }
  }

  void CheckEnvironments() {
    std::set<std::string> seen;
    for (int i = 0; i < spec_.limits().environments_size(); ++i) {
      const std::string& name = spec_.limits().environments(i);
      if (!name.empty() && !seen.insert(name).second) {
        reporter_.AtValue(ItemPath("limits.environments", i),
                          absl::StrCat("the environment '", name, "' stands here twice"));
      }
    }
  }

  void CheckFaults() {
    // The blast radius counts from the start of the first fault.
    absl::Duration first = absl::InfiniteDuration();
    for (const v1::FaultStep& step : spec_.faults()) first = std::min(first, FromProto(step.at()));
    for (int i = 0; i < spec_.faults_size(); ++i) {
      const v1::FaultStep& step = spec_.faults(i);
      const FieldDescriptor* kind = KindOfFault(step.fault());
      if (kind == nullptr) continue;
      const std::string path = ItemPath("faults", i);
      CheckDuration(kind, path);
      CheckAgainstLimit(step, first, path);
      CheckWithinDuration(step, kind, path);
      CheckFault(step.fault(), path, &reporter_);
    }
  }

  void CheckRemedies() {
    for (int i = 0; i < spec_.remedies_size(); ++i) {
      const v1::Remedy& remedy = spec_.remedies(i).remedy();
      if (remedy.has_call_url()) {
        CheckCall(remedy.call_url(), ItemPath("remedies", i) + ".callUrl");
      }
      if (remedy.has_promote_replica()) {
        const std::string path = ItemPath("remedies", i) + ".promoteReplica";
        CheckPromotion(remedy.promote_replica(), path);
        CheckFencedFaults(spec_.remedies(i), path);
      }
    }
  }

  void CheckLoads() {
    for (int i = 0; i < spec_.load_size(); ++i) {
      const v1::Load& load = spec_.load(i).load();
      if (load.has_send_requests()) {
        CheckTemplates(load.send_requests(), ItemPath("load", i) + ".sendRequests");
      }
    }
  }

 private:
  void CheckLabelCondition(const v1::LabelCondition& condition, const std::string& path) {
    using Condition = v1::LabelCondition;
    const bool of_values = condition.operator_() == Condition::OPERATOR_IN ||
                           condition.operator_() == Condition::OPERATOR_NOT_IN;
    if (of_values && condition.values().empty() && !reporter_.HasProblem(path + ".values")) {
      reporter_.AtKey(path + ".operator", "'values' is needed to compare with",
                      "to ask for the label alone, use exists or doesNotExist");
    }
    const bool of_presence = condition.operator_() == Condition::OPERATOR_EXISTS ||
                             condition.operator_() == Condition::OPERATOR_DOES_NOT_EXIST;
    if (of_presence && !condition.values().empty()) {
      reporter_.AtKey(path + ".values", "'exists' and 'doesNotExist' take no 'values'",
                      "to compare with values, use in or notIn");
    }
  }

  void CheckDuration(const FieldDescriptor* kind, const std::string& path) {
    const bool one_shot = KindOf(kind->message_type()).ending() == v1::ENDING_ONE_SHOT;
    if (one_shot && reporter_.IsGiven(path + ".duration")) {
      reporter_.AtKey(path + ".duration",
                      absl::StrCat("'", KeyName(kind), "' happens once and has no duration"),
                      "leave the key out");
    } else if (!one_shot && !reporter_.IsGiven(path + ".duration")) {
      reporter_.AtKey(path, absl::StrCat("'", path, "' needs the key 'duration'"),
                      absl::StrCat("'", KeyName(kind), "' lasts until it is undone: say how long"));
    }
  }

  void CheckAgainstLimit(const v1::FaultStep& step, absl::Duration first, const std::string& path) {
    if (!spec_.limits().has_max_duration()) return;
    const absl::Duration limit = FromProto(spec_.limits().max_duration());
    const absl::Duration end = FromProto(step.at()) - first + FromProto(step.duration());
    if (end <= limit) return;
    const std::string key = reporter_.IsGiven(path + ".duration") ? ".duration" : ".at";
    reporter_.AtValue(path + key,
                      absl::StrCat("'", path, "' ends ", firedrill::FormatDuration(end),
                                   " after the first fault's start; limits.maxDuration is ",
                                   firedrill::FormatDuration(limit)),
                      "shorten the fault, or raise the limit");
  }

  void CheckWithinDuration(const v1::FaultStep& step, const FieldDescriptor* kind,
                           const std::string& path) {
    if (!step.has_duration()) return;
    const Message& fault = step.fault().GetReflection()->GetMessage(step.fault(), kind);
    for (int i = 0; i < kind->message_type()->field_count(); ++i) {
      const FieldDescriptor* field = kind->message_type()->field(i);
      if (!RuleOf(field).within_duration() || !fault.GetReflection()->HasField(fault, field)) {
        continue;
      }
      const absl::Duration length = FromProto(static_cast<const google::protobuf::Duration&>(
          fault.GetReflection()->GetMessage(fault, field)));
      if (length <= FromProto(step.duration())) continue;
      reporter_.AtValue(
          absl::StrCat(path, ".", KeyName(kind), ".", KeyName(field)),
          absl::StrCat("'", KeyName(field), "' is ", firedrill::FormatDuration(length),
                       ", longer than the fault's duration of ",
                       firedrill::FormatDuration(FromProto(step.duration()))));
    }
  }

  void CheckCall(const v1::CallUrl& call, const std::string& path) {
    if (call.leaves() == v1::LEAVES_RESTORED) {
      reporter_.AtValue(path + ".leaves", "what a call did cannot be restored",
                        "write changed, or nothing where the system is as it would be without it");
    }
    // "200-299": both of three digits, so that their order is that of the texts.
    const std::string& status = call.status();
    if (reporter_.HasProblem(path + ".status") || status.size() != 7) return;
    if (status.substr(0, 3) <= status.substr(4)) return;
    reporter_.AtValue(path + ".status",
                      absl::StrCat("the range '", status, "' ends before it begins"),
                      absl::StrCat("write ", status.substr(4), "-", status.substr(0, 3)));
  }

  void CheckPromotion(const v1::PromoteReplica& promotion, const std::string& path) {
    if (!promotion.replica().empty() && promotion.replica() == promotion.old_primary()) {
      reporter_.AtValue(path + ".oldPrimary", "the old primary is the replica itself",
                        "name the profile of the server that is to be given up");
    }
    if (promotion.has_refuse_sessions() && !promotion.refuse_sessions()) {
      reporter_.AtValue(path + ".refuseSessions", "'refuseSessions: false' is no fence",
                        "write true, or name a fenceProgram");
    }
    if (!promotion.has_refuse_sessions() && promotion.fence_program().empty() &&
        !promotion.dead_is_fenced() && reporter_.IsGiven(path + ".deadIsFenced")) {
      reporter_.AtValue(path + ".deadIsFenced", "nothing here fences the old primary",
                        "add a fenceProgram, or refuseSessions: true");
    }
  }

  // What is proven to have ended by a session of its own cannot be proven where all are refused.
  void CheckFencedFaults(const v1::RemedyStep& step, const std::string& path) {
    const v1::PromoteReplica& promotion = step.remedy().promote_replica();
    if (!promotion.refuse_sessions()) return;
    for (const v1::FaultStep& fault : spec_.faults()) {
      if (fault.target() != step.target() || !NeedsSessionAfter(fault, FromProto(step.at()))) {
        continue;
      }
      if (ProfileOf(fault.fault()) != promotion.old_primary()) continue;
      reporter_.AtValue(path + ".refuseSessions", FencedFault(fault.name()), kFencedFaultHelp);
      return;
    }
  }

  void CheckTemplates(const v1::SendRequests& load, const std::string& path) {
    std::set<std::string> used;
    for (int i = 0; i < load.requests_size(); ++i) {
      const std::string request = ItemPath(path + ".requests", i);
      CheckTemplate(load, load.requests(i).path(), request + ".path", true, &used);
      CheckTemplate(load, load.requests(i).body(), request + ".body", false, &used);
    }
    for (const auto& [name, file] : load.values()) {
      const std::string value_path = path + ".values." + name;
      if (used.count(name) > 0 || reporter_.HasProblem(value_path)) continue;
      reporter_.AtKey(value_path, absl::StrCat("no request uses '{", name, "}'"),
                      "write it into a path or a body, or leave the key out");
    }
  }

  // In a body braces may be anything (JSON); in a path each must be a placeholder.
  void CheckTemplate(const v1::SendRequests& load, const std::string& text, const std::string& path,
                     bool strict, std::set<std::string>* used) {
    static const RE2* const placeholder = new RE2(R"(\{([A-Za-z][A-Za-z0-9_-]*)\})");
    for (size_t at = text.find_first_of("{}"); at != std::string::npos;
         at = text.find_first_of("{}", at)) {
      re2::StringPiece rest(text.data() + at, text.size() - at);
      std::string name;
      const size_t before = rest.size();
      if (!RE2::Consume(&rest, *placeholder, &name)) {
        if (strict) {
          reporter_.Inside(path, text, at, "a brace that is no placeholder",
                           "write {name} for a value, %7B and %7D for braces");
          return;
        }
        ++at;
        continue;
      }
      used->insert(name);
      if (load.values().count(name) == 0) {
        std::vector<std::string> known;
        for (const auto& [key, file] : load.values()) known.push_back(key);
        std::sort(known.begin(), known.end());
        reporter_.Inside(path, text, at, absl::StrCat("'values' has no '", name, "'"),
                         known.empty()
                             ? absl::StrCat("add it: values: {", name, ": <a value file>}")
                             : NamesAdvice(name, known));
      }
      at += before - rest.size();
    }
  }

  const v1::ExperimentSpec& spec_;
  Reporter& reporter_;
};

}  // namespace

std::string ProfileOf(const v1::Fault& fault) {
  const FieldDescriptor* kind = KindOfFault(fault);
  const FieldDescriptor* profile =
      kind == nullptr ? nullptr : kind->message_type()->FindFieldByName("profile");
  if (profile == nullptr) return "";
  const Message& message = fault.GetReflection()->GetMessage(fault, kind);
  return message.GetReflection()->GetString(message, profile);
}

bool NeedsSessionAfter(const v1::FaultStep& fault, absl::Duration at) {
  const FieldDescriptor* kind = KindOfFault(fault.fault());
  // What sits between a server and its clients does not log in.
  if (kind == nullptr || kind->message_type()->FindFieldByName("listen") != nullptr) return false;
  return FromProto(fault.at()) + FromProto(fault.duration()) >= at;
}

std::string FencedFault(const std::string& fault) {
  return absl::StrCat("when all sessions are refused nobody can see, or make, the end of fault '",
                      fault, "', which is at the old primary at that time");
}

void CheckSteps(const v1::Experiment& experiment, Reporter* reporter) {
  Steps steps(experiment.spec(), reporter);
  steps.CheckTargets();
  steps.CheckEnvironments();
  steps.CheckFaults();
  steps.CheckRemedies();
  steps.CheckLoads();
}

}  // namespace firedrill
