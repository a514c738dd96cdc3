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
#include "injector/fault.h"
#include "injector/os/mysql_index.h"

namespace firedrill {
namespace {

// How long the table may be asked for, in short attempts.
constexpr absl::Duration kLoseFor = absl::Seconds(5);

// Of EXPLAIN. Its form of JSON is none where a name has a backslash.
enum ExplainColumn { kTable = 2, kAccess = 3, kKey = 5, kRows = 8, kExplained };

// What the optimizer does with a statement: a session in which that is prepared, with a value of
// the table's own. Opened before the fault, it stands for the pooled sessions of an application;
// opened anew, for one that has just connected.
class Plans {
 public:
  struct Look {
    bool uses_index = false;
    // How the table is read: "ref".
    std::string access;
    // Rows that it expects to read of it.
    double rows = 0;
  };
  struct Question {
    std::string statement;
    // Gives the value for its one placeholder; empty where it has none.
    std::string value;
  };

  static absl::StatusOr<std::unique_ptr<Plans>> Open(const MysqlAccount& account,
                                                     absl::string_view profile,
                                                     absl::string_view run,
                                                     const Question& question,
                                                     const Patience& patience) {
    ASSIGN_OR_RETURN(auto session, OpenMysqlControl(account, profile, run, patience));
    if (!question.value.empty()) {
      RETURN_IF_ERROR(
          session->Query(absl::StrCat("SET @firedrill = (", question.value, ")"), patience)
              .status());
    }
    const std::string explain = absl::StrCat("EXPLAIN ", question.statement);
    RETURN_IF_ERROR(Annotate(
        session->Query(absl::StrCat("PREPARE firedrill FROM ", MysqlText(explain)), patience)
            .status(),
        absl::StrCat("preparing ", explain)));
    return std::unique_ptr<Plans>(new Plans(std::move(session), !question.value.empty()));
  }

  absl::StatusOr<Look> Explain(const std::string& index, const std::string& table,
                               const Patience& patience) {
    ASSIGN_OR_RETURN(
        const MysqlRows rows,
        session_->Query(absl::StrCat("EXECUTE firedrill", with_value_ ? " USING @firedrill" : ""),
                        patience));
    Look look;
    for (const auto& row : rows) {
      if (row.size() < kExplained) {
        return absl::InternalError("the server explains a plan in a form that is not known here");
      }
      // Several, where their finds are merged.
      const std::vector<std::string> keys = absl::StrSplit(row[kKey].value_or(""), ',');
      const bool uses = row[kKey] == index || std::count(keys.begin(), keys.end(), index) > 0;
      if (uses) look.uses_index = true;
      // A table goes by the statement's own name for it.
      if (!uses && row[kTable] != table && !look.access.empty()) continue;
      look.access = row[kAccess].value_or("");
      look.rows = std::atof(row[kRows].value_or("0").c_str());
    }
    return look;
  }

  MysqlSession& session() { return *session_; }

 private:
  Plans(std::unique_ptr<MysqlSession> session, bool with_value)
      : session_(std::move(session)), with_value_(with_value) {}

  std::unique_ptr<MysqlSession> session_;
  const bool with_value_;
};

class LoseIndex final : public Fault, public Prepares {
 public:
  explicit LoseIndex(const v1::LoseIndex& message) : message_(message) {
    const std::vector<std::string> parts = absl::StrSplit(message_.index(), '.');
    if (parts.size() == 2) {
      index_.table = parts[0];
      index_.name = parts[1];
    }
  }

  absl::Status Validate(const Node& node) const override {
    ASSIGN_OR_RETURN(const v1::Profile profile, node.FindProfile(message_.profile()));
    if (!profile.has_mysql()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "profile ", message_.profile(), " is no MySQL or MariaDB server; name one that is"));
    }
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

  absl::Status Prepare(const Context& context, Node& node) override {
    const Patience patience = PatienceOf(context);
    if (prepared_ == nullptr || !prepared_->session().usable()) {
      RETURN_IF_ERROR(Open(node, context.run, patience));
    }
    return CheckPlan(patience);
  }

  absl::Status Apply(const Context& context, Node& node, Changes& changes) override {
    RETURN_IF_ERROR(Prepare(context, node));
    const Patience patience = PatienceOf(context);
    ASSIGN_OR_RETURN(auto control,
                     OpenMysqlControl(account_, message_.profile(), context.run, patience));
    applied_ = true;
    const Undo undo{"mysql_index", absl::StrCat("index ", index_.Name(), " of ", index_.server),
                    "used",        "ignored",
                    ByHand(),      MysqlIndexAccess(index_, server_)};
    return changes.Make(undo, [&] { return Lose(*control, patience); });
  }

  absl::StatusOr<v1::Observation> Observe(const Context& context, const Node&) const override {
    if (!applied_) return absl::FailedPreconditionError("losing an index: not applied");
    ASSIGN_OR_RETURN(const Sight now, Look(context.run, PatienceOf(context)));
    const int without = (now.pooled.uses_index ? 0 : 1) + (now.fresh.uses_index ? 0 : 1);
    v1::Observation observation;
    observation.set_requested(2);
    observation.set_real(now.index.ignored ? without : 0);
    observation.set_unit("plans without the index");
    observation.set_reached(now.index.ignored && without == 2);
    observation.set_subject(index_.server);
    const absl::string_view state = !now.index.there
                                        ? "is not there any more: somebody has dropped it"
                                    : now.index.ignored ? "is ignored"
                                                        : "is used";
    observation.set_detail(absl::StrCat("the index ", index_.Name(), " ", state, "; ", index_.table,
                                        " was read by ", before_.access, ", now by ",
                                        now.pooled.access, " on a prepared and ", now.fresh.access,
                                        " on a fresh session"));
    auto& figures = *observation.mutable_figures();
    figures["rows_before"] = before_.rows;
    figures["rows_prepared"] = now.pooled.rows;
    figures["rows_fresh"] = now.fresh.rows;
    return observation;
  }

  void Release() override {
    // After Apply() the prepared session is needed to look whether the index is used again.
    if (!applied_) prepared_.reset();
  }

  absl::Status ReadBack(const Context& context, const Node& node) const override {
    const Patience patience = PatienceOf(context);
    if (!applied_) return LookByName(context, node, patience);
    ASSIGN_OR_RETURN(const Sight now, Look(context.run, patience));
    if (now.index.ignored) return StillLost();
    if (now.fresh.uses_index && !now.pooled.uses_index) {
      return absl::FailedPreconditionError(absl::StrCat(
          "the index ", index_.Name(), " is used again, and prepared sessions still read ",
          index_.table, " by ", now.pooled.access));
    }
    prepared_.reset();
    return absl::OkStatus();
  }

 private:
  static Patience PatienceOf(const Context& context) {
    return Patience(context.deadline - context.clock.Boot(), context.stop);
  }

  // Empty where the definition names none.
  absl::StatusOr<std::string> StatementOf(const v1::Profile& profile) const {
    if (message_.statement().empty()) return std::string();
    return FindPlainStatement(profile, message_.statement());
  }

  absl::Status Open(const Node& node, const std::string& run, const Patience& patience) {
    ASSIGN_OR_RETURN(const v1::Profile profile, node.FindProfile(message_.profile()));
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
    ASSIGN_OR_RETURN(prepared_, OpenPlans(run, patience));
    return absl::OkStatus();
  }

  absl::StatusOr<std::unique_ptr<Plans>> OpenPlans(const std::string& run,
                                                   const Patience& patience) const {
    return Plans::Open(account_, message_.profile(), run, question_, patience);
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

  // What the server says of the index, and what it does.
  struct Sight {
    MysqlIndexSight index;
    Plans::Look pooled;
    Plans::Look fresh;
  };
  absl::StatusOr<Sight> Look(const std::string& run, const Patience& patience) const {
    absl::StatusOr<Sight> sight = LookOnce(run, patience);
    // The server was started again: all its sessions are new ones now.
    if (!sight.ok() && prepared_ != nullptr && !prepared_->session().usable()) {
      ASSIGN_OR_RETURN(prepared_, OpenPlans(run, patience));
      sight = LookOnce(run, patience);
    }
    return sight;
  }
  absl::StatusOr<Sight> LookOnce(const std::string& run, const Patience& patience) const {
    Sight sight;
    if (prepared_ == nullptr) {
      ASSIGN_OR_RETURN(prepared_, OpenPlans(run, patience));
    }
    ASSIGN_OR_RETURN(sight.index, LookAtIndex(prepared_->session(), index_, patience));
    ASSIGN_OR_RETURN(sight.pooled, prepared_->Explain(index_.name, index_.table, patience));
    ASSIGN_OR_RETURN(const auto fresh, OpenPlans(run, patience));
    ASSIGN_OR_RETURN(sight.fresh, fresh->Explain(index_.name, index_.table, patience));
    return sight;
  }

  // A statement that does not use the index would not notice its loss.
  absl::Status CheckPlan(const Patience& patience) {
    ASSIGN_OR_RETURN(before_, prepared_->Explain(index_.name, index_.table, patience));
    if (before_.uses_index) return absl::OkStatus();
    return absl::FailedPreconditionError(absl::StrCat(
        "to lose the index ", index_.Name(), " would have no effect: the optimizer reads ",
        index_.table, " by ", before_.access.empty() ? "other means" : before_.access, " for ",
        question_.statement,
        message_.statement().empty() ? "; name a statement of the profile that uses it"
                                     : "; name another statement"));
  }

  absl::Status Lose(MysqlSession& control, const Patience& patience) const {
    const auto change = SetIndexIgnored(control, index_, true, patience.AtMost(kLoseFor));
    if (change.ok() && *change == IndexChange::kDone) return absl::OkStatus();
    if (change.ok()) {
      return absl::FailedPreconditionError(
          absl::StrCat("the index ", index_.Name(),
                       " was dropped, rebuilt or ignored by somebody else just now"));
    }
    return Annotate(change.status(), absl::StrCat("losing the index ", index_.Name()));
  }

  std::string ByHand() const {
    return absl::StrCat("mariadb -h ", ShellQuoted(server_.host()), " -P ", account_.port, " -u ",
                        ShellQuoted(account_.user), account_.password.empty() ? "" : " -p", " -D ",
                        ShellQuoted(account_.database), " -e ",
                        ShellQuoted(IndexStatement(index_, false)));
  }

  absl::Status StillLost() const {
    return absl::FailedPreconditionError(
        absl::StrCat("the index ", index_.Name(), " is still ignored"));
  }

  // By name: of a process that has not applied it.
  absl::Status LookByName(const Context& context, const Node& node,
                          const Patience& patience) const {
    ASSIGN_OR_RETURN(const v1::Profile profile, node.FindProfile(message_.profile()));
    ASSIGN_OR_RETURN(const MysqlAccount account, FindMysqlAccount(profile.mysql(), patience));
    ASSIGN_OR_RETURN(auto session,
                     OpenMysqlControl(account, message_.profile(), context.run, patience));
    MysqlIndex index = index_;
    index.database = account.database;
    ASSIGN_OR_RETURN(const MysqlIndexSight sight, LookAtIndex(*session, index, patience));
    return sight.ignored ? StillLost() : absl::OkStatus();
  }

  const v1::LoseIndex message_;
  MysqlIndex index_;
  v1::MysqlServer server_;
  MysqlAccount account_;
  Plans::Question question_;
  Plans::Look before_;
  // Let go of when the index is seen to be used again.
  mutable std::unique_ptr<Plans> prepared_;
  bool applied_ = false;
};

const FaultRegistration kLoseIndex(v1::Fault::kLoseIndex, v1::PROTOCOL_MYSQL,
                                   [](const v1::Fault& fault) {
                                     return std::make_unique<LoseIndex>(fault.lose_index());
                                   });

}  // namespace
}  // namespace firedrill
