// What a check asks, and whether its `is` fits what the probe measures.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/text.h"
#include "experiment/condition.h"
#include "experiment/rules.h"
#include "experiment/vocabulary.h"

namespace firedrill {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using Scale = MeasuredField::Scale;

const FieldDescriptor* QuestionOf(const v1::Probe& probe) {
  return probe.GetReflection()->GetOneofFieldDescriptor(
      probe, probe.GetDescriptor()->FindOneofByName("question"));
}

class Probes {
 public:
  Probes(const v1::ExperimentSpec& spec, Reporter* reporter) : spec_(spec), reporter_(*reporter) {}

  // Of a guardrail, a steady-state check or an expectation at `path`. `may_omit`: a check by name
  // brings its own condition.
  void Check(const v1::Probe& probe, const std::string& is, const std::string& path,
             bool may_omit) {
    const FieldDescriptor* question = QuestionOf(probe);
    if (question == nullptr || HasConflict(path)) return;
    CheckTiming(probe, path);
    CheckPresence(probe, path, may_omit);
    if (is.empty() || reporter_.HasProblem(path + ".is")) return;
    size_t offset = 0;
    absl::StatusOr<Condition> condition = ParseCondition(is, &offset);
    if (!condition.ok()) {
      reporter_.Inside(path + ".is", is, offset,
                       absl::StrCat("not a condition: ", condition.status().message()),
                       "write \"ok >= 99%, p95 < 250ms\", \"status == 200\" or \"< 0.6\"");
      return;
    }
    const Descriptor* kind = MeasuredKind(probe);
    if (kind == nullptr) return;
    for (const Comparison& comparison : condition->comparisons) {
      CheckComparison(comparison, is, path + ".is", kind, KeyName(question));
    }
  }

 private:
  // Two questions: which of them the rest is meant for cannot be told.
  bool HasConflict(const std::string& path) const {
    const auto* questions = v1::Probe::descriptor()->FindOneofByName("question");
    for (int i = 0; i < questions->field_count(); ++i) {
      if (reporter_.HasProblem(JoinPath(path, KeyName(questions->field(i))))) return true;
    }
    return false;
  }

  // Keys that would have no effect with this question.
  void CheckTiming(const v1::Probe& probe, const std::string& path) {
    const bool by_load = probe.has_load();
    const bool asked = !probe.has_load() && !probe.has_probe() && !probe.has_page();
    if (!by_load && reporter_.IsGiven(path + ".over")) {
      reporter_.AtKey(path + ".over", "'over' has no effect here: only loads have a window",
                      "leave the key out");
    }
    for (const char* key : {"every", "deadline"}) {
      if (asked || !reporter_.IsGiven(absl::StrCat(path, ".", key))) continue;
      reporter_.AtKey(absl::StrCat(path, ".", key),
                      absl::StrCat("'", key, "' has no effect here: nothing is asked anew"),
                      "leave the key out");
    }
  }

  void CheckPresence(const v1::Probe& probe, const std::string& path, bool may_omit) {
    const bool given = reporter_.IsGiven(path + ".is");
    if (probe.has_page()) {
      if (given) reporter_.AtKey(path + ".is", "'page' needs no 'is'", "leave the key out");
    } else if (probe.has_probe() && may_omit) {
      if (!given) return;
      reporter_.AtKey(
          path + ".is",
          absl::StrCat("'is' stands in the steady-state check '", probe.probe(), "' already"),
          "leave the key out, or ask with a probe of its own");
    } else if (!given) {
      const Descriptor* kind = MeasuredKind(probe);
      std::string help;
      if (kind != nullptr) help = "it compares " + FieldsWords(MeasuredFieldsOf(kind));
      // The mapper has reported where the key is required always.
      if (!reporter_.HasProblem(path)) {
        reporter_.AtKey(path, absl::StrCat("'", path, "' needs the key 'is'"), help);
      }
    }
  }

  // What answers a question: the probe's own message, or the load's. Null where that is unknown.
  const Descriptor* MeasuredKind(const v1::Probe& probe, bool follow = true) const {
    if (probe.has_load()) {
      for (const v1::LoadStep& step : spec_.load()) {
        if (step.name() != probe.load()) continue;
        const v1::Load& load = step.load();
        const FieldDescriptor* kind = load.GetReflection()->GetOneofFieldDescriptor(
            load, load.GetDescriptor()->FindOneofByName("kind"));
        return kind == nullptr ? nullptr : kind->message_type();
      }
      return nullptr;
    }
    if (probe.has_probe()) {
      for (const v1::SteadyState& check : spec_.steady_state()) {
        if (follow && check.name() == probe.probe()) return MeasuredKind(check.probe(), false);
      }
      return nullptr;
    }
    const FieldDescriptor* question = QuestionOf(probe);
    if (question == nullptr || question->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) {
      return nullptr;
    }
    return question->message_type();
  }

  static std::string FieldsWords(const std::vector<MeasuredField>& fields) {
    return absl::StrJoin(fields, ", ", [](std::string* out, const MeasuredField& field) {
      absl::StrAppend(out, field.name);
    });
  }

  void CheckComparison(const Comparison& comparison, const std::string& is, const std::string& path,
                       const Descriptor* kind, const std::string& question) {
    const std::vector<MeasuredField> fields = MeasuredFieldsOf(kind);
    const std::string name = comparison.field.empty() ? kValueField : comparison.field;
    auto field = std::find_if(fields.begin(), fields.end(),
                              [&](const MeasuredField& f) { return f.name == name; });
    if (field == fields.end()) {
      std::vector<std::string> names;
      for (const MeasuredField& f : fields) names.push_back(f.name);
      if (comparison.field.empty()) {
        reporter_.Inside(path, is, comparison.offset,
                         absl::StrCat("say which field of '", question, "' is compared"),
                         absl::StrCat("it has ", JoinWords(names)));
      } else {
        reporter_.Inside(path, is, comparison.offset,
                         absl::StrCat("'", question, "' has no field '", name, "'"),
                         NamesAdvice(name, names));
      }
      return;
    }
    CheckUnit(comparison, *field, is, path);
  }

  void CheckUnit(const Comparison& comparison, const MeasuredField& field, const std::string& is,
                 const std::string& path) {
    const size_t at = comparison.value_offset;
    if (field.scale == Scale::kDuration && comparison.unit != Unit::kSeconds) {
      reporter_.Inside(path, is, at, absl::StrCat("'", field.name, "' is compared with a duration"),
                       "write it with a unit: 250ms, 1.5s");
    } else if (field.scale == Scale::kShare && comparison.unit != Unit::kPercent) {
      reporter_.Inside(path, is, at,
                       absl::StrCat("'", field.name, "' is a share and compared in percent"),
                       "write it with %: 99%");
    } else if (field.scale == Scale::kShare && (comparison.value < 0 || comparison.value > 100)) {
      reporter_.Inside(path, is, at, "a share is between 0% and 100%");
    } else if (field.scale == Scale::kPlain && comparison.unit == Unit::kPercent) {
      reporter_.Inside(path, is, at,
                       absl::StrCat("'", field.name, "' is a plain number, not a share"),
                       "write the number as the answer gives it: 0.6 for a ratio");
    } else if (field.scale == Scale::kPlain && comparison.unit == Unit::kSeconds &&
               field.name != kValueField) {
      reporter_.Inside(path, is, at,
                       absl::StrCat("'", field.name, "' is a plain number, not a duration"));
    }
  }

  const v1::ExperimentSpec& spec_;
  Reporter& reporter_;
};

}  // namespace

void CheckProbes(const v1::Experiment& experiment, Reporter* reporter) {
  const v1::ExperimentSpec& spec = experiment.spec();
  Probes probes(spec, reporter);
  for (int i = 0; i < spec.guardrails_size(); ++i) {
    const v1::Guardrail& item = spec.guardrails(i);
    probes.Check(item.probe(), item.is(), ItemPath("guardrails", i), false);
  }
  for (int i = 0; i < spec.steady_state_size(); ++i) {
    const v1::SteadyState& item = spec.steady_state(i);
    probes.Check(item.probe(), item.is(), ItemPath("steadyState", i), false);
  }
  for (int i = 0; i < spec.expect().impact_size(); ++i) {
    const v1::ImpactExpectation& item = spec.expect().impact(i);
    probes.Check(item.probe(), item.is(), ItemPath("expect.impact", i), false);
  }
  for (int i = 0; i < spec.expect().recovery_size(); ++i) {
    const v1::RecoveryExpectation& item = spec.expect().recovery(i);
    probes.Check(item.probe(), item.is(), ItemPath("expect.recovery", i), true);
  }
}

}  // namespace firedrill
