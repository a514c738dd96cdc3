// run_statement: runs a statement that the node's profile names for remedies, once.
#include <algorithm>
#include <iterator>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "injector/os/postgres.h"
#include "injector/remedies/postgres_profile.h"
#include "injector/remedies/remedy.h"

namespace firedrill {
namespace {

constexpr absl::Duration kDefaultTimeout = absl::Seconds(30);
constexpr absl::Duration kDefaultLockTimeout = absl::Seconds(5);
constexpr absl::Duration kConnect = absl::Seconds(5);
// The server's own time-out comes first, so that it is the server that says what became of the
// statement.
constexpr absl::Duration kMargin = absl::Seconds(2);
constexpr char kQueryCanceled[] = "57014";
constexpr char kLockNotAvailable[] = "55P03";

// "3 rows" of "UPDATE 3"; what the server said where there is no number in it.
std::string RowsOf(const std::string& tag) {
  const size_t blank = tag.rfind(' ');
  uint64_t rows = 0;
  if (blank == std::string::npos || !absl::SimpleAtoi(tag.substr(blank + 1), &rows)) return tag;
  return absl::StrCat(tag, ": ", rows, rows == 1 ? " row" : " rows");
}

// Whether the server undoes all of it where it does not come to its end: what runs in one
// transaction and does nothing but change rows and tables. A query may call what nobody can undo.
bool IsUndoneWhole(absl::string_view sql) {
  static constexpr const char* kInOneTransaction[] = {"insert",   "update", "delete", "merge",
                                                      "truncate", "alter",  "create", "drop"};
  const std::string lower = absl::AsciiStrToLower(absl::StripLeadingAsciiWhitespace(sql));
  if (absl::StrContains(lower, "concurrently")) return false;
  return std::any_of(std::begin(kInOneTransaction), std::end(kInOneTransaction),
                     [&](const char* word) { return absl::StartsWith(lower, word); });
}

class RunStatement final : public Remedy {
 public:
  explicit RunStatement(const v1::RunStatement& message) : message_(message) {}

  absl::Status Validate(const Node& node) const override {
    ASSIGN_OR_RETURN(const v1::RemedyStatement statement, Find(node));
    if (statement.leaves() == v1::LEAVES_UNSPECIFIED) {
      return absl::InvalidArgumentError(absl::StrCat("remedy statement ", statement.name(),
                                                     " does not say what it leaves behind"));
    }
    if (absl::StripAsciiWhitespace(statement.sql()).empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("remedy statement ", statement.name(), " is empty"));
    }
    for (const std::string& parameter : statement.parameters()) {
      if (parameter == "run") continue;
      return absl::InvalidArgumentError(absl::StrCat(
          "remedy statement ", statement.name(), " has a parameter other than run: ", parameter));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<v1::Leaves> Leaves(const Node& node) const override {
    ASSIGN_OR_RETURN(const v1::RemedyStatement statement, Find(node));
    return statement.leaves();
  }

  v1::RemedyReport Run(const RemedyContext& context, const Node& node) const override {
    const absl::StatusOr<std::string> done = RunOnce(context, node);
    return ReportOf(done.status(), done.ok() ? *done : "");
  }

 private:
  absl::StatusOr<v1::RemedyStatement> Find(const Node& node) const {
    ASSIGN_OR_RETURN(const v1::Profile profile, FindPostgresProfile(node, message_.profile()));
    std::vector<std::string> names;
    for (const v1::RemedyStatement& statement : profile.remedy_statements()) {
      if (statement.name() == message_.statement()) return statement;
      names.push_back(statement.name());
    }
    return absl::NotFoundError(
        absl::StrCat("profile ", profile.name(), " has no remedy statement ", message_.statement(),
                     names.empty() ? "; it has none" : absl::StrCat("; it has ", JoinWords(names)),
                     ". A remedy runs only what remedyStatements of the node's own file name"));
  }

  absl::StatusOr<std::string> RunOnce(const RemedyContext& context, const Node& node) const {
    ASSIGN_OR_RETURN(const v1::Profile profile, FindPostgresProfile(node, message_.profile()));
    ASSIGN_OR_RETURN(const v1::RemedyStatement statement, Find(node));
    const absl::Duration timeout =
        statement.has_timeout() ? FromProto(statement.timeout()) : kDefaultTimeout;
    const absl::Duration lock_timeout =
        statement.has_lock_timeout() ? FromProto(statement.lock_timeout()) : kDefaultLockTimeout;
    if (context.stop.stop_requested()) return absl::CancelledError("not run: stopped");

    const Patience connect(kConnect, context.stop);
    ASSIGN_OR_RETURN(const PostgresAccount account, FindAccount(profile.postgresql(), connect));
    const std::string what = absl::StrCat("statement ", statement.name(), " at ", account.Name());
    const auto session = PostgresSession::Open(
        account, absl::StrCat("firedrill-remedy:", context.run),
        {{"statement_timeout", absl::StrCat(absl::ToInt64Milliseconds(timeout))},
         {"lock_timeout", absl::StrCat(absl::ToInt64Milliseconds(lock_timeout))},
         // A statement whose asker is gone ends; without this only when it writes to us.
         {"client_connection_check_interval", "250"}},
        connect);
    if (!session.ok()) return Annotate(session.status(), absl::StrCat(what, ": not run"));
    std::vector<std::string> parameters(statement.parameters_size(), context.run);
    const absl::Duration begin = RealClock().Boot();
    const auto rows =
        (*session)->Query(statement.sql(), parameters, Patience(timeout + kMargin, context.stop));
    if (!rows.ok()) {
      return Failed(what, rows.status(), statement.sql(), RealClock().Boot() - begin, timeout,
                    lock_timeout);
    }
    return absl::StrCat(what, ": ", RowsOf((*session)->tag()), " in ",
                        firedrill::FormatDuration(RealClock().Boot() - begin));
  }

  static absl::Status Failed(const std::string& what, const absl::Status& why,
                             const std::string& sql, absl::Duration took, absl::Duration timeout,
                             absl::Duration lock_timeout) {
    const std::string state = SqlState(why);
    const std::string undone = IsUndoneWhole(sql)
                                   ? "; the server undid it: "
                                   : "; what it had done by then may stand, look at the server: ";
    std::string next;
    if (state == kQueryCanceled) {
      // The words of the server may be in any language; its time-out never comes early.
      next = took < timeout
                 ? absl::StrCat(undone, "somebody cancelled it")
                 : absl::StrCat(undone, "its timeout is ", firedrill::FormatDuration(timeout));
    } else if (state == kLockNotAvailable) {
      next = took < lock_timeout
                 ? absl::StrCat(undone, "somebody has a lock that it does not wait for")
                 : absl::StrCat(undone, "its lockTimeout is ",
                                firedrill::FormatDuration(lock_timeout));
    } else if (absl::IsCancelled(why)) {
      next =
          IsUndoneWhole(sql)
              ? "; the run was stopped: the server ends and undoes it, unless it was done already"
              : "; the run was stopped: the server ends it, and what it had done by then may "
                "stand: look at the server";
    } else if (state.empty() && !absl::IsInvalidArgument(why)) {
      next = "; whether it was done is not known: look at the server";
    }
    return absl::Status(why.code(), absl::StrCat(what, ": ", why.message(), next));
  }

  const v1::RunStatement message_;
};

const RemedyRegistration kRunStatement(v1::Remedy::kRunStatement, [](const v1::Remedy& remedy) {
  return std::make_unique<RunStatement>(remedy.run_statement());
});

}  // namespace
}  // namespace firedrill
