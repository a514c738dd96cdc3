// Undoes the loss of an index of a server of any kind, by a session that is opened before the
// change and kept until then.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "injector/os/index_change.h"
#include "injector/os/patience.h"
#include "injector/undo.h"

namespace firedrill {

// One session for each undo that is to be ready, by its `access`. Any thread.
template <typename Session>
class UndoSessions {
 public:
  // A null pointer where there is none. Whoever takes it keeps it again, or lets go of it.
  std::unique_ptr<Session> Take(const std::string& access) FD_EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    const auto found = kept_.find(access);
    if (found == kept_.end()) return nullptr;
    auto session = std::move(found->second);
    kept_.erase(found);
    return session;
  }
  void Keep(const std::string& access, std::unique_ptr<Session> session) FD_EXCLUDES(mutex_) {
    if (session == nullptr || !session->usable()) return;
    MutexLock lock(mutex_);
    kept_[access] = std::move(session);
  }

 private:
  Mutex mutex_;
  std::map<std::string, std::unique_ptr<Session>> kept_ FD_GUARDED_BY(mutex_);
};

// `Kind` has:
//   Session, Index, Server and kGiveBackFor, a length of time;
//   kAgain, what the index is to be again: "used";
//   absl::Status Read(access, Index*, Server*);
//   absl::StatusOr<std::unique_ptr<Session>> Open(server, patience);
//   absl::Status Ask(session, patience), whether the server still answers;
//   absl::StatusOr<IndexChange> GiveBack(session, index, patience).
template <typename Kind>
class UndoIndex {
 public:
  explicit UndoIndex(const char* kind)
      : registration_(kind, Run, UndoReadiness{OpenEarly, [](const Undo& undo) {
                                                 Kept().Take(undo.access);
                                               }}) {}

 private:
  using Session = typename Kind::Session;
  static constexpr absl::Duration kConnectFor = absl::Seconds(2);

  static UndoSessions<Session>& Kept() {
    static auto* const sessions = new UndoSessions<Session>;
    return *sessions;
  }

  static absl::Status OpenEarly(const Undo& undo, std::stop_token stop) {
    typename Kind::Index index;
    typename Kind::Server server;
    RETURN_IF_ERROR(Kind::Read(undo.access, &index, &server));
    const Patience patience(kConnectFor, std::move(stop));
    std::unique_ptr<Session> session = Kept().Take(undo.access);
    // Also finds the one whose server has been started again since.
    if (session != nullptr && !Kind::Ask(*session, patience).ok()) session.reset();
    if (session == nullptr) {
      ASSIGN_OR_RETURN(session, Kind::Open(server, patience));
    }
    Kept().Keep(undo.access, std::move(session));
    return absl::OkStatus();
  }

  static absl::StatusOr<IndexChange> GiveBack(const Undo& undo) {
    typename Kind::Index index;
    typename Kind::Server server;
    RETURN_IF_ERROR(Kind::Read(undo.access, &index, &server));
    if (auto session = Kept().Take(undo.access); session != nullptr && session->usable()) {
      auto change = Kind::GiveBack(*session, index, Patience(Kind::kGiveBackFor));
      const bool usable = session->usable();
      Kept().Keep(undo.access, std::move(session));
      // A session that has broken says nothing about the index.
      if (change.ok() || usable) return change;
    }
    ASSIGN_OR_RETURN(auto session, Kind::Open(server, Patience(kConnectFor)));
    auto change = Kind::GiveBack(*session, index, Patience(Kind::kGiveBackFor));
    if (!change.ok()) Kept().Keep(undo.access, std::move(session));
    return change;
  }

  static UndoResult Run(const Undo& undo, std::string* why) {
    const absl::StatusOr<IndexChange> change = GiveBack(undo);
    if (!change.ok()) {
      *why = absl::StrCat("it is not known to be ", Kind::kAgain,
                          " again: ", change.status().message());
      return UndoResult::kFailed;
    }
    if (*change == IndexChange::kDone) return UndoResult::kRestored;
    if (*change == IndexChange::kNothingToDo) return UndoResult::kUntouched;
    *why = absl::StrCat(undo.resource,
                        " is not there any more: somebody has dropped or rebuilt it since, so it "
                        "is left alone");
    return UndoResult::kSuperseded;
  }

  const UndoRegistration registration_;
};

}  // namespace firedrill
