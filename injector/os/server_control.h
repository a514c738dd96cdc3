// The connection by which a fault watches a PostgreSQL or MariaDB server: opened before the fault
// acts, kept until it has been read back, and opened anew where the server has ended it.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "base/status_macros.h"
#include "firedrill/v1/site.pb.h"
#include "injector/os/mysql.h"
#include "injector/os/postgres.h"

namespace firedrill {

// What differs between the two.
struct PostgresKind {
  using Server = v1::PostgresqlServer;
  using Account = PostgresAccount;
  using Session = PostgresSession;
  using Facts = PostgresFacts;
  // An error where the profile leads to another kind of server.
  static absl::StatusOr<Server> ServerOf(const v1::Profile& profile);
  static absl::StatusOr<Account> FindAccount(const Server& server, const Patience& patience) {
    return firedrill::FindAccount(server, patience);
  }
  static constexpr auto OpenControl = firedrill::OpenControl;
  // With an identity in any case.
  static absl::StatusOr<Facts> AskFacts(Session& session, const Account& account,
                                        const Patience& patience);
  static bool Superuser(const Session& session, const Facts&) { return session.superuser(); }
  // The harm of many sessions.
  static constexpr char kTakesTheLastSlot[] =
      "its sessions would also take the slots by which a person gets in to repair";
  static absl::Status Refusal(absl::string_view profile, absl::string_view user,
                              absl::string_view harm);
};

struct MysqlKind {
  using Server = v1::MysqlServer;
  using Account = MysqlAccount;
  using Session = MysqlSession;
  using Facts = MysqlFacts;
  static absl::StatusOr<Server> ServerOf(const v1::Profile& profile);
  static absl::StatusOr<Account> FindAccount(const Server& server, const Patience& patience) {
    return FindMysqlAccount(server, patience);
  }
  static constexpr auto OpenControl = OpenMysqlControl;
  static absl::StatusOr<Facts> AskFacts(Session& session, const Account&,
                                        const Patience& patience) {
    return AskMysqlFacts(session, patience);
  }
  static bool Superuser(const Session&, const Facts& facts) { return facts.superuser; }
  static constexpr char kTakesTheLastSlot[] =
      "its sessions would also take the slot by which a person gets in to repair";
  static absl::Status Refusal(absl::string_view profile, absl::string_view user,
                              absl::string_view harm);
};

struct ControlTerms {
  std::string profile;
  std::string run;
  // Permits an account that may do more than others. Without it one is refused, for the `harm` that
  // it could do: "it may lock what nobody could open again".
  bool superuser = false;
  absl::string_view harm;
};

// One thread at a time.
template <typename Kind>
class ServerControl {
 public:
  // Again: only what is missing. The account is found once.
  absl::Status Open(const typename Kind::Server& server, const ControlTerms& terms,
                    const Patience& patience) {
    if (open()) return absl::OkStatus();
    session_.reset();
    if (account_.host.empty()) {
      ASSIGN_OR_RETURN(account_, Kind::FindAccount(server, patience));
    }
    ASSIGN_OR_RETURN(auto session, Kind::OpenControl(account_, terms.profile, terms.run, patience));
    ASSIGN_OR_RETURN(facts_, Kind::AskFacts(*session, account_, patience));
    superuser_ = Kind::Superuser(*session, facts_);
    if (superuser_ && !terms.superuser) {
      return Kind::Refusal(terms.profile, account_.user, terms.harm);
    }
    session_ = std::move(session);
    return absl::OkStatus();
  }
  void Close() { session_.reset(); }

  bool open() const { return session_ != nullptr && session_->usable(); }
  // The rest after Open() only, and these two also after Close().
  const typename Kind::Account& account() const { return account_; }
  const typename Kind::Facts& facts() const { return facts_; }
  bool superuser() const { return superuser_; }
  typename Kind::Session& operator*() const { return *session_; }
  typename Kind::Session* operator->() const { return session_.get(); }

 private:
  typename Kind::Account account_;
  typename Kind::Facts facts_;
  bool superuser_ = false;
  std::unique_ptr<typename Kind::Session> session_;
};

}  // namespace firedrill
