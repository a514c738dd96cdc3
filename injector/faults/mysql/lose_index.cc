// lose_index for MariaDB: one index is ignored by the optimizer, as if a migration had dropped it.
#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "injector/by_hand.h"
#include "injector/faults/lost_index.h"
#include "injector/os/mysql_index.h"
#include "injector/os/server_control.h"

namespace firedrill {
namespace {

// How long the table may be asked for, in short attempts.
constexpr absl::Duration kLoseFor = absl::Seconds(5);

// Of EXPLAIN. Its form of JSON is none where a name has a backslash.
enum ExplainColumn { kTable = 2, kAccess = 3, kKey = 5, kRows = 8, kExplained };

IndexState StateOf(const MysqlIndexSight& sight) {
  if (!sight.there) return IndexState::kGone;
  return sight.ignored ? IndexState::kLost : IndexState::kUsable;
}

// What the server says of the text of a statement, and of what it refers to.
bool RefusesStatement(const absl::Status& status) {
  constexpr int kRefusals[] = {
      1054,  // No such column.
      1064,  // Not understood.
      1142,  // Not permitted at the table.
      1143,  // At the column.
      1146,  // No such table.
      1176,  // No such index in the table.
      1243,  // No such prepared statement.
      1356,  // A view of what is not there.
  };
  return std::count(std::begin(kRefusals), std::end(kRefusals), MysqlError(status)) > 0;
}

// With a value of the table's own.
class Plans final : public PlanSession {
 public:
  struct Question {
    std::string statement;
    // Gives the value for its one placeholder; empty where it has none.
    std::string value;
  };

  static absl::StatusOr<std::unique_ptr<Plans>> Open(
      const MysqlAccount& account, absl::string_view profile, absl::string_view run,
      const Question& question, const MysqlIndex& index, const Patience& patience) {
    ASSIGN_OR_RETURN(auto session, OpenMysqlControl(account, profile, run, patience));
    absl::Status prepared = Prepare(*session, question, patience);
    if (!prepared.ok() && !RefusesStatement(prepared)) return prepared;
    return std::unique_ptr<Plans>(
        new Plans(std::move(session), index, !question.value.empty(), std::move(prepared)));
  }

  bool usable() const override { return session_->usable(); }

  absl::StatusOr<IndexPlan> Explain(const Patience& patience) override {
    RETURN_IF_ERROR(prepared_);
    ASSIGN_OR_RETURN(
        const MysqlRows rows,
        session_->Query(absl::StrCat("EXECUTE firedrill", with_value_ ? " USING @firedrill" : ""),
                        patience));
    IndexPlan plan;
    for (const auto& row : rows) {
      if (row.size() < kExplained) {
        return absl::InternalError("the server explains a plan in a form that is not known here");
      }
      // Several, where their finds are merged.
      const std::vector<std::string> keys = absl::StrSplit(row[kKey].value_or(""), ',');
      const bool uses =
          row[kKey] == index_.name || std::count(keys.begin(), keys.end(), index_.name) > 0;
      if (uses) plan.uses_index = true;
      // A table goes by the statement's own name for it.
      if (!uses && row[kTable] != index_.table && !plan.read_by.empty()) continue;
      plan.read_by = row[kAccess].value_or("");
      if (row[kKey].has_value()) absl::StrAppend(&plan.read_by, " using ", JoinWords(keys));
      plan.weight = std::atof(row[kRows].value_or("0").c_str());
    }
    return plan;
  }

  absl::StatusOr<IndexState> Look(const Patience& patience) override {
    ASSIGN_OR_RETURN(const MysqlIndexSight sight, LookAtIndex(*session_, index_, patience));
    return StateOf(sight);
  }

 private:
  Plans(std::unique_ptr<MysqlSession> session, MysqlIndex index, bool with_value,
        absl::Status prepared)
      : session_(std::move(session)),
        index_(std::move(index)),
        with_value_(with_value),
        prepared_(std::move(prepared)) {}

  static absl::Status Prepare(MysqlSession& session, const Question& question,
                              const Patience& patience) {
    if (!question.value.empty()) {
      RETURN_IF_ERROR(
          session.Query(absl::StrCat("SET @firedrill = (", question.value, ")"), patience)
              .status());
    }
    const std::string explain = absl::StrCat("EXPLAIN ", question.statement);
    return session.Query(absl::StrCat("PREPARE firedrill FROM ", MysqlText(explain)), patience)
        .status();
  }

  const std::unique_ptr<MysqlSession> session_;
  const MysqlIndex index_;
  const bool with_value_;
  // Why it is not.
  const absl::Status prepared_;
};

class MysqlIndexServer final : public IndexServer {
 public:
  explicit MysqlIndexServer(const v1::LoseIndex& message) : message_(message) {
    const std::vector<std::string> parts = absl::StrSplit(message_.index(), '.');
    if (parts.size() == 2) {
      index_.table = parts[0];
      index_.name = parts[1];
    }
  }

  const Words& words() const override {
    static constexpr Words kWords = {"mysql_index", "optimizer", "ignored", "used",
                                     "ignored",     "dropped",   "rows"};
    return kWords;
  }
  std::string Name() const override { return index_.Name(); }
  const std::string& identity() const override { return index_.server; }
  const std::string& table() const override { return index_.table; }
  const std::string& statement() const override { return question_.statement; }

  absl::Status Validate(const v1::Profile& profile) const override {
    RETURN_IF_ERROR(MysqlKind::ServerOf(profile).status());
    if (profile.mysql().database().empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("profile ", message_.profile(),
                       " names no database, in which the index would be; add it"));
    }
    if (index_.table.empty() || index_.name.empty()) {
      return absl::InvalidArgumentError(absl::StrCat("index ", message_.index(),
                                                     ": write it with its table, as in "
                                                     "users.users_email_idx"));
    }
    return StatementOf(profile).status();
  }

  absl::Status Open(const v1::Profile& profile, const std::string& run,
                    const Patience& patience) override {
    server_ = profile.mysql();
    index_.database = server_.database();
    ASSIGN_OR_RETURN(account_, FindMysqlAccount(server_, patience));
    ASSIGN_OR_RETURN(auto session, OpenMysqlControl(account_, message_.profile(), run, patience));
    ASSIGN_OR_RETURN(const MysqlFacts facts, AskMysqlFacts(*session, patience));
    index_.server = facts.identity;
    ASSIGN_OR_RETURN(const MysqlRows mode, session->Query("SELECT @@read_only", patience));
    if (*mode[0][0] != "0") {
      return absl::FailedPreconditionError(
          absl::StrCat("profile ", message_.profile(),
                       " leads to a server that is read-only, as replicas are; "
                       "name one of the primary"));
    }
    ASSIGN_OR_RETURN(const MysqlIndexSight sight, LookAtIndex(*session, index_, patience));
    if (!sight.there) return NoSuchIndex(*session, patience);
    ASSIGN_OR_RETURN(const std::string reason, ReasonAgainst(*session, sight, patience));
    if (!reason.empty()) {
      return absl::FailedPreconditionError(
          absl::StrCat("the index ", index_.Name(), " is not taken away: ", reason));
    }
    index_.name = sight.name;
    index_.columns = sight.columns;
    ASSIGN_OR_RETURN(question_.statement, StatementOf(profile));
    question_.value.clear();
    if (question_.statement.empty()) {
      if (sight.method != "BTREE" && sight.method != "HASH") {
        return absl::InvalidArgumentError(absl::StrCat(
            "the index ", index_.Name(), " is a ", sight.method,
            " index, whose use cannot be guessed: name a statement of the profile that uses it"));
      }
      const std::string column = MysqlName(sight.first_column);
      const std::string table =
          absl::StrCat(MysqlName(index_.database), ".", MysqlName(index_.table));
      question_.statement = absl::StrCat("SELECT * FROM ", table, " WHERE ", column, " = ?");
      // The value stays at the server.
      question_.value = absl::StrCat("SELECT ", column, " FROM ", table, " WHERE ", column,
                                     " IS NOT NULL LIMIT 1");
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::unique_ptr<PlanSession>> OpenPlans(const std::string& run,
                                                         const Patience& patience) const override {
    return Plans::Open(account_, message_.profile(), run, question_, index_, patience);
  }

  bool Refuses(const absl::Status& status) const override { return RefusesStatement(status); }

  absl::StatusOr<IndexState> LookByName(const v1::Profile& profile, const std::string& run,
                                        const Patience& patience) const override {
    ASSIGN_OR_RETURN(const MysqlAccount account, FindMysqlAccount(profile.mysql(), patience));
    ASSIGN_OR_RETURN(auto session, OpenMysqlControl(account, message_.profile(), run, patience));
    MysqlIndex index = index_;
    index.database = account.database;
    ASSIGN_OR_RETURN(const MysqlIndexSight sight, LookAtIndex(*session, index, patience));
    return StateOf(sight);
  }

  absl::Status OpenForLoss(const std::string& run, const Patience& patience) override {
    ASSIGN_OR_RETURN(control_, OpenMysqlControl(account_, message_.profile(), run, patience));
    return absl::OkStatus();
  }

  absl::Status Lose(const Patience& patience) override {
    const auto control = std::move(control_);
    const auto change = SetIndexIgnored(*control, index_, true, patience.AtMost(kLoseFor));
    if (change.ok() && *change == IndexChange::kDone) return absl::OkStatus();
    if (change.ok()) {
      return absl::FailedPreconditionError(
          absl::StrCat("the index ", index_.Name(),
                       " was dropped, rebuilt or ignored by somebody else just now"));
    }
    return Annotate(change.status(), absl::StrCat("losing the index ", index_.Name()));
  }

  std::string ByHand() const override {
    return absl::StrCat("mariadb -h ", ShellQuoted(server_.host()), " -P ", account_.port, " -u ",
                        ShellQuoted(account_.user), account_.password.empty() ? "" : " -p", " -D ",
                        ShellQuoted(account_.database), " -e ",
                        ShellQuoted(IndexStatement(index_, false)));
  }
  std::string Access() const override { return MysqlIndexAccess(index_, server_); }

 private:
  // Empty where the definition names none.
  absl::StatusOr<std::string> StatementOf(const v1::Profile& profile) const {
    if (message_.statement().empty()) return std::string();
    return FindPlainStatement(profile, message_.statement());
  }

  // Empty where there is none.
  absl::StatusOr<std::string> ReasonAgainst(MysqlSession& session, const MysqlIndexSight& sight,
                                            const Patience& patience) const {
    if (sight.name == "PRIMARY") return absl::StrCat("it is the primary key of ", index_.table);
    if (sight.unique) {
      return std::string(
          "it is unique: what looks a row up to keep it from being there twice would read the "
          "whole table");
    }
    if (sight.ignored) return std::string("it is ignored even now");
    // The columns of each foreign key, from this table and to it.
    const std::string table = absl::StrCat("_schema = ", MysqlText(index_.database));
    ASSIGN_OR_RETURN(
        const MysqlRows keys,
        session.Query(
            absl::StrCat("SELECT constraint_name, group_concat(column_name ORDER BY"
                         " ordinal_position) FROM information_schema.key_column_usage WHERE table",
                         table, " AND table_name = ", MysqlText(index_.table),
                         " AND referenced_table_name IS NOT NULL GROUP BY constraint_name"
                         " UNION ALL SELECT constraint_name, group_concat(referenced_column_name"
                         " ORDER BY ordinal_position) FROM information_schema.key_column_usage"
                         " WHERE referenced_table",
                         table, " AND referenced_table_name = ", MysqlText(index_.table),
                         " GROUP BY table_schema, table_name, constraint_name"),
            patience));
    for (const auto& key : keys) {
      // Followed by nothing, or by further columns.
      if (absl::StartsWithIgnoreCase(sight.columns + ",", *key[1] + ",")) {
        return absl::StrCat("the foreign key ", *key[0], " rests on it");
      }
    }
    return std::string();
  }

  absl::Status NoSuchIndex(MysqlSession& session, const Patience& patience) const {
    ASSIGN_OR_RETURN(
        const MysqlRows rows,
        session.Query(absl::StrCat("SELECT DISTINCT concat(table_name, '.', index_name),"
                                   " table_name = ",
                                   MysqlText(index_.table),
                                   " FROM information_schema.statistics WHERE table_schema = ",
                                   MysqlText(index_.database),
                                   " AND index_name <> 'PRIMARY' ORDER BY 2 DESC, 1 LIMIT 1000"),
                      patience));
    std::vector<std::string> all, of_table;
    for (const auto& row : rows) {
      all.push_back(*row[0]);
      if (*row[1] == "1") of_table.push_back(*row[0]);
    }
    const std::string where =
        absl::StrCat("there is no index ", index_.Name(), " in the database ", index_.database);
    const std::string nearest = NearestOf(index_.Name(), all);
    if (!nearest.empty()) return absl::NotFoundError(where + "; did you mean " + nearest + "?");
    std::vector<std::string>& known = of_table.empty() ? all : of_table;
    if (known.size() > 5) known.resize(5);
    return absl::NotFoundError(absl::StrCat(
        where, "; ", of_table.empty() ? "it" : absl::StrCat("the table ", index_.table), " has ",
        known.empty() ? "none" : JoinWords(known)));
  }

  const v1::LoseIndex message_;
  MysqlIndex index_;
  v1::MysqlServer server_;
  MysqlAccount account_;
  Plans::Question question_;
  // For the loss only.
  std::unique_ptr<MysqlSession> control_;
};

const FaultRegistration kLoseIndex(v1::Fault::kLoseIndex, v1::PROTOCOL_MYSQL,
                                   [](const v1::Fault& fault) {
                                     return std::make_unique<LostIndex>(
                                         fault.lose_index(),
                                         std::make_unique<MysqlIndexServer>(fault.lose_index()));
                                   });

}  // namespace
}  // namespace firedrill
