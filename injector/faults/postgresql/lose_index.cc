// lose_index: one index is not used any more, as if a migration had dropped it.
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "injector/by_hand.h"
#include "injector/faults/lost_index.h"
#include "injector/os/postgres_index.h"
#include "injector/os/server_control.h"

namespace firedrill {
namespace {

using Json = nlohmann::json;

// Somebody else holds the index's row: a rebuild, a migration.
constexpr char kLockNotAvailable[] = "55P03";
constexpr absl::Duration kTryAgain = absl::Milliseconds(200);
// Parameters of a statement whose plan is looked at.
constexpr int kMostParameters = 32;

constexpr char kLookUp[] =
    "SELECT c.oid, format('%I.%I', tn.nspname, t.relname), t.relname, am.amname,"
    " (SELECT format('ALTER COLUMN %I SET STATISTICS %s', attname, coalesce(attstattarget, -1))"
    "  FROM pg_attribute WHERE attrelid = t.oid AND attnum > 0 AND NOT attisdropped"
    "  ORDER BY attnum LIMIT 1),"
    " (SELECT system_identifier FROM pg_control_system()), pg_is_in_recovery(),"
    // The first that is true is the reason.
    " CASE WHEN n.nspname IN ('pg_catalog', 'information_schema', 'pg_toast') OR c.oid < 16384"
    "  THEN 'it belongs to the system catalogs, on which everything hangs'"
    " WHEN i.indisprimary THEN 'it is the primary key of ' || t.relname || ': without it the same"
    " row could be there twice'"
    " WHEN i.indisexclusion THEN 'it keeps an exclusion constraint'"
    " WHEN i.indisunique THEN 'it is unique: without it the same value could be there twice, and"
    " INSERT ... ON CONFLICT would fail'"
    " WHEN i.indisreplident THEN 'it is the replica identity of ' || t.relname || ': subscribers"
    " would stop'"
    " WHEN EXISTS (SELECT FROM pg_constraint WHERE conindid = c.oid) THEN 'a constraint rests on "
    "it'"
    " WHEN c.relkind = 'I' THEN 'it is the parent of the indexes of partitions; name one of those: "
    "'"
    "  || coalesce((SELECT string_agg(inhrelid::regclass::text, ', ') FROM (SELECT inhrelid FROM"
    "  pg_inherits WHERE inhparent = c.oid ORDER BY inhrelid LIMIT 5) p), 'there is none')"
    " WHEN c.relpersistence = 't' THEN 'it is of a temporary table of another session'"
    " WHEN NOT (i.indisvalid AND i.indisready AND i.indislive)"
    "  THEN 'it is not valid even now: its build has failed or is under way'"
    " WHEN i.indcheckxmin THEN 'after a change the server would not use it before all older"
    " transactions have ended; REINDEX it first'"
    " END, i.indisvalid, t.oid"
    " FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
    " JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_am am ON am.oid = c.relam"
    " JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace tn ON tn.oid = t.relnamespace"
    " WHERE n.nspname = $1 AND c.relname = $2";
enum Column {
  kOid,
  kTable,
  kTableName,
  kMethod,
  kSameStatistics,
  kSystem,
  kStandby,
  kReason,
  kUsable,
  kTableOid
};

// Indexes, those of a table of this name first.
constexpr char kOthers[] =
    "SELECT n.nspname || '.' || c.relname, t.relname = $1 FROM pg_index i"
    " JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
    " JOIN pg_class t ON t.oid = i.indrelid"
    " WHERE n.nspname NOT IN ('pg_catalog', 'pg_toast', 'information_schema')"
    " ORDER BY t.relname <> $1, 1 LIMIT 1000";

// What reads by an index, as its table and its columns are called now.
constexpr char kSearch[] =
    "SELECT format('SELECT * FROM %I.%I WHERE (%s) = $1', n.nspname, t.relname,"
    "  pg_get_indexdef(i.indexrelid, 1, true))"
    "  || coalesce(' AND ' || pg_get_expr(i.indpred, i.indrelid), '')"
    " FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid"
    " JOIN pg_namespace n ON n.oid = t.relnamespace WHERE i.indexrelid = $1::oid";
// As they are, whatever has become of their names.
constexpr char kNamesNow[] =
    "SELECT c.relname, t.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
    " JOIN pg_class t ON t.oid = i.indrelid WHERE i.indexrelid = $1::oid";
constexpr char kIsUsable[] = "SELECT indisvalid FROM pg_index WHERE indexrelid = $1::oid";

// What the server says of the text of a statement, and of what it refers to: features that it does
// not have, statements that it does not know, names that it does not find.
bool RefusesStatement(const absl::Status& status) {
  const std::string state = SqlState(status);
  return state == "0A000" || state == "26000" || absl::StartsWith(state, "42");
}

// With a plan for every value.
class Plans final : public PlanSession {
 public:
  // An empty `statement`: the search of kSearch.
  static absl::StatusOr<std::unique_ptr<Plans>> Open(const PostgresAccount& account,
                                                     absl::string_view profile,
                                                     absl::string_view run, std::string statement,
                                                     const PostgresIndex& index,
                                                     const Patience& patience) {
    ASSIGN_OR_RETURN(auto session, OpenControl(account, profile, run, patience));
    RETURN_IF_ERROR(
        session->Query("SET plan_cache_mode = force_generic_plan", {}, patience).status());
    auto plans = std::unique_ptr<Plans>(new Plans(std::move(session), index));
    plans->prepared_ = plans->Prepare(std::move(statement), patience);
    const absl::Status& prepared = plans->prepared_;
    if (prepared.ok() || absl::IsNotFound(prepared) || RefusesStatement(prepared)) return plans;
    return prepared;
  }

  bool usable() const override { return session_->usable(); }

  absl::StatusOr<IndexPlan> Explain(const Patience& patience) override {
    RETURN_IF_ERROR(prepared_);
    ASSIGN_OR_RETURN(const PostgresRows rows, session_->Query(explain_, {}, patience));
    const Json json = Json::parse(rows[0][0].value_or(""), nullptr, /*allow_exceptions=*/false);
    if (!json.is_array() || json.empty() || !json[0].contains("Plan")) {
      return absl::InternalError("the server explains a plan in a form that is not known here");
    }
    ASSIGN_OR_RETURN(const PostgresRows names, session_->Query(kNamesNow, {index_.oid}, patience));
    IndexPlan plan;
    plan.weight = json[0]["Plan"].value("Total Cost", 0.0);
    if (!names.empty()) Walk(json[0]["Plan"], *names[0][0], *names[0][1], plan);
    return plan;
  }

  absl::StatusOr<IndexState> Look(const Patience& patience) override {
    ASSIGN_OR_RETURN(const PostgresRows rows, session_->Query(kIsUsable, {index_.oid}, patience));
    if (rows.empty()) return IndexState::kGone;
    return *rows[0][0] == "t" ? IndexState::kUsable : IndexState::kLost;
  }

 private:
  Plans(std::unique_ptr<PostgresSession> session, PostgresIndex index)
      : session_(std::move(session)), index_(std::move(index)) {}

  absl::Status Prepare(std::string statement, const Patience& patience) {
    if (statement.empty()) {
      ASSIGN_OR_RETURN(const PostgresRows rows, session_->Query(kSearch, {index_.oid}, patience));
      if (rows.empty()) return absl::NotFoundError("the index is not there any more");
      statement = *rows[0][0];
    }
    RETURN_IF_ERROR(
        session_->Query(absl::StrCat("PREPARE firedrill AS ", statement), {}, patience).status());
    ASSIGN_OR_RETURN(const PostgresRows rows,
                     session_->Query("SELECT coalesce(array_length(parameter_types, 1), 0) FROM "
                                     "pg_prepared_statements WHERE name = 'firedrill'",
                                     {}, patience));
    const int count = rows.empty() ? 0 : std::atoi(rows[0][0]->c_str());
    if (count > kMostParameters) {
      return absl::InvalidArgumentError(absl::StrCat(statement, " has too many parameters"));
    }
    const std::vector<std::string> values(count, "NULL");
    explain_ =
        absl::StrCat("EXPLAIN (FORMAT JSON) EXECUTE firedrill",
                     values.empty() ? "" : absl::StrCat("(", absl::StrJoin(values, ", "), ")"));
    return absl::OkStatus();
  }

  static void Walk(const Json& node, const std::string& index, const std::string& table,
                   IndexPlan& plan) {
    if (node.value("Index Name", "") == index) plan.uses_index = true;
    if (node.value("Relation Name", "") == table && plan.read_by.empty()) {
      std::set<std::string> indexes;
      FindIndexes(node, indexes);
      plan.read_by = node.value("Node Type", "");
      if (!indexes.empty()) {
        absl::StrAppend(&plan.read_by, " using ", JoinWords({indexes.begin(), indexes.end()}));
      }
    }
    if (!node.contains("Plans")) return;
    for (const Json& child : node["Plans"]) Walk(child, index, table, plan);
  }

  // Its own, or those of the bitmaps from which it reads.
  static void FindIndexes(const Json& node, std::set<std::string>& indexes) {
    if (node.contains("Index Name")) indexes.insert(node.value("Index Name", ""));
    if (!node.contains("Plans")) return;
    for (const Json& child : node["Plans"]) {
      if (absl::StartsWith(child.value("Node Type", ""), "Bitmap")) FindIndexes(child, indexes);
    }
  }

  const std::unique_ptr<PostgresSession> session_;
  const PostgresIndex index_;
  // Why it is not.
  absl::Status prepared_;
  std::string explain_;
};

class PostgresIndexServer final : public IndexServer {
 public:
  explicit PostgresIndexServer(const v1::LoseIndex& message) : message_(message) {
    const std::vector<std::string> parts = absl::StrSplit(message_.index(), '.');
    if (parts.size() == 2) {
      index_.schema = parts[0];
      index_.name = parts[1];
    }
  }

  const Words& words() const override {
    static constexpr Words kWords = {
        "postgres_index", "planner", "lost", "usable", "not usable", "dropped or rebuilt", "cost"};
    return kWords;
  }
  std::string Name() const override { return index_.Name(); }
  const std::string& identity() const override { return facts_.identity; }
  const std::string& table() const override { return table_; }
  const std::string& statement() const override { return statement_; }

  absl::Status Validate(const v1::Profile& profile) const override {
    RETURN_IF_ERROR(PostgresKind::ServerOf(profile).status());
    if (index_.schema.empty() || index_.name.empty()) {
      return absl::InvalidArgumentError(absl::StrCat("index ", message_.index(),
                                                     ": write it with its schema, as in "
                                                     "public.users_email_idx"));
    }
    if (!message_.superuser()) {
      return absl::InvalidArgumentError(
          "loseIndex changes the system catalogs, which only a superuser may: name a profile of "
          "one, and say `superuser: true`");
    }
    return StatementOf(profile).status();
  }

  absl::Status Open(const v1::Profile& profile, const std::string& run,
                    const Patience& patience) override {
    server_ = profile.postgresql();
    ASSIGN_OR_RETURN(account_, FindAccount(server_, patience));
    ASSIGN_OR_RETURN(auto session, OpenControl(account_, message_.profile(), run, patience));
    if (!session->superuser()) {
      return absl::PermissionDeniedError(absl::StrCat(
          "profile ", message_.profile(), ": the role ", account_.user,
          " is no superuser, and only one may take an index from the planner; name another "
          "profile"));
    }
    ASSIGN_OR_RETURN(facts_, AskFacts(*session, patience));
    ASSIGN_OR_RETURN(const PostgresRows rows,
                     session->Query(kLookUp, {index_.schema, index_.name}, patience));
    if (rows.empty()) return NoSuchIndex(*session, patience);
    const auto& row = rows[0];
    if (*row[kStandby] == "t") {
      return absl::FailedPreconditionError(absl::StrCat("profile ", message_.profile(),
                                                        " leads to a standby, where nothing can be "
                                                        "changed; name one of the primary"));
    }
    if (row[kReason].has_value()) {
      return absl::FailedPreconditionError(
          absl::StrCat("the index ", index_.Name(), " is not taken away: ", *row[kReason]));
    }
    index_.oid = *row[kOid];
    index_.table_oid = *row[kTableOid];
    index_.system_identifier = *row[kSystem];
    table_ = *row[kTableName];
    same_statistics_ = absl::StrCat("ALTER TABLE ", *row[kTable], " ", *row[kSameStatistics]);
    ASSIGN_OR_RETURN(statement_, StatementOf(profile));
    if (statement_.empty()) {
      if (*row[kMethod] != "btree" && *row[kMethod] != "hash") {
        return absl::InvalidArgumentError(absl::StrCat(
            "the index ", index_.Name(), " is a ", *row[kMethod],
            " index, whose use cannot be guessed: name a statement of the profile that uses it"));
      }
      ASSIGN_OR_RETURN(const PostgresRows search, session->Query(kSearch, {index_.oid}, patience));
      if (search.empty()) return NoSuchIndex(*session, patience);
      statement_ = *search[0][0];
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::unique_ptr<PlanSession>> OpenPlans(const std::string& run,
                                                         const Patience& patience) const override {
    return Plans::Open(account_, message_.profile(), run,
                       message_.statement().empty() ? "" : statement_, index_, patience);
  }

  bool Refuses(const absl::Status& status) const override { return RefusesStatement(status); }

  absl::StatusOr<IndexState> LookByName(const v1::Profile& profile, const std::string& run,
                                        const Patience& patience) const override {
    ASSIGN_OR_RETURN(const PostgresAccount account, FindAccount(profile.postgresql(), patience));
    ASSIGN_OR_RETURN(auto session, OpenControl(account, message_.profile(), run, patience));
    ASSIGN_OR_RETURN(const PostgresRows rows,
                     session->Query(kLookUp, {index_.schema, index_.name}, patience));
    if (rows.empty()) return IndexState::kGone;
    return *rows[0][kUsable] == "t" ? IndexState::kUsable : IndexState::kLost;
  }

  absl::Status OpenForLoss(const std::string& run, const Patience& patience) override {
    ASSIGN_OR_RETURN(control_, OpenControl(account_, message_.profile(), run, patience));
    return absl::OkStatus();
  }

  absl::Status Lose(const Patience& patience) override {
    const auto control = std::move(control_);
    while (true) {
      const absl::StatusOr<IndexChange> change = SetIndexUsable(*control, index_, false, patience);
      if (change.ok() && *change == IndexChange::kDone) return absl::OkStatus();
      if (change.ok()) {
        return absl::FailedPreconditionError(
            absl::StrCat("the index ", index_.Name(),
                         " was dropped, rebuilt or made unusable by "
                         "somebody else just now"));
      }
      if (SqlState(change.status()) != kLockNotAvailable) {
        return Annotate(change.status(), absl::StrCat("losing the index ", index_.Name()));
      }
      absl::SleepFor(kTryAgain);
      RETURN_IF_ERROR(Annotate(
          patience.Check(), absl::StrCat("somebody else is changing the index ", index_.Name())));
    }
  }

  std::string ByHand() const override {
    const std::string change =
        absl::StrCat("UPDATE pg_index SET indisvalid = true WHERE indexrelid = ", index_.oid,
                     " AND NOT indisvalid");
    return absl::StrCat("psql -h ", ShellQuoted(server_.host()), " -p ", account_.port, " -U ",
                        ShellQuoted(account_.user), " -d ", ShellQuoted(account_.database), " -c ",
                        ShellQuoted(change), " -c ", ShellQuoted(same_statistics_));
  }
  std::string Access() const override { return IndexAccess(index_, server_); }

 private:
  // Empty where the definition names none.
  absl::StatusOr<std::string> StatementOf(const v1::Profile& profile) const {
    if (message_.statement().empty()) return std::string();
    return FindStatement(profile, message_.statement());
  }

  absl::Status NoSuchIndex(PostgresSession& session, const Patience& patience) const {
    ASSIGN_OR_RETURN(const PostgresRows rows, session.Query(kOthers, {index_.name}, patience));
    std::vector<std::string> all, of_table;
    for (const auto& row : rows) {
      all.push_back(*row[0]);
      if (*row[1] == "t") of_table.push_back(*row[0]);
    }
    const std::string where =
        absl::StrCat("there is no index ", index_.Name(), " in the database ", account_.database);
    if (!of_table.empty()) {
      return absl::NotFoundError(
          absl::StrCat(where, "; the table ", index_.name, " has ", JoinWords(of_table)));
    }
    const std::string nearest = NearestOf(index_.Name(), all);
    if (!nearest.empty()) return absl::NotFoundError(where + "; did you mean " + nearest + "?");
    if (all.size() > 5) all.resize(5);
    return absl::NotFoundError(absl::StrCat(
        where, all.empty() ? "; it has none" : absl::StrCat("; it has ", JoinWords(all))));
  }

  const v1::LoseIndex message_;
  PostgresIndex index_;
  v1::PostgresqlServer server_;
  PostgresAccount account_;
  PostgresFacts facts_;
  std::string table_;
  std::string same_statistics_;
  std::string statement_;
  // For the loss only.
  std::unique_ptr<PostgresSession> control_;
};

const FaultRegistration kLoseIndex(v1::Fault::kLoseIndex, [](const v1::Fault& fault) {
  return std::make_unique<LostIndex>(fault.lose_index(),
                                     std::make_unique<PostgresIndexServer>(fault.lose_index()));
});

}  // namespace
}  // namespace firedrill
