// The node's own words against one request.
#include "injector/policy.h"

#include <algorithm>
#include <map>
#include <optional>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "firedrill/v1/options.pb.h"

namespace firedrill {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using Names = google::protobuf::RepeatedPtrField<std::string>;

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
    return absl::InvalidArgumentError("nothing is asked for: the controller is newer than this injector");
  }
  if (permitted.empty() || Has(permitted, kind.name)) return absl::OkStatus();
  return Denied(node, kind.name, absl::StrCat("add it to policy.", list, " in the node's own file"));
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

// A bound on one way of saying the size is a bound on the size: who says it another way must be refused,
// else the bound would hold nobody.
absl::Status CheckMagnitudes(const v1::NodeSpec& node, const Kind& kind) {
  const auto& bounds = node.policy().at_most();
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
      if (asked <= *bound) continue;
      return Denied(node, absl::StrCat(key, ": ", asked, ", only up to ", *bound),
                    "ask for less, or raise policy.atMost in the node's own file");
    }
    const auto* oneof = field->real_containing_oneof();
    const FieldDescriptor* other =
        oneof == nullptr ? nullptr : reflection->GetOneofFieldDescriptor(*kind.message, oneof);
    if (other != nullptr && bound_of(other).has_value()) continue;
    return Denied(node,
                  other == nullptr
                      ? absl::StrCat(kind.name, " without ", field->json_name())
                      : absl::StrCat(kind.name, ".", other->json_name(), ", which has no bound while ",
                                     key, " has"),
                  absl::StrCat("say ", field->json_name(), ", at most ", *bound,
                               ", or mend policy.atMost in the node's own file"));
  }
  return absl::OkStatus();
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

bool IsTrue(const Message& message, const std::string& name) {
  const FieldDescriptor* field = message.GetDescriptor()->FindFieldByName(name);
  return field != nullptr && field->cpp_type() == FieldDescriptor::CPPTYPE_BOOL &&
         message.GetReflection()->GetBool(message, field);
}

// "HH:MM" as minutes since midnight; -1 where it is none.
int MinuteOf(absl::string_view text) {
  if (text.size() != 5 || text[2] != ':') return -1;
  for (const size_t i : {0, 1, 3, 4}) {
    if (text[i] < '0' || text[i] > '9') return -1;
  }
  const int hours = (text[0] - '0') * 10 + (text[1] - '0');
  const int minutes = (text[3] - '0') * 10 + (text[4] - '0');
  return hours > 24 || minutes > 59 ? -1 : hours * 60 + minutes;
}

// 0 = Sunday.
uint32_t DayOf(absl::CivilDay day) {
  return (static_cast<uint32_t>(absl::GetWeekday(day)) + 1) % 7;
}

bool InWindow(const v1::Hours& hours, absl::CivilMinute now, int from, int to) {
  const auto on = [&](absl::CivilDay day) {
    return hours.days().empty() ||
           std::find(hours.days().begin(), hours.days().end(), DayOf(day)) != hours.days().end();
  };
  const absl::CivilDay today(now);
  const int minute = now.hour() * 60 + now.minute();
  if (from < to) return on(today) && minute >= from && minute < to;
  // Over midnight: the day is the one on which the window opens.
  return (on(today) && minute >= from) || (on(today - 1) && minute < to);
}

}  // namespace

absl::Status WithinHours(const v1::Policy& policy, absl::Time now) {
  if (policy.hours().empty()) return absl::OkStatus();
  std::vector<std::string> windows;
  for (const v1::Hours& hours : policy.hours()) {
    absl::TimeZone zone;
    if (!absl::LoadTimeZone(hours.time_zone(), &zone)) {
      return absl::FailedPreconditionError(absl::StrCat(
          "policy.hours: the time zone ", hours.time_zone(),
          " is not known on this node; install tzdata, or write one like Europe/Berlin"));
    }
    const int from = MinuteOf(hours.from()), to = MinuteOf(hours.to());
    if (from < 0 || to < 0) {
      return absl::FailedPreconditionError(absl::StrCat("policy.hours: ", hours.from(), " to ", hours.to(),
                                                        ": write times like 09:30"));
    }
    if (InWindow(hours, absl::ToCivilMinute(now, zone), from, to)) return absl::OkStatus();
    windows.push_back(absl::StrCat(hours.from(), "-", hours.to(), " ", hours.time_zone()));
  }
  return absl::PermissionDeniedError(absl::StrCat("faults may start only within ", JoinWords(windows),
                                                  "; wait, or change policy.hours in the node's own file"));
}

absl::Duration LongestFault(const v1::Policy& policy) {
  return policy.has_max_duration() ? FromProto(policy.max_duration()) : absl::InfiniteDuration();
}

absl::Status PermitsFault(const v1::NodeSpec& node, const v1::PlannedFault& fault, absl::Time now) {
  const v1::Policy& policy = node.policy();
  const Kind kind = KindOf(fault.fault());
  RETURN_IF_ERROR(CheckKind(node, kind, policy.faults(), "faults"));
  RETURN_IF_ERROR(CheckMagnitudes(node, kind));
  RETURN_IF_ERROR(CheckProfiles(node, *kind.message, /*for_fault=*/true));
  if (FromProto(fault.duration()) > LongestFault(policy)) {
    return Denied(node,
                  absl::StrCat("faults of ", firedrill::FormatDuration(FromProto(fault.duration())), ", only up to ",
                               firedrill::FormatDuration(LongestFault(policy))),
                  "shorten it, or raise policy.maxDuration in the node's own file");
  }
  if (fault.on_controller_loss() == v1::ON_CONTROLLER_LOSS_UNTIL_LEASE && !policy.until_lease()) {
    return Denied(node, "onControllerLoss: untilLease",
                  "leave it out, or set policy.untilLease in the node's own file");
  }
  if (IsTrue(*kind.message, "superuser") && !policy.superuser()) {
    return Denied(node, "superuser: true",
                  "use a profile that is no superuser, or set policy.superuser in the node's own file");
  }
  return WithinHours(policy, now);
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
      if (sql.what_case() == v1::SqlProbe::kQuery && !node.policy().free_queries()) {
        return Denied(node, "a query of its own",
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
