// The registry of faults: filled before main() by the files in faults/.
#include "injector/fault.h"

#include <map>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace firedrill {
namespace {

using google::protobuf::FieldDescriptor;

using Key = std::pair<v1::Fault::KindCase, v1::Protocol>;

std::map<Key, FaultMaker>& Makers() {
  static auto* const makers = new std::map<Key, FaultMaker>;
  return *makers;
}

std::map<v1::Fault::KindCase, FaultLack>& Lacks() {
  static auto* const lacks = new std::map<v1::Fault::KindCase, FaultLack>;
  return *lacks;
}

const FieldDescriptor* FieldOf(v1::Fault::KindCase kind) {
  return v1::Fault::descriptor()->FindFieldByNumber(kind);
}

const FieldDescriptor* ProtocolFieldOf(v1::Fault::KindCase kind) {
  const FieldDescriptor* field = FieldOf(kind);
  return field == nullptr ? nullptr : field->message_type()->FindFieldByName("protocol");
}

// As in the registry, where PostgreSQL and no protocol are the same: descriptors are not asked
// before main().
Key KeyOf(v1::Fault::KindCase kind, v1::Protocol protocol) {
  return {kind, protocol == v1::PROTOCOL_POSTGRESQL ? v1::PROTOCOL_UNSPECIFIED : protocol};
}

// "mysql".
std::string WordOf(v1::Protocol protocol) {
  return absl::AsciiStrToLower(absl::StripPrefix(v1::Protocol_Name(protocol), "PROTOCOL_"));
}

}  // namespace

FaultRegistration::FaultRegistration(v1::Fault::KindCase kind, FaultMaker maker, FaultLack lack)
    : FaultRegistration(kind, v1::PROTOCOL_UNSPECIFIED, std::move(maker)) {
  if (lack != nullptr) Lacks().emplace(kind, std::move(lack));
}

FaultRegistration::FaultRegistration(v1::Fault::KindCase kind, v1::Protocol protocol,
                                     FaultMaker maker) {
  Makers().emplace(KeyOf(kind, protocol), std::move(maker));
}

absl::StatusOr<std::unique_ptr<Fault>> MakeFault(const v1::Fault& fault) {
  const v1::Protocol protocol = ProtocolOf(fault);
  const auto found = Makers().find(KeyOf(fault.kind_case(), protocol));
  if (found != Makers().end()) return found->second(fault);
  return absl::UnimplementedError(absl::StrCat(
      "this injector does not know the fault ", KindName(fault),
      protocol == v1::PROTOCOL_UNSPECIFIED ? "" : absl::StrCat(" for ", WordOf(protocol)),
      "; it is older than the controller: install the same version on both"));
}

std::vector<RegisteredFault> RegisteredFaults() {
  std::vector<RegisteredFault> faults;
  for (const auto& [key, maker] : Makers()) {
    const auto& [kind, protocol] = key;
    const bool postgresql =
        protocol == v1::PROTOCOL_UNSPECIFIED && ProtocolFieldOf(kind) != nullptr;
    faults.push_back({kind, postgresql ? v1::PROTOCOL_POSTGRESQL : protocol});
  }
  return faults;
}

std::optional<Lack> LackOf(v1::Fault::KindCase kind) {
  const auto found = Lacks().find(kind);
  return found == Lacks().end() ? std::nullopt : found->second();
}

std::string KindName(const v1::Fault& fault) {
  const FieldDescriptor* field = FieldOf(fault.kind_case());
  return field == nullptr ? "" : field->json_name();
}

v1::Protocol ProtocolOf(const v1::Fault& fault) {
  const FieldDescriptor* field = ProtocolFieldOf(fault.kind_case());
  if (field == nullptr) return v1::PROTOCOL_UNSPECIFIED;
  const auto& body = fault.GetReflection()->GetMessage(fault, FieldOf(fault.kind_case()));
  const int said = body.GetReflection()->GetEnumValue(body, field);
  return said == v1::PROTOCOL_UNSPECIFIED ? v1::PROTOCOL_POSTGRESQL
                                          : static_cast<v1::Protocol>(said);
}

}  // namespace firedrill
