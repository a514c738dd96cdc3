// The stages that were started.
#include "tests/contract/contract_stage.h"

#include <map>
#include <utility>

namespace firedrill {
namespace {

struct Entry {
  std::function<std::unique_ptr<ContractStage>()> start;
  std::unique_ptr<ContractStage> stage;
};
std::map<v1::Protocol, Entry>& Entries() {
  static auto* const entries = new std::map<v1::Protocol, Entry>;
  return *entries;
}

}  // namespace

StageRegistration::StageRegistration(v1::Protocol protocol,
                                     std::function<std::unique_ptr<ContractStage>()> start) {
  Entries()[protocol].start = std::move(start);
}

ContractStage* StageOf(v1::Protocol protocol) {
  const auto found = Entries().find(protocol);
  if (found == Entries().end()) return nullptr;
  Entry& entry = found->second;
  if (entry.stage == nullptr) entry.stage = entry.start();
  return entry.stage.get();
}

void StrikeStages() {
  for (auto& [protocol, entry] : Entries()) entry.stage.reset();
}

}  // namespace firedrill
