// What refers to what within an experiment.
#include <algorithm>
#include <map>

#include "absl/strings/str_cat.h"
#include "base/text.h"
#include "experiment/anchor.h"
#include "experiment/rules.h"
#include "experiment/vocabulary.h"
#include "experiment/walk.h"

namespace firedrill {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

// The names of one list. Where one could not be read, nothing is said to be missing.
struct Names {
  std::vector<std::string> names;
  bool complete = true;

  bool Lacks(const std::string& name) const {
    return complete && std::find(names.begin(), names.end(), name) == names.end();
  }
};

template <typename List>
Names NamesOf(const List& list, const std::string& path, const Reporter& reporter) {
  Names out;
  out.complete = !reporter.HasProblem(path);
  for (const auto& item : list) {
    if (item.name().empty()) {
      out.complete = false;
    } else if (std::find(out.names.begin(), out.names.end(), item.name()) == out.names.end()) {
      out.names.push_back(item.name());
    }
  }
  return out;
}

class References {
 public:
  References(const v1::ExperimentSpec& spec, Reporter* reporter)
      : spec_(spec),
        reporter_(*reporter),
        targets_(NamesOf(spec.targets(), "targets", *reporter)),
        loads_(NamesOf(spec.load(), "load", *reporter)),
        checks_(NamesOf(spec.steady_state(), "steadyState", *reporter)),
        faults_(NamesOf(spec.faults(), "faults", *reporter)),
        remedies_(NamesOf(spec.remedies(), "remedies", *reporter)) {}

  void Check(const FieldDescriptor* field, const Message& owner, const std::string& path,
             const std::string& text) {
    const std::string& kind = RuleOf(field).refers_to();
    if (kind == "target") Find("target", targets_, path, text);
    if (kind == "load") Find("load", loads_, path, text);
    if (kind == "steadyState") Find("steady-state check", checks_, path, text);
    if (kind == "request") CheckRequest(static_cast<const v1::Probe&>(owner), path, text);
    if (kind == "anchor") CheckAnchor(path, text);
  }

  // Anchors are named after faults and remedies alike; expectations share the report.
  void CheckSharedNames() {
    std::map<std::string, std::string> steps, expectations;
    for (int i = 0; i < spec_.faults_size(); ++i) {
      steps.emplace(spec_.faults(i).name(), ItemPath("faults", i));
    }
    for (int i = 0; i < spec_.remedies_size(); ++i) {
      Clash(steps, spec_.remedies(i).name(), ItemPath("remedies", i), "a fault");
    }
    for (int i = 0; i < spec_.expect().impact_size(); ++i) {
      expectations.emplace(spec_.expect().impact(i).name(), ItemPath("expect.impact", i));
    }
    std::map<std::string, std::string> alerts;
    for (int i = 0; i < spec_.expect().alerts_size(); ++i) {
      const std::string& name = spec_.expect().alerts(i).name();
      Clash(expectations, name, ItemPath("expect.alerts", i), "another expectation");
      alerts.emplace(name, ItemPath("expect.alerts", i));
    }
    expectations.insert(alerts.begin(), alerts.end());
    for (int i = 0; i < spec_.expect().recovery_size(); ++i) {
      Clash(expectations, spec_.expect().recovery(i).name(), ItemPath("expect.recovery", i),
            "another expectation");
    }
  }

 private:
  void Find(absl::string_view what, const Names& known, const std::string& path,
            const std::string& name) {
    if (!known.Lacks(name)) return;
    reporter_.AtValue(path, absl::StrCat("no ", what, " is named '", name, "'"),
                      NamesAdvice(name, known.names));
  }

  void CheckRequest(const v1::Probe& probe, const std::string& path, const std::string& name) {
    if (probe.question_case() != v1::Probe::kLoad) {
      reporter_.AtKey(path, "'request' needs 'load' beside it",
                      "a request is one of the shapes that a load sends");
      return;
    }
    for (int i = 0; i < spec_.load_size(); ++i) {
      const v1::LoadStep& load = spec_.load(i);
      if (load.name() != probe.load()) continue;
      const Names requests = NamesOf(load.load().send_requests().requests(),
                                     ItemPath("load", i) + ".sendRequests.requests", reporter_);
      Find(absl::StrCat("request of load '", load.name(), "'"), requests, path, name);
    }
  }

  void CheckAnchor(const std::string& path, const std::string& text) {
    absl::StatusOr<Anchor> anchor = ParseAnchor(text);
    if (!anchor.ok()) {
      reporter_.AtValue(path, std::string(anchor.status().message()), AnchorAdvice(text));
      return;
    }
    const bool is_fault = !faults_.Lacks(anchor->step);
    const bool is_remedy = !remedies_.Lacks(anchor->step);
    if (!is_fault && !is_remedy) {
      reporter_.AtValue(path, absl::StrCat("no fault or remedy is named '", anchor->step, "'"),
                        AnchorAdvice(text));
      return;
    }
    if (is_remedy && !is_fault && anchor->point != AnchorPoint::kDone) {
      reporter_.AtValue(path,
                        absl::StrCat("'", anchor->step, "' is a remedy: it has no .",
                                     AnchorPointText(anchor->point)),
                        absl::StrCat("write ", anchor->step, ".done"));
    }
    if (is_fault && !is_remedy && anchor->point == AnchorPoint::kDone) {
      reporter_.AtValue(path, absl::StrCat("'", anchor->step, "' is a fault: it has no .done"),
                        absl::StrCat("write ", anchor->step, ".start, .reached or .end"));
    }
  }

  std::string AnchorAdvice(const std::string& text) const {
    std::vector<std::string> anchors;
    for (const std::string& fault : faults_.names) {
      for (const char* point : {".start", ".reached", ".end"}) anchors.push_back(fault + point);
    }
    for (const std::string& remedy : remedies_.names) anchors.push_back(remedy + ".done");
    return NamesAdvice(text, anchors);
  }

  void Clash(const std::map<std::string, std::string>& others, const std::string& name,
             const std::string& path, absl::string_view what) {
    auto it = others.find(name);
    if (name.empty() || it == others.end()) return;
    reporter_.AtValue(
        JoinPath(path, "name"), absl::StrCat("the name '", name, "' is taken by ", what),
        absl::StrCat("it stands in line ", reporter_.LineOf(JoinPath(it->second, "name"))));
  }

  const v1::ExperimentSpec& spec_;
  Reporter& reporter_;
  Names targets_, loads_, checks_, faults_, remedies_;
};

}  // namespace

void CheckReferences(const v1::Experiment& experiment, Reporter* reporter) {
  References references(experiment.spec(), reporter);
  ForEachText(experiment, "",
              [&](const FieldDescriptor* field, const Message& owner, const std::string& path,
                  const std::string& text) {
                if (!reporter->HasProblem(path)) references.Check(field, owner, path, text);
              });
  references.CheckSharedNames();
}

}  // namespace firedrill
