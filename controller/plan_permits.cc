// What the chosen nodes cannot do or do not permit, and what the site does not have.
#include <algorithm>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "controller/plan_parts.h"
#include "experiment/hours.h"

namespace firedrill::planning {
namespace {

using Names = google::protobuf::RepeatedPtrField<std::string>;

// One step or question on one node.
struct Use {
  const PlanInput& input;
  v1::Plan& plan;
  const v1::Registration& node;
  const std::string& name;
  Kind kind;

  void Refuse(absl::string_view code, std::string message, std::string mend) const {
    AddFinding(plan, v1::Finding::KIND_CIRCUMSTANCE, code, name, absl::StrCat(name, ": ", message),
               std::move(mend));
  }
};

const v1::Capability* FindCapability(const v1::Registration& node, const std::string& kind) {
  for (const v1::Capability& capability : node.capabilities()) {
    if (capability.kind() == kind) return &capability;
  }
  return nullptr;
}

void CheckCapability(const Use& use, bool must_be_listed) {
  const v1::Capability* capability = FindCapability(use.node, use.kind.name);
  if (capability == nullptr) {
    if (!must_be_listed) return;
    return use.Refuse("cannot",
                      absl::StrCat("node ", use.node.node(), " (version ", use.node.version(),
                                   ") does not know ", use.kind.name),
                      "bring its injector to this controller's version");
  }
  if (capability->available()) return;
  use.Refuse(
      "cannot",
      absl::StrCat("node ", use.node.node(), " cannot ", use.kind.name, ": ", capability->reason()),
      capability->alternative().empty() ? "choose another node"
                                        : absl::StrCat("use ", capability->alternative()));
}

void CheckKind(const Use& use, const Names& permitted, absl::string_view list) {
  if (permitted.empty() || absl::c_linear_search(permitted, use.kind.name)) return;
  use.Refuse("policy",
             absl::StrCat("the policy of node ", use.node.node(), " does not permit ",
                          use.kind.name, ", only ", absl::StrJoin(permitted, ", ")),
             absl::StrCat("add it to policy.", list, " in the node's own file"));
}

void CheckMagnitudes(const Use& use) {
  for (const auto& [name, value] : MagnitudesOf(*use.kind.message)) {
    const std::string key = absl::StrCat(use.kind.name, ".", name);
    const v1::Policy& policy = use.node.policy();
    const auto beyond = [&, value = value](const auto& bounds, bool most) {
      const auto bound = bounds.find(key);
      if (bound == bounds.end()) return;
      if (most ? value <= bound->second : value >= bound->second) return;
      use.Refuse("policy",
                 absl::StrCat(key, " is ", value, "; the policy of node ", use.node.node(),
                              " permits at ", most ? "most " : "least ", bound->second),
                 most ? "ask for less, or raise policy.atMost in the node's own file"
                      : "ask for more, or lower policy.atLeast in the node's own file");
    };
    beyond(policy.at_most(), true);
    beyond(policy.at_least(), false);
  }
}

template <typename Things>
void CheckNames(const Use& use, absl::string_view what, const Things& things) {
  std::vector<std::string> known;
  for (const auto& thing : things) {
    if constexpr (std::is_same_v<std::decay_t<decltype(thing)>, std::string>) {
      known.push_back(thing);
    } else {
      known.push_back(thing.name());
    }
  }
  for (const std::string& name : NamesOf(*use.kind.message, what)) {
    if (absl::c_linear_search(known, name)) continue;
    const std::string near = NearestOf(name, known);
    use.Refuse(
        absl::StrCat("no-", what),
        absl::StrCat("node ", use.node.node(), " has no ", what, " named ", name,
                     known.empty() ? std::string() : absl::StrCat("; it has ", JoinWords(known))),
        near.empty() ? absl::StrCat("add it to the node's own file")
                     : absl::StrCat("write ", near, " if that was meant"));
  }
}

bool IsHttp(absl::string_view url) {
  return absl::StartsWithIgnoreCase(url, "http://") || absl::StartsWithIgnoreCase(url, "https://");
}

void CheckEndpoints(const Use& use, const v1::Plan& plan) {
  std::vector<std::string> known;
  for (const v1::Endpoint& endpoint : plan.endpoints()) known.push_back(endpoint.name());
  const bool needs_http = use.kind.message->GetDescriptor() != v1::TcpProbe::descriptor();
  for (const std::string& name : NamesOf(*use.kind.message, "endpoint")) {
    for (const v1::Endpoint& endpoint : plan.endpoints()) {
      if (endpoint.name() != name || !needs_http || IsHttp(endpoint.url())) continue;
      use.Refuse("no-http",
                 absl::StrCat("the endpoint ", name, " is ", endpoint.url(), ", which is no HTTP"),
                 "name an endpoint whose url begins with http:// or https://");
    }
    if (absl::c_linear_search(known, name)) continue;
    use.Refuse("no-endpoint", absl::StrCat("the site has no endpoint named ", name),
               known.empty()
                   ? "add it to the site file"
                   : absl::StrCat("add it to the site file, or name one of ", JoinWords(known)));
  }
}

// The injector would refuse it too, but only when the run has begun.
void CheckProtocols(const Use& use) {
  const google::protobuf::Message& message = *use.kind.message;
  const google::protobuf::FieldDescriptor* field =
      message.GetDescriptor()->FindFieldByName("protocol");
  const int asked = field == nullptr ? v1::PROTOCOL_UNSPECIFIED
                                     : message.GetReflection()->GetEnumValue(message, field);
  const bool looks_into = message.GetDescriptor()->FindFieldByName("match") != nullptr;
  const auto word = [](int protocol) {
    const std::string name = v1::Protocol_Name(static_cast<v1::Protocol>(protocol));
    return absl::AsciiStrToLower(absl::StripPrefix(name, "PROTOCOL_"));
  };
  for (const std::string& name : NamesOf(message, "profile")) {
    for (const v1::ProfileSummary& profile : use.node.profiles()) {
      // An older injector says nothing of other servers than PostgreSQL's.
      if (profile.name() != name || profile.protocol() == v1::PROTOCOL_UNSPECIFIED) continue;
      const std::string is = absl::StrCat("profile ", name, " of node ", use.node.node(), " is a ",
                                          word(profile.protocol()), " server");
      if (asked != v1::PROTOCOL_UNSPECIFIED && profile.protocol() != asked) {
        use.Refuse("protocol", absl::StrCat(is, ", not ", word(asked)),
                   "name another profile, or the profile's own protocol where the fault has it");
      } else if (looks_into && profile.protocol() == v1::PROTOCOL_TCP) {
        use.Refuse("protocol", absl::StrCat(is, ": nobody looks into its requests"),
                   "give the profile the server's own protocol, or use delayBytes, "
                   "stallConnections or the like");
      }
    }
  }
}

void CheckFault(const Use& use, const v1::PlannedFault& fault) {
  const v1::Policy& policy = use.node.policy();
  CheckCapability(use, true);
  CheckKind(use, policy.faults(), "faults");
  CheckMagnitudes(use);
  CheckNames(use, "profile", use.node.profiles());
  CheckNames(use, "subject", use.node.subjects());
  CheckProtocols(use);
  for (const std::string& profile : NamesOf(*use.kind.message, "profile")) {
    if (policy.profiles().empty() || absl::c_linear_search(policy.profiles(), profile)) continue;
    use.Refuse("policy",
               absl::StrCat("the policy of node ", use.node.node(),
                            " does not permit faults through profile ", profile),
               "add it to policy.profiles in the node's own file");
  }
  const absl::Duration most = FromProto(policy.max_duration());
  if (policy.has_max_duration() && FromProto(fault.duration()) > most) {
    use.Refuse("policy",
               absl::StrCat("it lasts ", firedrill::FormatDuration(FromProto(fault.duration())),
                            "; the policy of node ", use.node.node(), " permits at most ",
                            firedrill::FormatDuration(most)),
               "shorten it, or raise policy.maxDuration in the node's own file");
  }
  if (fault.on_controller_loss() == v1::ON_CONTROLLER_LOSS_UNTIL_LEASE && !policy.until_lease()) {
    use.Refuse("policy",
               absl::StrCat("the policy of node ", use.node.node(),
                            " does not permit onControllerLoss: untilLease"),
               "leave it out, or set policy.untilLease in the node's own file");
  }
  if (SaysYes(*use.kind.message, "superuser") && !policy.superuser()) {
    use.Refuse(
        "policy",
        absl::StrCat("the policy of node ", use.node.node(), " does not permit superuser: true"),
        "use a profile that is no superuser, or set policy.superuser in the node's file");
  }
}

void CheckRemedy(const Use& use) {
  const v1::Policy& policy = use.node.policy();
  CheckCapability(use, false);
  CheckKind(use, policy.remedies(), "remedies");
  CheckNames(use, "program", use.node.programs());
  CheckNames(use, "profile", use.node.profiles());
  CheckEndpoints(use, use.plan);
  for (const std::string& name : NamesOf(*use.kind.message, "remedyStatement")) {
    if (RemedyStatementOf(use.node, use.kind) != nullptr) continue;
    use.Refuse("no-statement",
               absl::StrCat("node ", use.node.node(), " has no remedy statement named ", name,
                            " in that profile"),
               "add it to the profile's remedyStatements in the node's own file");
  }
  if (LeavesOf(use.node, use.kind) != v1::LEAVES_CHANGED || policy.lasting_remedies()) return;
  const std::vector<std::string> programs = NamesOf(*use.kind.message, "program");
  const std::string what =
      programs.empty() ? use.kind.name : absl::StrCat("program ", programs.front());
  use.Refuse("policy",
             absl::StrCat(what, " leaves the system changed, which the policy of node ",
                          use.node.node(), " does not permit"),
             "set policy.lastingRemedies in the node's own file");
}

void CheckLoad(const Use& use) {
  CheckCapability(use, false);
  CheckKind(use, use.node.policy().loads(), "loads");
  CheckMagnitudes(use);
  CheckNames(use, "values", use.node.values());
  CheckEndpoints(use, use.plan);
}

void CheckQuestion(const Use& use, const v1::PlannedProbe& probe) {
  CheckCapability(use, false);
  CheckNames(use, "profile", use.node.profiles());
  if (!probe.probe().has_sql()) return;
  const v1::SqlProbe& sql = probe.probe().sql();
  if (!sql.query().empty() && !use.node.policy().free_queries()) {
    use.Refuse(
        "policy",
        absl::StrCat("the policy of node ", use.node.node(), " does not permit a query of its own"),
        "name a statement of the profile, or set policy.freeQueries in the node's file");
  }
  for (const v1::ProfileSummary& profile : use.node.profiles()) {
    if (profile.name() != sql.profile() || sql.statement().empty()) continue;
    if (absl::c_linear_search(profile.statements(), sql.statement())) continue;
    use.Refuse("no-statement",
               absl::StrCat("profile ", profile.name(), " of node ", use.node.node(),
                            " permits no statement named ", sql.statement()),
               "add it to the profile's statements in the node's own file");
  }
}

// Once a node: its faults have one clock in common.
void CheckHours(const PlanInput& input, v1::Plan& plan) {
  for (const v1::Registration& node : input.nodes) {
    std::vector<std::string> outside;
    absl::Status why;
    for (const v1::PlannedFault& fault : plan.faults()) {
      if (fault.node() != node.node()) continue;
      const absl::Status within = WithinHours(node.policy(), *input.now + FromProto(fault.at()));
      if (within.ok()) continue;
      if (outside.empty()) why = within;
      outside.push_back(fault.name());
    }
    if (outside.empty()) continue;
    AddFinding(plan, v1::Finding::KIND_CIRCUMSTANCE, "hours", outside.front(),
               absl::StrCat(JoinWords(outside), ": on node ", node.node(), " ", why.message()),
               absl::IsPermissionDenied(why)
                   ? "wait for those hours, or change policy.hours in the node's own file"
                   : "install tzdata, or mend policy.hours in the node's own file");
  }
}

}  // namespace

void CheckNodes(const PlanInput& input, v1::Plan& plan) {
  const auto on = [&](const std::string& node_name, const std::string& name, const Kind& kind,
                      auto check) {
    const v1::Registration* node = FindNode(input, node_name);
    if (node != nullptr && kind.message != nullptr) check(Use{input, plan, *node, name, kind});
  };
  for (const v1::PlannedFault& fault : plan.faults()) {
    on(fault.node(), fault.name(), KindOf(fault.fault()),
       [&](const Use& use) { CheckFault(use, fault); });
  }
  for (const v1::PlannedRemedy& remedy : plan.remedies()) {
    on(remedy.node(), remedy.name(), KindOf(remedy.remedy()), CheckRemedy);
  }
  for (const v1::PlannedLoad& load : plan.loads()) {
    on(load.node(), load.name(), KindOf(load.load()), CheckLoad);
  }
  static const v1::Registration kController;
  for (const v1::PlannedProbe& probe : plan.probes()) {
    const Kind kind = KindOf(probe.probe());
    CheckEndpoints(Use{input, plan, kController, probe.id(), kind}, plan);
    on(probe.node(), probe.id(), kind, [&](const Use& use) { CheckQuestion(use, probe); });
  }
  if (input.now.has_value()) CheckHours(input, plan);
}

void CheckOverlaps(v1::Plan& plan) {
  // Two of one kind on one subject would each measure the other's work as its own.
  for (int i = 0; i < plan.faults_size(); ++i) {
    for (int j = i + 1; j < plan.faults_size(); ++j) {
      const v1::PlannedFault& a = plan.faults(i);
      const v1::PlannedFault& b = plan.faults(j);
      const Kind kind_a = KindOf(a.fault());
      const Kind kind_b = KindOf(b.fault());
      if (a.node() != b.node() || kind_a.name != kind_b.name || kind_a.message == nullptr) {
        continue;
      }
      const auto same = [&](const char* what) {
        return NamesOf(*kind_a.message, what) == NamesOf(*kind_b.message, what);
      };
      if (!same("profile") || !same("subject")) continue;
      const bool through = !NamesOf(*kind_a.message, "profile").empty();
      const absl::Duration from_a = FromProto(a.at());
      const absl::Duration from_b = FromProto(b.at());
      const bool apart =
          from_a + FromProto(a.duration()) < from_b || from_b + FromProto(b.duration()) < from_a;
      if (apart) continue;
      AddFinding(
          plan, v1::Finding::KIND_CIRCUMSTANCE, "same-subject", b.name(),
          absl::StrCat(a.name(), " and ", b.name(), " are both ", kind_a.name, " on ", a.node(),
                       through ? " through the same profile" : " on the same subject",
                       ", at the same time"),
          "let one begin after the other has ended, or make them one fault; faults of other "
          "kinds may be on meanwhile");
    }
  }
}

}  // namespace firedrill::planning
