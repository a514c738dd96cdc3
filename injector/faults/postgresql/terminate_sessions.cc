// terminate_sessions: ends sessions of others once, as a failover or an administrator would.
#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "injector/fault.h"
#include "injector/os/postgres_crowd.h"
#include "injector/os/server_control.h"

namespace firedrill {
namespace {

// Whether the role may see and end the sessions of $1 (empty: of everyone but superusers).
constexpr char kRights[] =
    "SELECT pg_has_role('pg_signal_backend', 'USAGE') OR $1 = current_user"
    "  OR coalesce((SELECT pg_has_role(oid, 'USAGE') FROM pg_roles WHERE rolname = $1), false),"
    " pg_has_role('pg_read_all_stats', 'USAGE') OR $1 = current_user"
    "  OR coalesce((SELECT pg_has_role(oid, 'USAGE') FROM pg_roles WHERE rolname = $1), false),"
    " current_user";

// Client sessions of others that match: never what firedrill itself has opened on any node, never
// replication, and our own role only where it is named. Oldest first.
constexpr char kMatching[] =
    "SELECT a.pid, a.backend_start, r.rolsuper FROM pg_stat_activity a"
    " JOIN pg_roles r ON r.oid = a.usesysid"
    " WHERE a.backend_type = 'client backend' AND a.pid <> pg_backend_pid()"
    " AND a.application_name NOT LIKE 'firedrill%'"
    " AND (a.usename = $1 OR ($1 = '' AND a.usename <> current_user))"
    " AND (a.application_name = $2 OR $2 = '')"
    " AND a.backend_start <= clock_timestamp() - $3::interval"
    " ORDER BY a.backend_start, a.pid";

// The pid alone could be another session's by now.
constexpr char kTerminate[] =
    "SELECT pg_terminate_backend(pid) FROM pg_stat_get_activity($1::int)"
    " WHERE backend_start = $2::timestamptz";
constexpr char kStillThere[] =
    "SELECT count(*) FROM pg_stat_get_activity($1::int) WHERE backend_start = $2::timestamptz";

struct Session {
  std::string pid;
  std::string backend_start;
};

class TerminateSessions final : public Fault, public Prepares {
 public:
  explicit TerminateSessions(const v1::TerminateSessions& message) : message_(message) {}

  absl::Status Validate(const Node& node) const override {
    ASSIGN_OR_RETURN(const v1::Profile profile, node.FindProfile(message_.profile()));
    RETURN_IF_ERROR(PostgresKind::ServerOf(profile).status());
    if (message_.user().empty() && message_.application_name().empty()) {
      return absl::InvalidArgumentError(
          "terminateSessions would end every session of the server; say whose: user or "
          "applicationName");
    }
    if (absl::StartsWith(message_.application_name(), "firedrill")) {
      return absl::InvalidArgumentError(absl::StrCat("applicationName ",
                                                     message_.application_name(),
                                                     ": firedrill never ends its own sessions"));
    }
    return absl::OkStatus();
  }

  absl::Status Prepare(const Context& context, Node& node) override {
    if (control_.open()) return absl::OkStatus();
    const Patience patience = context.patience();
    ASSIGN_OR_RETURN(const v1::Profile profile, node.FindProfile(message_.profile()));
    // A superuser may end whom he likes.
    RETURN_IF_ERROR(
        control_.Open(profile.postgresql(), {message_.profile(), context.run, true, ""}, patience));
    const absl::Status permitted = CheckRights(patience);
    if (!permitted.ok()) control_.Close();
    return permitted;
  }

  absl::Status Apply(const Context& context, Node& node, Changes&) override {
    RETURN_IF_ERROR(Prepare(context, node));
    const Patience patience = context.patience();
    const std::string older_than =
        absl::StrCat(absl::ToInt64Milliseconds(FromProto(message_.older_than())), " milliseconds");
    const auto rows = control_->Query(
        kMatching, {message_.user(), message_.application_name(), older_than}, patience);
    RETURN_IF_ERROR(Annotate(rows.status(), "looking for sessions to end"));
    for (const auto& row : *rows) {
      if (*row[2] == "t" && !control_.superuser()) {
        ++superusers_;
      } else if (message_.at_most() == 0 || matched_.size() < message_.at_most()) {
        matched_.push_back({*row[0], *row[1]});
      }
    }
    applied_ = true;
    PostgresCrowd::ExpectFreedSlots(control_.facts().identity, static_cast<int>(matched_.size()));
    for (const Session& session : matched_) {
      const absl::Status status =
          control_->Query(kTerminate, {session.pid, session.backend_start}, patience).status();
      if (!status.ok()) trouble_ = absl::StrCat("pid ", session.pid, ": ", status.message());
      RETURN_IF_ERROR(Annotate(patience.Check(), "ending sessions"));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<v1::Observation> Observe(const Context& context, const Node&) const override {
    if (!applied_) return absl::FailedPreconditionError("ending sessions: not applied");
    size_t there = 0;
    // What is gone stays gone: it is not looked for again.
    if (!all_gone_ && !matched_.empty()) {
      if (!control_.open()) return absl::FailedPreconditionError("ending sessions: let go");
      const Patience patience = context.patience();
      for (const Session& session : matched_) {
        ASSIGN_OR_RETURN(
            const PostgresRows rows,
            control_->Query(kStillThere, {session.pid, session.backend_start}, patience));
        if (*rows[0][0] != "0") ++there;
      }
      all_gone_ = there == 0;
    }
    const size_t gone = matched_.size() - there;
    v1::Observation observation;
    observation.set_requested(static_cast<double>(matched_.size()));
    observation.set_real(static_cast<double>(gone));
    observation.set_unit("sessions");
    observation.set_reached(gone == matched_.size() && gone > 0);
    observation.set_subject(control_.facts().identity);
    observation.set_detail(Detail(gone));
    auto& figures = *observation.mutable_figures();
    figures["matched"] = static_cast<double>(matched_.size());
    figures["gone"] = static_cast<double>(gone);
    figures["superusers_skipped"] = superusers_;
    return observation;
  }

  void Release() override { control_.Close(); }

  // Nothing to undo, and nothing of ours stays: the control connection went with Release().
  absl::Status ReadBack(const Context&, const Node&) const override { return absl::OkStatus(); }

 private:
  // A role that sees less would end sessions without knowing what they are.
  absl::Status CheckRights(const Patience& patience) const {
    ASSIGN_OR_RETURN(const PostgresRows rows,
                     control_->Query(kRights, {message_.user()}, patience));
    std::vector<std::string> missing;
    if (*rows[0][0] != "t") missing.emplace_back("pg_signal_backend");
    if (*rows[0][1] != "t") missing.emplace_back("pg_read_all_stats");
    if (missing.empty()) return absl::OkStatus();
    return absl::PermissionDeniedError(
        absl::StrCat("profile ", message_.profile(), ": the role ", *rows[0][2],
                     " may not see and end sessions of others; as a superuser: GRANT ",
                     absl::StrJoin(missing, ", "), " TO ", *rows[0][2]));
  }

  std::string Detail(size_t gone) const {
    std::string selection;
    if (!message_.user().empty()) absl::StrAppend(&selection, " of user ", message_.user());
    if (!message_.application_name().empty()) {
      absl::StrAppend(&selection, " of application ", message_.application_name());
    }
    if (message_.has_older_than()) {
      absl::StrAppend(&selection, " older than ",
                      firedrill::FormatDuration(FromProto(message_.older_than())));
    }
    std::string detail =
        matched_.empty()
            ? absl::StrCat("no session", selection, " was there to be ended")
            : absl::StrCat(gone, " of ", matched_.size(), " sessions", selection, " ended");
    if (superusers_ > 0) {
      absl::StrAppend(&detail, "; ", superusers_,
                      " of superusers left alone: an ordinary role may not end them");
    }
    if (!trouble_.empty()) absl::StrAppend(&detail, "; ", trouble_);
    return detail;
  }

  const v1::TerminateSessions message_;
  ServerControl<PostgresKind> control_;
  std::vector<Session> matched_;
  int superusers_ = 0;
  std::string trouble_;
  bool applied_ = false;
  mutable bool all_gone_ = false;
};

const FaultRegistration kTerminateSessions(v1::Fault::kTerminateSessions,
                                           [](const v1::Fault& fault) {
                                             return std::make_unique<TerminateSessions>(
                                                 fault.terminate_sessions());
                                           });

}  // namespace
}  // namespace firedrill
