// lose_index: one index is not used any more, as if a migration had dropped it.
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
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
#include "injector/fault.h"
#include "injector/os/postgres_index.h"

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
    " pg_get_indexdef(c.oid, 1, true), pg_get_expr(i.indpred, i.indrelid),"
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
    " END, i.indisvalid"
    " FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
    " JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_am am ON am.oid = c.relam"
    " JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace tn ON tn.oid = t.relnamespace"
    " WHERE n.nspname = $1 AND c.relname = $2";
enum Column {
  kOid,
  kTable,
  kTableName,
  kMethod,
  kFirstColumn,
  kPredicate,
  kSameStatistics,
  kSystem,
  kStandby,
  kReason,
  kUsable
};

// Indexes, those of a table of this name first.
constexpr char kOthers[] =
    "SELECT n.nspname || '.' || c.relname, t.relname = $1 FROM pg_index i"
    " JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
    " JOIN pg_class t ON t.oid = i.indrelid"
    " WHERE n.nspname NOT IN ('pg_catalog', 'pg_toast', 'information_schema')"
    " ORDER BY t.relname <> $1, 1 LIMIT 1000";

// As it is, whatever has become of its name.
constexpr char kIsUsable[] = "SELECT indisvalid FROM pg_index WHERE indexrelid = $1::oid";

// What the planner does with a statement: a session in which that is prepared, with a plan for
// every value. Opened before the fault, it stands for the pooled sessions of an application; opened
// anew, for one that has just connected.
class Plans {
 public:
  struct Look {
    bool uses_index = false;
    // How the table is read: "Index Scan".
    std::string node;
    double cost = 0;
  };

  static absl::StatusOr<std::unique_ptr<Plans>> Open(const PostgresAccount& account,
                                                     absl::string_view profile,
                                                     absl::string_view run,
                                                     const std::string& statement,
                                                     const Patience& patience) {
    ASSIGN_OR_RETURN(auto session, OpenControl(account, profile, run, patience));
    RETURN_IF_ERROR(
        session->Query("SET plan_cache_mode = force_generic_plan", {}, patience).status());
    const std::string prepare = absl::StrCat("PREPARE firedrill AS ", statement);
    RETURN_IF_ERROR(Annotate(session->Query(prepare, {}, patience).status(),
                             absl::StrCat("preparing ", statement)));
    ASSIGN_OR_RETURN(const PostgresRows rows,
                     session->Query("SELECT coalesce(array_length(parameter_types, 1), 0) FROM "
                                    "pg_prepared_statements WHERE name = 'firedrill'",
                                    {}, patience));
    const int count = rows.empty() ? 0 : std::atoi(rows[0][0]->c_str());
    if (count > kMostParameters) {
      return absl::InvalidArgumentError(absl::StrCat(statement, " has too many parameters"));
    }
    const std::vector<std::string> values(count, "NULL");
    return std::unique_ptr<Plans>(new Plans(
        std::move(session),
        absl::StrCat("EXPLAIN (FORMAT JSON) EXECUTE firedrill",
                     values.empty() ? "" : absl::StrCat("(", absl::StrJoin(values, ", "), ")"))));
  }

  absl::StatusOr<Look> Explain(const std::string& index, const std::string& table,
                               const Patience& patience) {
    ASSIGN_OR_RETURN(const PostgresRows rows, session_->Query(explain_, {}, patience));
    const Json json = Json::parse(rows[0][0].value_or(""), nullptr, /*allow_exceptions=*/false);
    if (!json.is_array() || json.empty() || !json[0].contains("Plan")) {
      return absl::InternalError("the server explains a plan in a form that is not known here");
    }
    Look look;
    look.cost = json[0]["Plan"].value("Total Cost", 0.0);
    Walk(json[0]["Plan"], index, table, look);
    return look;
  }

  PostgresSession& session() { return *session_; }

 private:
  Plans(std::unique_ptr<PostgresSession> session, std::string explain)
      : session_(std::move(session)), explain_(std::move(explain)) {}

  static void Walk(const Json& node, const std::string& index, const std::string& table,
                   Look& look) {
    if (node.value("Index Name", "") == index) look.uses_index = true;
    if (node.value("Relation Name", "") == table && look.node.empty()) {
      look.node = node.value("Node Type", "");
    }
    if (!node.contains("Plans")) return;
    for (const Json& child : node["Plans"]) Walk(child, index, table, look);
  }

  std::unique_ptr<PostgresSession> session_;
  const std::string explain_;
};

class LoseIndex final : public Fault, public Prepares {
 public:
  explicit LoseIndex(const v1::LoseIndex& message) : message_(message) {
    const std::vector<std::string> parts = absl::StrSplit(message_.index(), '.');
    if (parts.size() == 2) {
      index_.schema = parts[0];
      index_.name = parts[1];
    }
  }

  absl::Status Validate(const Node& node) const override {
    ASSIGN_OR_RETURN(const v1::Profile profile, node.FindProfile(message_.profile()));
    if (!profile.has_postgresql()) {
      return absl::InvalidArgumentError(absl::StrCat("profile ", message_.profile(),
                                                     " is no PostgreSQL server; name one that is"));
    }
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
                     OpenControl(account_, message_.profile(), context.run, patience));
    applied_ = true;
    const Undo undo{
        "postgres_index", absl::StrCat("index ", index_.Name(), " of ", facts_.identity),
        "usable",         "not usable",
        ByHand(),         IndexAccess(index_, server_)};
    return changes.Make(undo, [&] { return Lose(*control, patience); });
  }

  absl::StatusOr<v1::Observation> Observe(const Context& context, const Node&) const override {
    if (!applied_) return absl::FailedPreconditionError("losing an index: not applied");
    ASSIGN_OR_RETURN(const Sight now, Look(context.run, PatienceOf(context)));
    const int without = (now.pooled.uses_index ? 0 : 1) + (now.fresh.uses_index ? 0 : 1);
    const bool lost = now.there && !now.usable;
    v1::Observation observation;
    observation.set_requested(2);
    observation.set_real(lost ? without : 0);
    observation.set_unit("plans without the index");
    observation.set_reached(lost && without == 2);
    observation.set_subject(facts_.identity);
    const absl::string_view state =
        !now.there ? "is not there any more: somebody has dropped or rebuilt it"
        : lost     ? "is lost"
                   : "is usable";
    observation.set_detail(absl::StrCat("the index ", index_.Name(), " ", state, "; ", table_,
                                        " was read by ", before_.node, ", now by ", now.pooled.node,
                                        " on a prepared and ", now.fresh.node,
                                        " on a fresh session"));
    auto& figures = *observation.mutable_figures();
    figures["cost_before"] = before_.cost;
    figures["cost_prepared"] = now.pooled.cost;
    figures["cost_fresh"] = now.fresh.cost;
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
    if (now.there && !now.usable) return StillLost();
    // A session that goes on with the plan that it made meanwhile is as slow as before.
    if (now.fresh.uses_index && !now.pooled.uses_index) {
      return absl::FailedPreconditionError(absl::StrCat(
          "the index ", index_.Name(), " is usable again, and prepared sessions still read ",
          table_, " by ", now.pooled.node));
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
    return FindStatement(profile, message_.statement());
  }

  absl::Status Open(const Node& node, const std::string& run, const Patience& patience) {
    ASSIGN_OR_RETURN(const v1::Profile profile, node.FindProfile(message_.profile()));
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
      statement_ =
          absl::StrCat("SELECT * FROM ", *row[kTable], " WHERE (", *row[kFirstColumn], ") = $1");
      if (row[kPredicate].has_value()) absl::StrAppend(&statement_, " AND ", *row[kPredicate]);
    }
    ASSIGN_OR_RETURN(prepared_,
                     Plans::Open(account_, message_.profile(), run, statement_, patience));
    return absl::OkStatus();
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

  // What the server says of the index, and what it does.
  struct Sight {
    bool there = false;
    bool usable = false;
    Plans::Look pooled;
    Plans::Look fresh;
  };
  absl::StatusOr<Sight> Look(const std::string& run, const Patience& patience) const {
    absl::StatusOr<Sight> sight = LookOnce(run, patience);
    // The server was started again: all its sessions are new ones now.
    if (!sight.ok() && prepared_ != nullptr && !prepared_->session().usable()) {
      ASSIGN_OR_RETURN(prepared_,
                       Plans::Open(account_, message_.profile(), run, statement_, patience));
      sight = LookOnce(run, patience);
    }
    return sight;
  }
  absl::StatusOr<Sight> LookOnce(const std::string& run, const Patience& patience) const {
    Sight sight;
    if (prepared_ == nullptr) {
      ASSIGN_OR_RETURN(prepared_,
                       Plans::Open(account_, message_.profile(), run, statement_, patience));
    }
    ASSIGN_OR_RETURN(const PostgresRows rows,
                     prepared_->session().Query(kIsUsable, {index_.oid}, patience));
    sight.there = !rows.empty();
    sight.usable = sight.there && *rows[0][0] == "t";
    ASSIGN_OR_RETURN(sight.pooled, Explain(*prepared_, patience));
    ASSIGN_OR_RETURN(const auto fresh,
                     Plans::Open(account_, message_.profile(), run, statement_, patience));
    ASSIGN_OR_RETURN(sight.fresh, Explain(*fresh, patience));
    return sight;
  }

  // A statement that does not use the index would not notice its loss.
  absl::Status CheckPlan(const Patience& patience) {
    ASSIGN_OR_RETURN(before_, Explain(*prepared_, patience));
    if (before_.uses_index) return absl::OkStatus();
    return absl::FailedPreconditionError(absl::StrCat(
        "to lose the index ", index_.Name(), " would have no effect: the planner reads ", table_,
        " by ", before_.node.empty() ? "other means" : before_.node, " for ", statement_,
        message_.statement().empty() ? "; name a statement of the profile that uses it"
                                     : "; name another statement"));
  }

  absl::StatusOr<Plans::Look> Explain(Plans& plans, const Patience& patience) const {
    return plans.Explain(index_.name, table_, patience);
  }

  absl::Status Lose(PostgresSession& control, const Patience& patience) const {
    while (true) {
      const absl::StatusOr<IndexChange> change = SetIndexUsable(control, index_, false, patience);
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

  std::string ByHand() const {
    const std::string change =
        absl::StrCat("UPDATE pg_index SET indisvalid = true WHERE indexrelid = ", index_.oid,
                     " AND NOT indisvalid");
    return absl::StrCat("psql -h ", ShellQuoted(server_.host()), " -p ", account_.port, " -U ",
                        ShellQuoted(account_.user), " -d ", ShellQuoted(account_.database), " -c ",
                        ShellQuoted(change), " -c ", ShellQuoted(same_statistics_));
  }

  absl::Status StillLost() const {
    return absl::FailedPreconditionError(
        absl::StrCat("the index ", index_.Name(), " is still not usable"));
  }

  // By name: of a process that has not applied it.
  absl::Status LookByName(const Context& context, const Node& node,
                          const Patience& patience) const {
    ASSIGN_OR_RETURN(const v1::Profile profile, node.FindProfile(message_.profile()));
    ASSIGN_OR_RETURN(const PostgresAccount account, FindAccount(profile.postgresql(), patience));
    ASSIGN_OR_RETURN(auto session, OpenControl(account, message_.profile(), context.run, patience));
    ASSIGN_OR_RETURN(const PostgresRows rows,
                     session->Query(kLookUp, {index_.schema, index_.name}, patience));
    return rows.empty() || *rows[0][kUsable] == "t" ? absl::OkStatus() : StillLost();
  }

  const v1::LoseIndex message_;
  PostgresIndex index_;
  v1::PostgresqlServer server_;
  PostgresAccount account_;
  PostgresFacts facts_;
  std::string table_;
  std::string same_statistics_;
  std::string statement_;
  Plans::Look before_;
  // Let go of when the index is seen to be used again.
  mutable std::unique_ptr<Plans> prepared_;
  bool applied_ = false;
};

const FaultRegistration kLoseIndex(v1::Fault::kLoseIndex, [](const v1::Fault& fault) {
  return std::make_unique<LoseIndex>(fault.lose_index());
});

}  // namespace
}  // namespace firedrill
