// The registry of undo functions: filled before main() by the files undo_<kind>.cc.
#include "injector/undo.h"

#include <map>
#include <utility>

#include "absl/strings/str_cat.h"

namespace firedrill {
namespace {

struct Kind {
  UndoFunction function;
  UndoReadiness readiness;
};

std::map<std::string, Kind>& Kinds() {
  static auto* const kinds = new std::map<std::string, Kind>;
  return *kinds;
}

}  // namespace

UndoRegistration::UndoRegistration(std::string kind, UndoFunction function,
                                   UndoReadiness readiness) {
  Kinds().emplace(std::move(kind), Kind{std::move(function), std::move(readiness)});
}

bool NeedsReadiness(const Undo& undo) {
  const auto found = Kinds().find(undo.kind);
  return found != Kinds().end() && found->second.readiness.make != nullptr;
}

absl::Status MakeReady(const Undo& undo, std::stop_token stop) {
  if (!NeedsReadiness(undo)) return absl::OkStatus();
  return Kinds().at(undo.kind).readiness.make(undo, std::move(stop));
}

void ForgetReadiness(const Undo& undo) {
  if (NeedsReadiness(undo)) Kinds().at(undo.kind).readiness.forget(undo);
}

UndoResult RunUndo(const Undo& undo, std::string* why) {
  const auto found = Kinds().find(undo.kind);
  if (found == Kinds().end()) {
    *why = absl::StrCat("this version of firedrill cannot undo changes of kind \"", undo.kind,
                        "\": use the one that made it, or undo it by hand");
    return UndoResult::kFailed;
  }
  const UndoResult result = found->second.function(undo, why);
  if (result != UndoResult::kFailed) ForgetReadiness(undo);
  return result;
}

}  // namespace firedrill
