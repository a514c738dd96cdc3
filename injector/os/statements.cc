// Finds a statement of a profile.
#include "injector/os/statements.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "base/text.h"

namespace firedrill {

absl::StatusOr<std::string> FindStatement(const v1::Profile& profile, absl::string_view name) {
  std::vector<std::string> names;
  for (const v1::Statement& known : profile.statements()) {
    if (known.name() == name) return known.sql();
    names.push_back(known.name());
  }
  return absl::NotFoundError(absl::StrCat("there is no statement ", name, " in profile ",
                                          profile.name(), "; it has ",
                                          names.empty() ? std::string("none") : JoinWords(names)));
}

absl::StatusOr<std::string> FindPlainStatement(const v1::Profile& profile, absl::string_view name) {
  for (const v1::Statement& known : profile.statements()) {
    if (known.name() != name || known.parameters_size() == 0) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("the statement ", name, " of profile ", profile.name(),
                     " has parameters, for which there are no values here; name one without"));
  }
  return FindStatement(profile, name);
}

}  // namespace firedrill
