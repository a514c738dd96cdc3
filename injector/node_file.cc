// The node as its own file describes it.
#include "injector/node_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/text.h"
#include "experiment/profile.h"
#include "injector/loads/load.h"
#include "injector/remedies/remedy.h"

namespace firedrill {
namespace {

template <typename Thing>
absl::StatusOr<Thing> Find(const google::protobuf::RepeatedPtrField<Thing>& things,
                           absl::string_view what, const std::string& node,
                           absl::string_view name) {
  std::vector<std::string> known;
  for (const Thing& thing : things) {
    if (absl::string_view(thing.name()) == name) return thing;
    known.push_back(thing.name());
  }
  return absl::NotFoundError(absl::StrCat(
      "node ", node, " has no ", what, " named ", name,
      known.empty() ? "; it has none at all" : absl::StrCat("; it has ", JoinWords(known))));
}

template <typename KindCase>
void AddKinds(const google::protobuf::Descriptor* step, const std::vector<KindCase>& registered,
              std::vector<v1::Capability>& capabilities) {
  const auto* oneof = step->FindOneofByName("kind");
  for (int i = 0; i < oneof->field_count(); ++i) {
    v1::Capability& capability = capabilities.emplace_back();
    capability.set_kind(oneof->field(i)->json_name());
    capability.set_available(std::any_of(registered.begin(), registered.end(), [&](KindCase kind) {
      return static_cast<int>(kind) == oneof->field(i)->number();
    }));
    if (!capability.available()) {
      capability.set_reason("this injector was built without it");
    }
  }
}

}  // namespace

absl::StatusOr<v1::Profile> FileNode::FindProfile(absl::string_view name) const {
  return Find(spec_.profiles(), "profile", spec_.name(), name);
}

absl::StatusOr<v1::HostSubject> FileNode::FindSubject(absl::string_view name) const {
  return Find(spec_.subjects(), "subject", spec_.name(), name);
}

absl::StatusOr<v1::Program> FileNode::FindProgram(absl::string_view name) const {
  return Find(spec_.programs(), "program", spec_.name(), name);
}

absl::StatusOr<v1::ValueFile> FileNode::FindValues(absl::string_view name) const {
  return Find(spec_.values(), "value file", spec_.name(), name);
}

absl::Status CheckOwnership(const std::string& path) {
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) {
    return absl::NotFoundError(absl::StrCat("looking at ", path, ": ", std::strerror(errno)));
  }
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat("reading ", path, ": it is not a regular file"));
  }
  if (info.st_uid != 0 && info.st_uid != geteuid()) {
    return absl::PermissionDeniedError(absl::StrCat(
        "reading ", path, ": it belongs to user ", info.st_uid,
        ", who could have this injector run anything; run chown ", geteuid(), " ", path));
  }
  if ((info.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    return absl::PermissionDeniedError(absl::StrCat(
        "reading ", path,
        ": others may write it, and so have this injector run anything; run chmod go-w ", path));
  }
  return absl::OkStatus();
}

std::vector<v1::Capability> RegisteredCapabilities() {
  std::vector<v1::Capability> capabilities;
  std::vector<v1::Fault::KindCase> faults;
  for (const RegisteredFault& fault : RegisteredFaults()) faults.push_back(fault.kind);
  AddKinds(v1::Fault::descriptor(), faults, capabilities);
  for (v1::Capability& capability : capabilities) {
    const auto* kind = v1::Fault::descriptor()->FindFieldByCamelcaseName(capability.kind());
    const auto lack = LackOf(static_cast<v1::Fault::KindCase>(kind->number()));
    if (!lack.has_value()) continue;
    capability.set_available(false);
    capability.set_reason(lack->reason);
    capability.set_alternative(lack->alternative);
  }
  AddKinds(v1::Remedy::descriptor(), RegisteredRemedies(), capabilities);
  AddKinds(v1::Load::descriptor(), RegisteredLoads(), capabilities);
  return capabilities;
}

v1::Registration DescribeNode(const v1::NodeSpec& spec) {
  v1::Registration registration;
  registration.set_node(spec.name());
  *registration.mutable_labels() = spec.labels();
  registration.set_environment(spec.environment());
  for (const v1::Profile& profile : spec.profiles()) {
    v1::ProfileSummary& summary = *registration.add_profiles();
    summary.set_name(profile.name());
    summary.set_protocol(ProtocolOf(profile));
    for (const v1::Statement& statement : profile.statements()) {
      summary.add_statements(statement.name());
    }
    for (const v1::RemedyStatement& statement : profile.remedy_statements()) {
      v1::RemedyStatement& shown = *summary.add_remedy_statements();
      shown.set_name(statement.name());
      shown.set_leaves(statement.leaves());
      if (statement.has_timeout()) *shown.mutable_timeout() = statement.timeout();
    }
  }
  for (const v1::HostSubject& subject : spec.subjects()) registration.add_subjects(subject.name());
  for (const v1::Program& program : spec.programs()) {
    v1::Program& shown = *registration.add_programs();
    // Arguments may hold what is nobody else's business; the name is all that a plan needs.
    shown.set_name(program.name());
    shown.set_leaves(program.leaves());
    // A time-out of nothing would be one.
    if (program.has_timeout()) *shown.mutable_timeout() = program.timeout();
  }
  for (const v1::ValueFile& values : spec.values()) registration.add_values(values.name());
  *registration.mutable_policy() = spec.policy();
  return registration;
}

}  // namespace firedrill
