// The registry of faults: filled before main() by the files in faults/.
#include "injector/fault.h"

#include <map>
#include <utility>

#include "absl/strings/str_cat.h"

namespace firedrill {
namespace {

std::map<v1::Fault::KindCase, FaultMaker>& Makers() {
  static auto* const makers = new std::map<v1::Fault::KindCase, FaultMaker>;
  return *makers;
}

}  // namespace

FaultRegistration::FaultRegistration(v1::Fault::KindCase kind, FaultMaker maker) {
  Makers().emplace(kind, std::move(maker));
}

absl::StatusOr<std::unique_ptr<Fault>> MakeFault(const v1::Fault& fault) {
  const auto found = Makers().find(fault.kind_case());
  if (found == Makers().end()) {
    return absl::UnimplementedError(
        absl::StrCat("this injector does not know the fault ", KindName(fault),
                     "; it is older than the controller: install the same version on both"));
  }
  return found->second(fault);
}

std::vector<v1::Fault::KindCase> RegisteredFaults() {
  std::vector<v1::Fault::KindCase> kinds;
  for (const auto& [kind, maker] : Makers()) kinds.push_back(kind);
  return kinds;
}

std::string KindName(const v1::Fault& fault) {
  const auto* field = v1::Fault::descriptor()->FindFieldByNumber(fault.kind_case());
  return field == nullptr ? "" : field->json_name();
}

}  // namespace firedrill
