// The registry of loads: filled before main() by the other files of this folder.
#include "injector/loads/load.h"

#include <map>
#include <utility>

#include "absl/strings/str_cat.h"

namespace firedrill {
namespace {

std::map<v1::Load::KindCase, LoadStarter>& Starters() {
  static auto* const starters = new std::map<v1::Load::KindCase, LoadStarter>;
  return *starters;
}

}  // namespace

LoadRegistration::LoadRegistration(v1::Load::KindCase kind, LoadStarter starter) {
  Starters().emplace(kind, std::move(starter));
}

absl::StatusOr<std::unique_ptr<LoadRun>> StartLoad(const v1::PlannedLoad& load,
                                                   const v1::Endpoint& endpoint, uint64_t seed,
                                                   const Node& node, LoadSink emit) {
  const auto found = Starters().find(load.load().kind_case());
  if (found == Starters().end()) {
    return absl::UnimplementedError(
        absl::StrCat("this injector does not know the load ", KindName(load.load()),
                     "; it is older than the controller: install the same version on both"));
  }
  return found->second(load, endpoint, seed, node, std::move(emit));
}

std::vector<v1::Load::KindCase> RegisteredLoads() {
  std::vector<v1::Load::KindCase> kinds;
  for (const auto& [kind, starter] : Starters()) kinds.push_back(kind);
  return kinds;
}

std::string KindName(const v1::Load& load) {
  const auto* field = v1::Load::descriptor()->FindFieldByNumber(load.kind_case());
  return field == nullptr ? "" : field->json_name();
}

}  // namespace firedrill
