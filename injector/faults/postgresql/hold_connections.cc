// hold_connections: opens sessions and keeps them, so that others find no free slot.
#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "injector/faults/held_crowd.h"
#include "injector/os/postgres_crowd.h"
#include "injector/os/server_control.h"

namespace firedrill {
namespace {

// A look at the server; a healthy one answers in a millisecond.
constexpr absl::Duration kLookTimeout = absl::Milliseconds(500);
// The server's own time-outs end our sessions so long after the fault's end.
constexpr absl::Duration kNetMargin = absl::Seconds(1);
// In milliseconds: how soon the server sees that a busy session's other end is gone. Part of the
// promise that a hung injector's sessions are gone 0.1 s after the lease.
constexpr char kNoticeOurEnd[] = "100";
// Connections kept ready to take back what others lose.
constexpr int kFewestSpares = 2;
constexpr int kMostSpares = 16;

// Everybody's client sessions; of ours, those that do what they were asked to, and all. A role
// without pg_read_all_stats sees that others' sessions exist but not what they are: what must be a
// background process, a WAL sender or a subscription is then left out by other marks.
constexpr char kCount[] =
    "SELECT count(*) FILTER (WHERE datid IS NOT NULL AND usesysid IS NOT NULL"
    "  AND coalesce(backend_type, 'client backend') = 'client backend'"
    "  AND pid NOT IN (SELECT pid FROM pg_stat_get_wal_senders() WHERE pid IS NOT NULL)"
    "  AND pid NOT IN (SELECT pid FROM pg_stat_get_subscription(NULL) WHERE pid IS NOT NULL)),"
    " count(*) FILTER (WHERE application_name = $1 AND state = $2),"
    " count(*) FILTER (WHERE application_name = $1)"
    " FROM pg_stat_get_activity(NULL)";

// The control connection and what it knows. Opened before the fault acts, kept until it has been
// read back: once the server is full there is no other way in.
class Control {
 public:
  Control(const v1::HoldConnections& message, std::string run, std::string stamp)
      : message_(message), run_(std::move(run)), stamp_(std::move(stamp)) {}

  absl::Status Open(const Node& node, const Patience& patience) FD_EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    ASSIGN_OR_RETURN(const v1::Profile profile, node.FindProfile(message_.profile()));
    server_ = profile.postgresql();
    return Ensure(patience);
  }

  absl::StatusOr<CrowdCounts> Count(const Patience& patience) FD_EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    RETURN_IF_ERROR(Ensure(patience));
    ASSIGN_OR_RETURN(
        const PostgresRows rows,
        control_->Query(kCount, {stamp_, std::string(StateWords(message_.state()))}, patience));
    const auto number = [&](size_t column) { return std::atoi(rows[0][column]->c_str()); };
    return CrowdCounts{number(0), number(1), number(2)};
  }

  PostgresAccount account() const FD_EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    return control_.account();
  }
  PostgresFacts facts() const FD_EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    return control_.facts();
  }
  // Slots that this profile can take.
  int usable() const FD_EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    const PostgresFacts& facts = control_.facts();
    return facts.max_connections - (control_.superuser() ? 0 : facts.reserved);
  }
  void Close() FD_EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    control_.Close();
  }

 private:
  absl::Status Ensure(const Patience& patience) FD_REQUIRES(mutex_) {
    return control_.Open(
        server_, {message_.profile(), run_, message_.superuser(), PostgresKind::kTakesTheLastSlot},
        patience);
  }

  const v1::HoldConnections message_;
  const std::string run_;
  const std::string stamp_;
  mutable Mutex mutex_;
  v1::PostgresqlServer server_ FD_GUARDED_BY(mutex_);
  ServerControl<PostgresKind> control_ FD_GUARDED_BY(mutex_);
};

// What the crowd's thread is to do now.
PostgresCrowd::Need NeedOf(CrowdGoal& goal, const CrowdCounts& counts,
                           const PostgresCrowd::Figures& crowd, absl::Duration now) {
  PostgresCrowd::Need need;
  if (!goal.Goes(now)) return need;
  // Of our own sessions the server may know more than we do (those about to be ready) or fewer
  // (those it has just ended): what others have is counted there, what we have is counted here.
  const int others = counts.taken - counts.ours;
  need.missing = goal.Missing(others + crowd.held, crowd.held, crowd.opened, now);
  // The slots that may become free suddenly are those of others.
  if (goal.done()) need.spares = std::clamp(others, kFewestSpares, kMostSpares);
  need.to_the_last = !goal.counts_sessions() && goal.Wanted() == goal.usable();
  return need;
}

class HoldConnections final : public Fault, public Prepares {
 public:
  explicit HoldConnections(const v1::HoldConnections& message) : message_(message) {}

  absl::Status Validate(const Node& node) const override {
    ASSIGN_OR_RETURN(const v1::Profile profile, node.FindProfile(message_.profile()));
    RETURN_IF_ERROR(PostgresKind::ServerOf(profile).status());
    return CheckCrowdSize(message_);
  }

  absl::Status Prepare(const Context& context, Node& node) override {
    if (control_ == nullptr) {
      control_ = std::make_unique<Control>(message_, context.run, context.Stamp());
    }
    return control_->Open(node, context.patience());
  }

  absl::Status Apply(const Context& context, Node& node, Changes&) override {
    RETURN_IF_ERROR(Prepare(context, node));
    const Patience patience = context.patience();
    ASSIGN_OR_RETURN(const CrowdCounts counts, control_->Count(patience));
    const absl::Duration now = RealClock().Boot();
    const absl::Duration end = now + (context.ends_at - context.clock.Boot());
    goal_.emplace(message_, control_->usable(), counts.taken, now, end);
    RETURN_IF_ERROR(CheckCrowdGoal(*goal_));
    crowd_ = std::make_unique<PostgresCrowd>(CrowdOptions(context, end));
    const absl::Status status = AwaitFirst(
        message_, *goal_, counts.taken, [this] { return crowd_->figures(); }, patience);
    if (!status.ok()) Release();
    return status;
  }

  absl::StatusOr<v1::Observation> Observe(const Context& context, const Node&) const override {
    if (control_ == nullptr || !goal_.has_value()) {
      return absl::FailedPreconditionError("holding connections: not applied");
    }
    ASSIGN_OR_RETURN(const CrowdCounts counts, control_->Count(context.patience()));
    const PostgresCrowd::Figures crowd =
        crowd_ == nullptr ? PostgresCrowd::Figures() : crowd_->figures();
    const PostgresFacts facts = control_->facts();
    v1::Observation observation = ObserveCrowd(message_, *goal_, counts, crowd, facts.identity);
    auto& figures = *observation.mutable_figures();
    figures["max_connections"] = facts.max_connections;
    figures["reserved"] = facts.reserved;
    return observation;
  }

  void Release() override {
    crowd_.reset();
    // After Apply() the control connection is needed to look whether all is gone.
    if (!goal_.has_value()) control_.reset();
  }

  absl::Status ReadBack(const Context& context, const Node& node) const override {
    const Patience patience = context.patience();
    const auto fresh = control_ != nullptr
                           ? nullptr
                           : std::make_unique<Control>(message_, context.run, context.Stamp());
    Control& control = control_ != nullptr ? *control_ : *fresh;
    RETURN_IF_ERROR(LookUntilOk(
        [&] { return LookForOurs(control, node, context.Stamp(), patience); },
        absl::Milliseconds(10), patience, "looking whether all held sessions are gone"));
    control.Close();
    return absl::OkStatus();
  }

 private:
  PostgresCrowd::Options CrowdOptions(const Context& context, absl::Duration end) {
    PostgresCrowd::Options options;
    options.server = control_->facts().identity;
    options.account = control_->account();
    options.application_name = context.Stamp();
    options.settings = [end] {
      // In case this process hangs: the server ends the session itself, shortly after the fault's
      // end.
      const absl::Duration net =
          std::max(absl::ZeroDuration(), end - RealClock().Boot()) + kNetMargin;
      const std::string ms = absl::StrCat(absl::ToInt64Milliseconds(net));
      return PostgresSettings{{"client_connection_check_interval", kNoticeOurEnd},
                              {"statement_timeout", ms},
                              {"idle_session_timeout", ms},
                              {"idle_in_transaction_session_timeout", ms},
                              {"tcp_keepalives_idle", "5"},
                              {"tcp_keepalives_interval", "2"},
                              {"tcp_keepalives_count", "3"},
                              {"tcp_user_timeout", "10000"}};
    };
    if (message_.state() == v1::SESSION_STATE_IDLE_IN_TRANSACTION) {
      options.statement = [] { return std::string("BEGIN; SELECT 1"); };
    } else if (message_.state() == v1::SESSION_STATE_ACTIVE) {
      options.statement = [end] {
        const double seconds = absl::ToDoubleSeconds(end - RealClock().Boot()) + 0.5;
        return absl::StrCat("SELECT pg_sleep(", seconds, ")");
      };
    }
    options.need = [this](const PostgresCrowd::Figures& crowd,
                          std::stop_token stop) -> absl::StatusOr<PostgresCrowd::Need> {
      ASSIGN_OR_RETURN(const CrowdCounts counts, control_->Count(Patience(kLookTimeout, stop)));
      return NeedOf(*goal_, counts, crowd, RealClock().Boot());
    };
    return options;
  }

  static absl::Status LookForOurs(Control& control, const Node& node, absl::string_view stamp,
                                  const Patience& patience) {
    absl::Status status = control.Open(node, patience);
    // A server that is down holds no session.
    if (NobodyListens(status)) return absl::OkStatus();
    RETURN_IF_ERROR(status);
    ASSIGN_OR_RETURN(const CrowdCounts counts, control.Count(patience));
    if (counts.ours == 0) return absl::OkStatus();
    return absl::FailedPreconditionError(
        absl::StrCat(counts.ours, " sessions named ", stamp,
                     " are still there; to end them by hand: SELECT "
                     "pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '",
                     stamp, "'"));
  }

  const v1::HoldConnections message_;
  std::unique_ptr<Control> control_;
  std::optional<CrowdGoal> goal_;
  std::unique_ptr<PostgresCrowd> crowd_;
};

const FaultRegistration kHoldConnections(v1::Fault::kHoldConnections, [](const v1::Fault& fault) {
  return std::make_unique<HoldConnections>(fault.hold_connections());
});

}  // namespace
}  // namespace firedrill
