// Faults, remedies, loads and questions of a definition, each set on its nodes.
#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "base/time_proto.h"
#include "controller/plan_parts.h"

namespace firedrill::planning {
namespace {

// Plans the question that a check asks, and says by which id. Empty for loads, for the answers of
// another check and for pages: nothing of that is asked.
template <typename Check>
std::string PlanProbe(const Check& check, absl::string_view section, v1::Plan& plan) {
  const Kind kind = KindOf(check.probe());
  if (kind.message == nullptr) return "";
  v1::PlannedProbe& probe = *plan.add_probes();
  probe.set_id(absl::StrCat(section, "/", check.name()));
  *probe.mutable_probe() = check.probe();
  *probe.mutable_every() = ToProto(DurationOf(check, "every"));
  *probe.mutable_deadline() = ToProto(DurationOf(check, "deadline"));
  for (const std::string& target : NamesOf(*kind.message, "target")) {
    // One answer is asked for: of several nodes, the first gives it.
    const std::vector<std::string> nodes = NodesOf(plan, target);
    if (!nodes.empty()) probe.set_node(nodes.front());
  }
  return probe.id();
}

template <typename Check>
v1::PlannedCheck PlanCheck(const Check& check, absl::string_view section, v1::Plan& plan) {
  v1::PlannedCheck planned;
  planned.set_name(check.name());
  planned.set_probe(PlanProbe(check, section, plan));
  planned.set_load(check.probe().load());
  planned.set_request(check.probe().request());
  planned.set_unexpected_page(!check.probe().page().empty());
  planned.set_is(check.is());
  *planned.mutable_over() = ToProto(DurationOf(check, "over"));
  return planned;
}

}  // namespace

void PlanSteps(const PlanInput& input, v1::Plan& plan) {
  const v1::ExperimentSpec& spec = input.experiment.spec();
  for (const v1::FaultStep& step : spec.faults()) {
    const Kind kind = KindOf(step.fault());
    for (const std::string& node : NodesOf(plan, step.target())) {
      v1::PlannedFault& fault = *plan.add_faults();
      fault.set_name(step.name());
      fault.set_node(node);
      *fault.mutable_fault() = step.fault();
      *fault.mutable_at() = step.at();
      *fault.mutable_duration() = step.duration();
      *fault.mutable_lease() = ToProto(DurationOf(step, "lease"));
      fault.set_on_controller_loss(step.on_controller_loss() == v1::ON_CONTROLLER_LOSS_UNSPECIFIED
                                       ? v1::ON_CONTROLLER_LOSS_REVERT
                                       : step.on_controller_loss());
      fault.set_ending(RuleOf(kind).ending());
      *fault.mutable_environments() = spec.limits().environments();
      fault.set_seed(SeedFor(input.seed, absl::StrCat(step.name(), "@", node)));
    }
  }
  for (const v1::RemedyStep& step : spec.remedies()) {
    for (const std::string& node : NodesOf(plan, step.target())) {
      v1::PlannedRemedy& remedy = *plan.add_remedies();
      remedy.set_name(step.name());
      remedy.set_node(node);
      *remedy.mutable_remedy() = step.remedy();
      *remedy.mutable_at() = step.at();
      const v1::Registration* registration = FindNode(input, node);
      if (registration == nullptr) continue;
      remedy.set_leaves(LeavesOf(*registration, KindOf(remedy.remedy())));
    }
  }
  for (const v1::LoadStep& step : spec.load()) {
    for (const std::string& node : NodesOf(plan, step.target())) {
      v1::PlannedLoad& load = *plan.add_loads();
      load.set_name(step.name());
      load.set_node(node);
      *load.mutable_load() = step.load();
    }
  }
}

v1::Leaves LeavesOf(const v1::Registration& node, const Kind& remedy) {
  if (remedy.message == nullptr) return v1::LEAVES_UNSPECIFIED;
  if (RuleOf(remedy).lasting()) return v1::LEAVES_CHANGED;
  const auto* said = remedy.message->GetDescriptor()->FindFieldByName("leaves");
  if (said != nullptr && said->cpp_type() == google::protobuf::FieldDescriptor::CPPTYPE_ENUM) {
    return static_cast<v1::Leaves>(
        remedy.message->GetReflection()->GetEnumValue(*remedy.message, said));
  }
  for (const std::string& name : NamesOf(*remedy.message, "program")) {
    for (const v1::Program& program : node.programs()) {
      if (program.name() == name) return program.leaves();
    }
  }
  const v1::RemedyStatement* statement = RemedyStatementOf(node, remedy);
  if (statement != nullptr) return statement->leaves();
  return v1::LEAVES_UNSPECIFIED;
}

const v1::RemedyStatement* RemedyStatementOf(const v1::Registration& node, const Kind& remedy) {
  const std::vector<std::string> profiles = NamesOf(*remedy.message, "profile");
  const std::vector<std::string> names = NamesOf(*remedy.message, "remedyStatement");
  if (profiles.empty() || names.empty()) return nullptr;
  for (const v1::ProfileSummary& profile : node.profiles()) {
    if (profile.name() != profiles.front()) continue;
    for (const v1::RemedyStatement& statement : profile.remedy_statements()) {
      if (statement.name() == names.front()) return &statement;
    }
  }
  return nullptr;
}

void PlanQuestions(const PlanInput& input, v1::Plan& plan) {
  const v1::ExperimentSpec& spec = input.experiment.spec();
  for (const v1::SteadyState& check : spec.steady_state()) {
    v1::PlannedCheck planned = PlanCheck(check, "steadyState", plan);
    *planned.mutable_for_() = ToProto(DurationOf(check, "for"));
    *plan.add_gate() = std::move(planned);
  }
  for (const v1::Guardrail& check : spec.guardrails()) {
    v1::PlannedCheck planned = PlanCheck(check, "guardrails", plan);
    *planned.mutable_for_() = ToProto(DurationOf(check, "breached_for"));
    *plan.add_guardrails() = std::move(planned);
  }
  for (const v1::ImpactExpectation& check : spec.expect().impact()) {
    PlanProbe(check, "impact", plan);
  }
  for (const v1::RecoveryExpectation& check : spec.expect().recovery()) {
    PlanProbe(check, "recovery", plan);
  }
  for (const v1::Endpoint& endpoint : input.site.endpoints()) *plan.add_endpoints() = endpoint;
  for (const std::string& pages : input.site.pages()) plan.add_page_matchers(pages);
  // The first alert may be named again as what another one comes before.
  const auto know = [&plan](const std::string& alert) {
    if (!absl::c_linear_search(plan.known_alerts(), alert)) plan.add_known_alerts(alert);
  };
  for (const v1::AlertExpectation& alert : spec.expect().alerts()) {
    know(alert.alert());
    absl::c_for_each(alert.before(), know);
  }
  absl::c_for_each(spec.expect().may_fire(), know);
}

}  // namespace firedrill::planning
