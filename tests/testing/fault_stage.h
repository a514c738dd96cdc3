// What a fault needs around it in a test: a node, the context of a call, and changes that are
// refused.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "injector/fault.h"

namespace firedrill {

class StageNode final : public Node {
 public:
  v1::NodeSpec mutable_spec;

  // A profile of a server on the loopback; an empty password file for none.
  void AddProfile(const std::string& name, const std::string& host, int port,
                  const std::string& user, const std::string& password_file) {
    v1::Profile* profile = mutable_spec.add_profiles();
    profile->set_name(name);
    profile->mutable_postgresql()->set_host(host);
    profile->mutable_postgresql()->set_port(port);
    profile->mutable_postgresql()->set_user(user);
    profile->mutable_postgresql()->set_database("postgres");
    if (!password_file.empty()) {
      profile->mutable_postgresql()->mutable_password()->set_file(password_file);
    }
  }

  const v1::NodeSpec& spec() const override { return mutable_spec; }
  absl::StatusOr<v1::Profile> FindProfile(absl::string_view name) const override {
    return Find(mutable_spec.profiles(), name);
  }
  absl::StatusOr<v1::HostSubject> FindSubject(absl::string_view name) const override {
    return Find(mutable_spec.subjects(), name);
  }
  absl::StatusOr<v1::Program> FindProgram(absl::string_view name) const override {
    return Find(mutable_spec.programs(), name);
  }
  absl::StatusOr<v1::ValueFile> FindValues(absl::string_view name) const override {
    return Find(mutable_spec.values(), name);
  }

 private:
  template <typename List>
  static absl::StatusOr<typename List::value_type> Find(const List& list, absl::string_view name) {
    for (const auto& one : list) {
      if (one.name() == name) return one;
    }
    return absl::NotFoundError(absl::StrCat("there is no ", name));
  }
};

// For faults that change nothing lasting.
class NoChanges final : public Changes {
 public:
  absl::Status Make(const Undo&, absl::FunctionRef<absl::Status()>) override {
    return absl::InternalError("this fault must not change anything lasting");
  }
};

// For faults that do: keeps their undos, and runs them as the journal would.
class StageChanges final : public Changes {
 public:
  absl::Status Make(const Undo& undo, absl::FunctionRef<absl::Status()> change) override {
    undos.push_back(undo);
    return change();
  }
  // Newest first; what each said.
  std::vector<std::pair<UndoResult, std::string>> UndoAll() {
    std::vector<std::pair<UndoResult, std::string>> results;
    for (; !undos.empty(); undos.pop_back()) {
      std::string why;
      const UndoResult result = RunUndo(undos.back(), &why);
      results.emplace_back(result, why);
    }
    return results;
  }

  std::vector<Undo> undos;
};

inline Context StageContext(const std::string& fault, absl::Duration patience = absl::Seconds(5),
                            absl::Duration lasts = absl::Seconds(60)) {
  const absl::Duration now = RealClock().Boot();
  return Context{.clock = RealClock(),
                 .run = "r1a2b3",
                 .fault = fault,
                 .deadline = now + patience,
                 .ends_at = now + lasts};
}

// Asks `done` every 2 ms, for at most `limit`.
template <typename Condition>
bool Within(absl::Duration limit, Condition done) {
  const absl::Duration end = RealClock().Boot() + limit;
  while (!done()) {
    if (RealClock().Boot() > end) return false;
    absl::SleepFor(absl::Milliseconds(2));
  }
  return true;
}

}  // namespace firedrill
