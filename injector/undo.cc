// The registry of undo functions: filled before main() by the files undo_<kind>.cc.
#include "injector/undo.h"

#include <map>
#include <utility>

#include "absl/strings/str_cat.h"

namespace firedrill {
namespace {

std::map<std::string, UndoFunction>& Functions() {
  static auto* const functions = new std::map<std::string, UndoFunction>;
  return *functions;
}

}  // namespace

UndoRegistration::UndoRegistration(std::string kind, UndoFunction function) {
  Functions().emplace(std::move(kind), std::move(function));
}

UndoResult RunUndo(const Undo& undo, std::string* why) {
  const auto found = Functions().find(undo.kind);
  if (found == Functions().end()) {
    *why = absl::StrCat("this version of firedrill cannot undo changes of kind \"", undo.kind,
                        "\": use the one that made it, or undo it by hand");
    return UndoResult::kFailed;
  }
  return found->second(undo, why);
}

}  // namespace firedrill
