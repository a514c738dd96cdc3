// promote_replica: a failover of PostgreSQL that cannot end with two primaries. The old primary is
// fenced and seen to refuse writes before the standby is promoted, and again right before and
// after.
#include <algorithm>
#include <cmath>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "injector/os/postgres.h"
#include "injector/remedies/old_primary.h"
#include "injector/remedies/postgres_profile.h"
#include "injector/remedies/program.h"
#include "injector/remedies/remedy.h"

namespace firedrill {
namespace {

constexpr absl::Duration kDefaultTimeout = absl::Seconds(30);
constexpr uint64_t kDefaultLag = 16 << 20;
constexpr absl::Duration kConnect = absl::Seconds(5);
constexpr absl::Duration kAsk = absl::Seconds(3);
// How long a fence may take to hold once it was put up: a server that stops, a file that is read.
constexpr absl::Duration kFenceHolds = absl::Seconds(8);
constexpr absl::Duration kPause = absl::Milliseconds(20);
// Promotion is not begun when less is left.
constexpr absl::Duration kLeast = absl::Seconds(1);

constexpr char kNoPrivilege[] = "42501";

constexpr char kAbout[] =
    "SELECT pg_is_in_recovery(),"
    " has_function_privilege('pg_catalog.pg_promote(boolean, integer)', 'EXECUTE'),"
    " CASE WHEN pg_is_in_recovery() THEN pg_is_wal_replay_paused() END";
constexpr char kReplayed[] =
    "SELECT pg_last_wal_replay_lsn() >= greatest($1::pg_lsn, pg_last_wal_receive_lsn()),"
    " greatest(0, pg_wal_lsn_diff($1::pg_lsn, pg_last_wal_replay_lsn()))::bigint::text";

bool IsTrue(const std::optional<std::string>& value) { return value == "t"; }

class Promotion {
 public:
  Promotion(const v1::PromoteReplica& message, const RemedyContext& context, const Node& node,
            PostgresAccount replica, PostgresAccount old_primary,
            const v1::PostgresqlServer& old_server, const Patience& patience)
      : message_(message),
        context_(context),
        node_(node),
        replica_account_(std::move(replica)),
        old_(std::move(old_primary), old_server, context),
        patience_(patience) {}

  v1::RemedyReport Run() {
    absl::Status status = Steps();
    if (!status.ok()) status = absl::Status(status.code(), WithFence(status));
    if (status.ok() && old_.refusing()) {
      // This report says what is left: nobody else has to.
      old_.Forget();
      said_.push_back(
          absl::StrCat("the old primary stays closed; once it is a standby of the new one, "
                       "open it by: ",
                       old_.ByHand()));
    }
    std::vector<std::string> lines = said_;
    if (!status.ok()) lines.emplace_back(status.message());
    const std::string text = absl::StrJoin(lines, "\n");
    return ReportOf(status.ok() ? status : absl::Status(status.code(), text), text);
  }

 private:
  using Life = OldPrimary::Life;

  absl::Status Steps() {
    RETURN_IF_ERROR(Timed("looked", [this] { return Look(); }));
    RETURN_IF_ERROR(Timed("fenced", [this] { return Fence(); }));
    RETURN_IF_ERROR(Timed("fence seen", [this] { return SeeFence(); }));
    RETURN_IF_ERROR(Timed("replayed", [this] { return AwaitReplay(); }));
    // What ended the old primary may have been undone meanwhile, as a supervisor does.
    RETURN_IF_ERROR(Timed("fence seen again", [this] { return SeeFence(); }));
    RETURN_IF_ERROR(Timed("promoted", [this] { return Promote(); }));
    RETURN_IF_ERROR(Timed("write seen", [this] { return SeeWrite(); }));
    return Timed("fence seen afterwards", [this] { return SeeFence(); });
  }

  // A line of the report for each step that was done.
  template <typename Step>
  absl::Status Timed(absl::string_view step, Step run) {
    RETURN_IF_ERROR(patience_.Check());
    detail_.clear();
    const absl::Duration begin = RealClock().Boot();
    const absl::Status status = run();
    if (!status.ok()) return status;
    said_.push_back(absl::StrCat(step, " in ",
                                 firedrill::FormatDuration(RealClock().Boot() - begin),
                                 detail_.empty() ? "" : ": ", detail_));
    return absl::OkStatus();
  }

  // ---- before anything is changed

  absl::Status Look() {
    // pg_promote() waits inside a statement.
    const absl::Duration longest = patience_.Left() + absl::Seconds(5);
    ASSIGN_OR_RETURN(replica_,
                     PostgresSession::Open(
                         replica_account_, absl::StrCat("firedrill-remedy:", context_.run),
                         {{"statement_timeout", absl::StrCat(absl::ToInt64Milliseconds(longest))}},
                         patience_.AtMost(kConnect)));
    ASSIGN_OR_RETURN(const PostgresRows about, replica_->Query(kAbout, {}, Ask()));
    const std::string who = absl::StrCat("the replica (", replica_account_.Name(), ") ");
    if (!IsTrue(about[0][0])) {
      return absl::FailedPreconditionError(
          absl::StrCat(who, "is no standby: it takes writes already; check the profile replica"));
    }
    if (!IsTrue(about[0][1])) {
      return absl::PermissionDeniedError(absl::StrCat(
          who, "does not let this role promote it; run GRANT EXECUTE ON FUNCTION pg_promote TO ",
          replica_account_.user));
    }
    if (IsTrue(about[0][2])) {
      return absl::FailedPreconditionError(
          absl::StrCat(who, "has its replay paused; run SELECT pg_wal_replay_resume() there"));
    }
    ASSIGN_OR_RETURN(life_, old_.Look(patience_));
    RETURN_IF_ERROR(CheckLife());
    RETURN_IF_ERROR(CheckKin());
    return CheckLag();
  }

  absl::Status CheckLife() {
    if (life_ == Life::kAlive) {
      if (!Fences()) {
        return absl::FailedPreconditionError(
            absl::StrCat("the old primary (", old_.Name(),
                         ") lives, and deadIsFenced fences nobody; add a fenceProgram or ",
                         "refuseSessions: true"));
      }
      return absl::OkStatus();
    }
    if (!message_.fence_program().empty()) return absl::OkStatus();
    if (life_ == Life::kDead && message_.dead_is_fenced()) return absl::OkStatus();
    return absl::FailedPreconditionError(absl::StrCat(
        "the old primary (", old_.Name(), ") cannot be fenced: ", old_.why().message(),
        life_ == Life::kDead
            ? "; nothing keeps it from coming back: use a fenceProgram, or say deadIsFenced: true"
            : "; one that hangs takes writes when it goes on: use a fenceProgram that ends it"));
  }

  absl::Status CheckKin() {
    if (life_ != Life::kAlive) return absl::OkStatus();
    ASSIGN_OR_RETURN(const PostgresFacts facts, AskFacts(*replica_, Ask()));
    const std::string identity = facts.identity.substr(0, facts.identity.rfind('/'));
    if (!identity.empty() && identity == old_.identity()) return absl::OkStatus();
    return absl::FailedPreconditionError(absl::StrCat(
        "the replica (", replica_account_.Name(), ") is no standby of the old primary (",
        old_.Name(), "): their system identifiers differ, or may not be read by these roles"));
  }

  absl::Status CheckLag() {
    const absl::Status status = MeasureLag();
    if (status.ok() || !message_.allow_lag() || absl::IsPermissionDenied(status)) return status;
    detail_ = absl::StrCat(status.message(), " (allowed)");
    return absl::OkStatus();
  }

  absl::Status MeasureLag() {
    const std::string next = "; allowLag: true accepts that what it has not got is lost";
    ASSIGN_OR_RETURN(
        const PostgresRows receiver,
        replica_->Query("SELECT status, pg_last_wal_receive_lsn() FROM pg_stat_wal_receiver", {},
                        Ask()));
    if (!receiver.empty() && !receiver[0][0].has_value()) {
      return absl::PermissionDeniedError(
          absl::StrCat("whether the replica streams may not be read by ", replica_account_.user,
                       "; run GRANT pg_monitor TO ", replica_account_.user));
    }
    if (receiver.empty() || receiver[0][0] != "streaming") {
      return absl::FailedPreconditionError(absl::StrCat("the replica (", replica_account_.Name(),
                                                        ") does not stream: its lag is not known",
                                                        next));
    }
    if (life_ != Life::kAlive) {
      return absl::FailedPreconditionError(absl::StrCat(
          "the old primary cannot be asked where its WAL ends: the lag is not known", next));
    }
    ASSIGN_OR_RETURN(const std::string end, old_.Position(patience_));
    ASSIGN_OR_RETURN(const PostgresRows behind,
                     replica_->Query("SELECT greatest(0, pg_wal_lsn_diff($1::pg_lsn,"
                                     " pg_last_wal_receive_lsn()))::bigint::text",
                                     {end}, Ask()));
    uint64_t bytes = 0;
    if (!absl::SimpleAtoi(behind[0][0].value_or(""), &bytes)) {
      return absl::FailedPreconditionError(
          absl::StrCat("the replica has received nothing yet: its lag is not known", next));
    }
    const uint64_t most = message_.max_lag_bytes() == 0 ? kDefaultLag : message_.max_lag_bytes();
    if (bytes > most) {
      return absl::FailedPreconditionError(absl::StrCat(
          "the replica is ", bytes, " bytes of WAL behind, only ", most, " are permitted", next));
    }
    detail_ = absl::StrCat("streams, ", bytes, " bytes behind");
    return absl::OkStatus();
  }

  // ---- the fence

  bool Fences() const { return message_.refuse_sessions() || !message_.fence_program().empty(); }

  absl::Status Fence() {
    // The last that is known, should the fence be one behind which nobody answers.
    if (const auto end = old_.Position(patience_); end.ok()) end_ = *end;
    if (!message_.fence_program().empty()) {
      ASSIGN_OR_RETURN(const v1::Program program, node_.FindProgram(message_.fence_program()));
      program_ran_ = true;
      const v1::RemedyReport report = RunProgramBlocking(program, context_.stop);
      if (report.state() != v1::REMEDY_STATE_DONE) {
        return absl::FailedPreconditionError(
            absl::StrCat("the fence program ", program.name(), " failed with exit code ",
                         report.exit_code(), ": ", report.output()));
      }
      detail_ = absl::StrCat("program ", program.name());
      return absl::OkStatus();
    }
    if (life_ != Life::kAlive) {
      detail_ = "nobody listens there (deadIsFenced)";
      return absl::OkStatus();
    }
    RETURN_IF_ERROR(old_.RefuseSessions(patience_));
    // Sessions are over: what is in its WAL now is all that was ever acknowledged.
    ASSIGN_OR_RETURN(end_, old_.Position(patience_));
    detail_ = absl::StrCat("sessions are refused, ", old_.ended(), " were ended");
    if (!old_.former().empty()) {
      absl::StrAppend(&detail_, "; session_preload_libraries was ", old_.former());
    }
    return absl::OkStatus();
  }

  absl::Status SeeFence() {
    const bool nobody_counts = !message_.fence_program().empty() || message_.dead_is_fenced();
    const auto seen = old_.SeeRefused(nobody_counts, patience_.AtMost(kFenceHolds));
    if (!seen.ok()) {
      const char* what = asked_ ? "THERE MAY BE TWO PRIMARIES: the old primary ("
                                : "nothing was promoted: the old primary (";
      return absl::FailedPreconditionError(absl::StrCat(
          what, old_.Name(), ") is not seen to refuse writes: ", seen.status().message()));
    }
    detail_ = *seen;
    return absl::OkStatus();
  }

  absl::Status AwaitReplay() {
    // Nothing is known of where its WAL ended: all that has arrived then.
    const std::string end = end_.empty() ? "0/0" : end_;
    for (;;) {
      ASSIGN_OR_RETURN(const PostgresRows rows, replica_->Query(kReplayed, {end}, Ask()));
      const std::string missing = rows[0][1].value_or("?");
      if (IsTrue(rows[0][0])) {
        detail_ = absl::StrCat("up to ", end_.empty() ? "all that has arrived" : end_);
        return absl::OkStatus();
      }
      if (patience_.Left() < kLeast * 2) {
        const std::string what = absl::StrCat("the replica has not replayed all: ", missing,
                                              " bytes of WAL up to ", end, " are missing");
        if (!message_.allow_lag()) {
          return absl::DeadlineExceededError(absl::StrCat("nothing was promoted: ", what));
        }
        detail_ = absl::StrCat(what, " (allowed)");
        return absl::OkStatus();
      }
      RETURN_IF_ERROR(patience_.Check());
      absl::SleepFor(kPause);
    }
  }

  // ---- the promotion

  absl::Status Promote() {
    const absl::Duration left = patience_.Left();
    if (left < kLeast) {
      return absl::DeadlineExceededError("nothing was promoted: the timeout is nearly over");
    }
    RETURN_IF_ERROR(old_.KeepClosed());
    asked_ = true;
    const auto promoted = replica_->Query(
        "SELECT pg_promote(true, $1::int)",
        {absl::StrCat(static_cast<int>(std::ceil(absl::ToDoubleSeconds(left))))}, patience_);
    if (SqlState(promoted.status()) == kNoPrivilege) {
      // The only refusal after which it is certain to be a standby still.
      asked_ = false;
      return promoted.status();
    }
    if (!promoted.ok() || !IsTrue((*promoted)[0][0])) {
      return absl::DeadlineExceededError(
          absl::StrCat("the replica was asked to become primary and has not said that it is: ",
                       promoted.ok() ? "pg_promote() gave up waiting" : promoted.status().message(),
                       "; look at ", replica_account_.Name()));
    }
    return absl::OkStatus();
  }

  // A session of its own, as an application would come.
  absl::Status SeeWrite() {
    const std::string who = absl::StrCat("the promoted replica (", replica_account_.Name(), ") ");
    ASSIGN_OR_RETURN(
        const auto session,
        PostgresSession::Open(replica_account_, absl::StrCat("firedrill-witness:", context_.run),
                              WriterSettings(), patience_.AtMost(kConnect)));
    ASSIGN_OR_RETURN(const PostgresRows recovery,
                     session->Query("SELECT pg_is_in_recovery()", {}, Ask()));
    if (!recovery[0][0].has_value() || IsTrue(recovery[0][0])) {
      return absl::InternalError(absl::StrCat(who, "is still in recovery"));
    }
    const auto write = session->Query(kWrite, {"promoted"}, Ask());
    if (!write.ok()) {
      return absl::InternalError(
          absl::StrCat(who, "does not take a write: ", write.status().message()));
    }
    ASSIGN_OR_RETURN(const PostgresRows flushed,
                     session->Query("SELECT pg_current_wal_flush_lsn() >= $1::pg_lsn,"
                                    " pg_current_wal_flush_lsn()::text",
                                    {(*write)[0][0].value_or("")}, Ask()));
    if (!IsTrue(flushed[0][0])) {
      return absl::InternalError(absl::StrCat(who, "took a write but did not keep it"));
    }
    detail_ = absl::StrCat("its WAL is at ", flushed[0][1].value_or("?"));
    return absl::OkStatus();
  }

  // What became of the fence, after a failure: as long as nothing can have been promoted it is
  // lifted, else nobody would take writes.
  std::string WithFence(const absl::Status& status) {
    std::string text(absl::IsCancelled(status) ? "the run was stopped" : status.message());
    if (asked_) {
      absl::StrAppend(&text, "; the fence of the old primary was left as it is");
      if (old_.refusing()) {
        absl::StrAppend(
            &text, "; where nothing was promoted, or it is a standby of the new one, open it by: ",
            old_.ByHand());
      }
    } else if (old_.refusing()) {
      // Also after a stop: nobody else would lift it.
      const absl::Status lifted = old_.Lift();
      absl::StrAppend(&text, lifted.ok() ? "; the fence was lifted: the old primary takes sessions"
                                         : absl::StrCat("; THE FENCE STAYS (", lifted.message(),
                                                        "), by hand: ", old_.ByHand()));
    } else if (program_ran_) {
      absl::StrAppend(&text, "; the old primary stays as the program ", message_.fence_program(),
                      " left it, and nothing was promoted");
    } else {
      absl::StrAppend(&text, said_.empty() ? "; nothing was changed" : "; nothing was promoted");
    }
    return text;
  }

  Patience Ask() const { return patience_.AtMost(kAsk); }

  const v1::PromoteReplica& message_;
  const RemedyContext& context_;
  const Node& node_;
  const PostgresAccount replica_account_;
  OldPrimary old_;
  const Patience patience_;
  Life life_ = Life::kSilent;
  std::unique_ptr<PostgresSession> replica_;
  // Where the old primary's WAL ended; empty where that is not known.
  std::string end_;
  bool program_ran_ = false;
  // pg_promote() was sent, and may have worked.
  bool asked_ = false;
  std::string detail_;
  std::vector<std::string> said_;
};

class PromoteReplica final : public Remedy {
 public:
  explicit PromoteReplica(const v1::PromoteReplica& message) : message_(message) {}

  absl::Status Validate(const Node& node) const override {
    RETURN_IF_ERROR(FindPostgresProfile(node, message_.replica()).status());
    RETURN_IF_ERROR(FindPostgresProfile(node, message_.old_primary()).status());
    if (message_.replica() == message_.old_primary()) {
      return absl::InvalidArgumentError("promoteReplica: the old primary is the replica itself");
    }
    if (message_.has_fence_program()) {
      ASSIGN_OR_RETURN(const v1::Program program, node.FindProgram(message_.fence_program()));
      return CheckProgram(program);
    }
    if (message_.refuse_sessions() || message_.dead_is_fenced()) return absl::OkStatus();
    return absl::InvalidArgumentError(
        "promoteReplica has no fence: two servers would take writes; add a fenceProgram, "
        "refuseSessions: true or deadIsFenced: true");
  }

  absl::StatusOr<v1::Leaves> Leaves(const Node& node) const override {
    RETURN_IF_ERROR(Validate(node));
    return v1::LEAVES_CHANGED;
  }

  v1::RemedyReport Run(const RemedyContext& context, const Node& node) const override {
    const Patience patience(
        message_.has_timeout() ? FromProto(message_.timeout()) : kDefaultTimeout, context.stop);
    if (context.stop.stop_requested()) {
      return ReportOf(absl::CancelledError("nothing was begun: stopped"), "");
    }
    const auto replica = Account(node, message_.replica(), patience);
    if (!replica.ok()) return ReportOf(replica.status(), "");
    const auto old_primary = Account(node, message_.old_primary(), patience);
    if (!old_primary.ok()) return ReportOf(old_primary.status(), "");
    const auto profile = FindPostgresProfile(node, message_.old_primary());
    if (!profile.ok()) return ReportOf(profile.status(), "");
    return Promotion(message_, context, node, *replica, *old_primary, profile->postgresql(),
                     patience)
        .Run();
  }

 private:
  static absl::StatusOr<PostgresAccount> Account(const Node& node, const std::string& name,
                                                 const Patience& patience) {
    ASSIGN_OR_RETURN(const v1::Profile profile, FindPostgresProfile(node, name));
    return FindAccount(profile.postgresql(), patience.AtMost(kConnect));
  }

  const v1::PromoteReplica message_;
};

const RemedyRegistration kPromoteReplica(v1::Remedy::kPromoteReplica, [](const v1::Remedy& remedy) {
  return std::make_unique<PromoteReplica>(remedy.promote_replica());
});

}  // namespace
}  // namespace firedrill
