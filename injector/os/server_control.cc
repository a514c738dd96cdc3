// What is said of profiles that do not do.
#include "injector/os/server_control.h"

#include "absl/strings/str_cat.h"

namespace firedrill {

absl::StatusOr<v1::PostgresqlServer> PostgresKind::ServerOf(const v1::Profile& profile) {
  if (profile.has_postgresql()) return profile.postgresql();
  return absl::InvalidArgumentError(
      absl::StrCat("profile ", profile.name(), " is no PostgreSQL server; name one that is"));
}

absl::StatusOr<PostgresFacts> PostgresKind::AskFacts(PostgresSession& session,
                                                     const PostgresAccount& account,
                                                     const Patience& patience) {
  ASSIGN_OR_RETURN(PostgresFacts facts, firedrill::AskFacts(session, patience));
  if (facts.identity.empty()) {
    facts.identity = absl::StrCat("postgresql/", account.host, "/", account.port);
  }
  return facts;
}

absl::Status PostgresKind::Refusal(absl::string_view profile, absl::string_view user,
                                   absl::string_view harm) {
  return absl::FailedPreconditionError(
      absl::StrCat("profile ", profile, " is the superuser ", user, ": ", harm,
                   "; use an ordinary role, or say `superuser: true`"));
}

absl::StatusOr<v1::MysqlServer> MysqlKind::ServerOf(const v1::Profile& profile) {
  if (profile.has_mysql()) return profile.mysql();
  return absl::InvalidArgumentError(
      absl::StrCat("profile ", profile.name(), " is no MySQL or MariaDB server; name one that is"));
}

absl::Status MysqlKind::Refusal(absl::string_view profile, absl::string_view user,
                                absl::string_view harm) {
  return absl::FailedPreconditionError(absl::StrCat(
      "profile ", profile, " is the account ", user, " with SUPER or CONNECTION ADMIN: ", harm,
      "; use an ordinary account, or say `superuser: true`"));
}

}  // namespace firedrill
