// The node's own words against one request.
#include "injector/policy.h"

#include <algorithm>
#include <map>
#include <optional>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "experiment/hours.h"
#include "firedrill/v1/options.pb.h"

namespace firedrill {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using Names = google::protobuf::RepeatedPtrField<std::string>;

constexpr char kOtherHours[] = "wait, or change policy.hours in the node's own file";

// The arm that is set of a message with one oneof of kinds.
struct Kind {
  std::string name;
  const Message* message = nullptr;
};

Kind KindOf(const Message& step) {
  const auto* oneof = step.GetDescriptor()->FindOneofByName("kind");
  const FieldDescriptor* arm =
      oneof == nullptr ? nullptr : step.GetReflection()->GetOneofFieldDescriptor(step, oneof);
  if (arm == nullptr) return {};
  return {arm->json_name(), &step.GetReflection()->GetMessage(step, arm)};
}

absl::Status Denied(const v1::NodeSpec& node, absl::string_view what, absl::string_view next) {
  return absl::PermissionDeniedError(
      absl::StrCat("the policy of node ", node.name(), " does not permit ", what, "; ", next));
}

bool Has(const Names& names, absl::string_view name) {
  return std::any_of(names.begin(), names.end(),
                     [name](const std::string& known) { return name == known; });
}

absl::Status CheckKind(const v1::NodeSpec& node, const Kind& kind, const Names& permitted,
                       absl::string_view list) {
  if (kind.message == nullptr) {
    return absl::InvalidArgumentError(
        "nothing is asked for: the controller is newer than this injector");
  }
  if (permitted.empty() || Has(permitted, kind.name)) return absl::OkStatus();
  return Denied(node, kind.name,
                absl::StrCat("add it to policy.", list, " in the node's own file"));
}

double NumberOf(const Message& message, const FieldDescriptor* field) {
  const auto* reflection = message.GetReflection();
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_UINT32:
      return reflection->GetUInt32(message, field);
    case FieldDescriptor::CPPTYPE_INT32:
      return reflection->GetInt32(message, field);
    case FieldDescriptor::CPPTYPE_UINT64:
      return static_cast<double>(reflection->GetUInt64(message, field));
    case FieldDescriptor::CPPTYPE_INT64:
      return static_cast<double>(reflection->GetInt64(message, field));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return reflection->GetDouble(message, field);
    case FieldDescriptor::CPPTYPE_FLOAT:
      return reflection->GetFloat(message, field);
    case FieldDescriptor::CPPTYPE_MESSAGE:
      if (field->message_type() == google::protobuf::Duration::descriptor()) {
        const auto& duration =
            static_cast<const google::protobuf::Duration&>(reflection->GetMessage(message, field));
        return absl::ToDoubleSeconds(FromProto(duration));
      }
      break;
    default:
      break;
  }
  return 0;
}

using Bounds = google::protobuf::Map<std::string, double>;

// A bound on one way of saying the size is a bound on the size: who says it another way must be
// refused, else the bound would hold nobody.
absl::Status CheckBounds(const v1::NodeSpec& node, const Kind& kind, const Bounds& bounds,
                         bool most) {
  const auto* reflection = kind.message->GetReflection();
  const auto bound_of = [&](const FieldDescriptor* field) -> std::optional<double> {
    const auto found = bounds.find(absl::StrCat(kind.name, ".", field->json_name()));
    if (found == bounds.end()) return std::nullopt;
    return found->second;
  };
  for (int i = 0; i < kind.message->GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor* field = kind.message->GetDescriptor()->field(i);
    const std::optional<double> bound = bound_of(field);
    if (!bound.has_value() || field->is_repeated()) continue;
    const std::string key = absl::StrCat(kind.name, ".", field->json_name());
    if (reflection->HasField(*kind.message, field)) {
      const double asked = NumberOf(*kind.message, field);
      // Written so that NaN is refused.
      if (most ? asked <= *bound : asked >= *bound) continue;
      if (most) {
        return Denied(node, absl::StrCat(key, ": ", asked, ", only up to ", *bound),
                      "ask for less, or raise policy.atMost in the node's own file");
      }
      return Denied(node, absl::StrCat(key, ": ", asked, ", only from ", *bound, " on"),
                    "ask for more, or lower policy.atLeast in the node's own file");
    }
    const auto* oneof = field->real_containing_oneof();
    const FieldDescriptor* other =
        oneof == nullptr ? nullptr : reflection->GetOneofFieldDescriptor(*kind.message, oneof);
    if (other != nullptr && bound_of(other).has_value()) continue;
    return Denied(
        node,
        other == nullptr ? absl::StrCat(kind.name, " without ", field->json_name())
                         : absl::StrCat(kind.name, ".", other->json_name(),
                                        ", which has no bound while ", key, " has"),
        absl::StrCat("say ", field->json_name(), most ? ", at most " : ", at least ", *bound,
                     ", or mend policy.", most ? "atMost" : "atLeast", " in the node's own file"));
  }
  return absl::OkStatus();
}

absl::Status CheckMagnitudes(const v1::NodeSpec& node, const Kind& kind) {
  RETURN_IF_ERROR(CheckBounds(node, kind, node.policy().at_most(), /*most=*/true));
  return CheckBounds(node, kind, node.policy().at_least(), /*most=*/false);
}

// The values of fields that refer to `what`.
std::vector<std::string> References(const Message& message, absl::string_view what) {
  std::vector<std::string> names;
  for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor* field = message.GetDescriptor()->field(i);
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_STRING || field->is_repeated()) continue;
    if (absl::string_view(field->options().GetExtension(v1::field).refers_to()) != what) continue;
    std::string name = message.GetReflection()->GetString(message, field);
    if (!name.empty()) names.push_back(std::move(name));
  }
  return names;
}

absl::Status CheckProfiles(const v1::NodeSpec& node, const Message& message, bool for_fault) {
  for (const std::string& name : References(message, "profile")) {
    std::vector<std::string> known;
    for (const v1::Profile& profile : node.profiles()) known.push_back(profile.name());
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      return absl::NotFoundError(absl::StrCat(
          "node ", node.name(), " has no profile ", name,
          known.empty() ? "; it has none at all" : absl::StrCat("; it has ", JoinWords(known))));
    }
    const Names& permitted = node.policy().profiles();
    if (!for_fault || permitted.empty() || Has(permitted, name)) continue;
    return Denied(node, absl::StrCat("faults through the profile ", name),
                  "add it to policy.profiles in the node's own file");
  }
  return absl::OkStatus();
}

absl::Status CheckEndpoints(const v1::NodeSpec& node, const Message& message) {
  for (const std::string& name : References(message, "endpoint")) {
    if (node.endpoints().empty() || Has(node.endpoints(), name)) continue;
    return Denied(node, absl::StrCat("the endpoint ", name),
                  "add it to endpoints in the node's own file");
  }
  return absl::OkStatus();
}

// The names of statements and programs are looked for in the profile beside them, or in the node.
absl::Status CheckStatements(const v1::NodeSpec& node, const Message& message) {
  const std::vector<std::string> profiles = References(message, "profile");
  for (const v1::Profile& profile : node.profiles()) {
    if (profiles.empty() || profile.name() != profiles.front()) continue;
    const auto missing = [&](absl::string_view what, const auto& known) -> absl::Status {
      for (const std::string& name : References(message, what)) {
        if (std::any_of(known.begin(), known.end(),
                        [&](const auto& each) { return each.name() == name; })) {
          continue;
        }
        return Denied(node,
                      absl::StrCat("the statement ", name, " through the profile ", profile.name()),
                      "add it to the profile's statements in the node's own file");
      }
      return absl::OkStatus();
    };
    RETURN_IF_ERROR(missing("statement", profile.statements()));
    RETURN_IF_ERROR(missing("remedyStatement", profile.remedy_statements()));
  }
  return absl::OkStatus();
}

// A plan that was made for elsewhere.
absl::Status CheckEnvironment(const v1::NodeSpec& node, const Names& environments) {
  if (environments.empty() || node.environment().empty() || Has(environments, node.environment())) {
    return absl::OkStatus();
  }
  return absl::PermissionDeniedError(absl::StrCat(
      "node ", node.name(), " is of the environment ", node.environment(),
      ", and the experiment may run in ", JoinWords({environments.begin(), environments.end()}),
      " only; choose another node, or widen limits.environments on purpose"));
}

bool IsTrue(const Message& message, const std::string& name) {
  const FieldDescriptor* field = message.GetDescriptor()->FindFieldByName(name);
  return field != nullptr && field->cpp_type() == FieldDescriptor::CPPTYPE_BOOL &&
         message.GetReflection()->GetBool(message, field);
}

}  // namespace

absl::Duration LongestFault(const v1::Policy& policy) {
  return policy.has_max_duration() ? FromProto(policy.max_duration()) : absl::InfiniteDuration();
}

absl::Status PermitsFault(const v1::NodeSpec& node, const v1::PlannedFault& fault, absl::Time now) {
  const v1::Policy& policy = node.policy();
  const Kind kind = KindOf(fault.fault());
  RETURN_IF_ERROR(CheckKind(node, kind, policy.faults(), "faults"));
  RETURN_IF_ERROR(CheckMagnitudes(node, kind));
  RETURN_IF_ERROR(CheckEnvironment(node, fault.environments()));
  RETURN_IF_ERROR(CheckProfiles(node, *kind.message, /*for_fault=*/true));
  RETURN_IF_ERROR(CheckStatements(node, *kind.message));
  if (FromProto(fault.duration()) > LongestFault(policy)) {
    return Denied(node,
                  absl::StrCat("faults of ", firedrill::FormatDuration(FromProto(fault.duration())),
                               ", only up to ", firedrill::FormatDuration(LongestFault(policy))),
                  "shorten it, or raise policy.maxDuration in the node's own file");
  }
  if (fault.on_controller_loss() == v1::ON_CONTROLLER_LOSS_UNTIL_LEASE && !policy.until_lease()) {
    return Denied(node, "onControllerLoss: untilLease",
                  "leave it out, or set policy.untilLease in the node's own file");
  }
  if (IsTrue(*kind.message, "superuser") && !policy.superuser()) {
    return Denied(
        node, "superuser: true",
        "use a profile that is no superuser, or set policy.superuser in the node's own file");
  }
  if (IsTrue(*kind.message, "writes") && !policy.writes()) {
    return Denied(node, "writes: true",
                  "leave it out, or set policy.writes in the node's own file");
  }
  const absl::Status hours = WithinHours(policy, now);
  if (hours.ok()) return hours;
  return absl::Status(hours.code(), absl::StrCat(hours.message(), "; ", kOtherHours));
}

absl::Status PermitsLoad(const v1::NodeSpec& node, const v1::PlannedLoad& load) {
  const Kind kind = KindOf(load.load());
  RETURN_IF_ERROR(CheckKind(node, kind, node.policy().loads(), "loads"));
  RETURN_IF_ERROR(CheckMagnitudes(node, kind));
  return CheckEndpoints(node, *kind.message);
}

absl::Status PermitsRemedy(const v1::NodeSpec& node, const v1::PlannedRemedy& remedy,
                           v1::Leaves leaves) {
  const Kind kind = KindOf(remedy.remedy());
  RETURN_IF_ERROR(CheckKind(node, kind, node.policy().remedies(), "remedies"));
  RETURN_IF_ERROR(CheckMagnitudes(node, kind));
  RETURN_IF_ERROR(CheckProfiles(node, *kind.message, /*for_fault=*/false));
  RETURN_IF_ERROR(CheckStatements(node, *kind.message));
  RETURN_IF_ERROR(CheckEndpoints(node, *kind.message));
  if (leaves != v1::LEAVES_NOTHING && leaves != v1::LEAVES_RESTORED &&
      !node.policy().lasting_remedies()) {
    return Denied(node, "remedies that leave the system changed",
                  "set policy.lastingRemedies in the node's own file");
  }
  return absl::OkStatus();
}

absl::Status PermitsProbe(const v1::NodeSpec& node, const v1::PlannedProbe& probe) {
  switch (probe.probe().question_case()) {
    case v1::Probe::kSql: {
      const v1::SqlProbe& sql = probe.probe().sql();
      RETURN_IF_ERROR(CheckProfiles(node, sql, /*for_fault=*/false));
      RETURN_IF_ERROR(CheckStatements(node, sql));
      if (sql.what_case() == v1::SqlProbe::kQuery && !node.policy().free_queries()) {
        return Denied(
            node, "a query of its own",
            "name a statement of the profile, or set policy.freeQueries in the node's own file");
      }
      return absl::OkStatus();
    }
    case v1::Probe::kHttp:
      return CheckEndpoints(node, probe.probe().http());
    case v1::Probe::kTcp:
      return CheckEndpoints(node, probe.probe().tcp());
    default:
      return absl::OkStatus();
  }
}

}  // namespace firedrill
