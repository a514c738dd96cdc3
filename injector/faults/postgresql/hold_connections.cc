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
#include "injector/fault.h"
#include "injector/os/crowd_goal.h"
#include "injector/os/descriptors.h"
#include "injector/os/postgres_crowd.h"

namespace firedrill {
namespace {

// A look at the server; a healthy one answers in a millisecond.
constexpr absl::Duration kLookTimeout = absl::Milliseconds(500);
// The server's own time-outs end our sessions so long after the fault's end.
constexpr absl::Duration kNetMargin = absl::Seconds(1);
// In milliseconds: how soon the server sees that a busy session's other end is gone. Part of the
// promise that a hung injector's sessions are gone 0.1 s after the lease.
constexpr char kNoticeOurEnd[] = "100";
// Descriptors that this process needs for everything else.
constexpr size_t kOtherDescriptors = 128;
// Connections kept ready to take back what others lose.
constexpr int kFewestSpares = 2;
constexpr int kMostSpares = 16;

absl::string_view ServerState(v1::SessionState state) {
  switch (state) {
    case v1::SESSION_STATE_IDLE_IN_TRANSACTION:
      return "idle in transaction";
    case v1::SESSION_STATE_ACTIVE:
      return "active";
    default:
      return "idle";
  }
}

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

struct Counts {
  int taken = 0;
  int ours_as_asked = 0;
  int ours = 0;
};

// The control connection and what it knows. Opened before the fault acts, kept until it has been
// read back: once the server is full there is no other way in.
class Control {
 public:
  Control(const v1::HoldConnections& message, std::string run, std::string stamp)
      : message_(message), run_(std::move(run)), stamp_(std::move(stamp)) {}

  absl::Status Open(const Node& node, const Patience& patience) FD_EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    ASSIGN_OR_RETURN(const v1::Profile profile, node.FindProfile(message_.profile()));
    if (account_.host.empty()) {
      ASSIGN_OR_RETURN(account_, FindAccount(profile.postgresql(), patience));
    }
    return Ensure(patience);
  }

  absl::StatusOr<Counts> Count(const Patience& patience) FD_EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    RETURN_IF_ERROR(Ensure(patience));
    ASSIGN_OR_RETURN(
        const PostgresRows rows,
        session_->Query(kCount, {stamp_, std::string(ServerState(message_.state()))}, patience));
    const auto number = [&](size_t column) { return std::atoi(rows[0][column]->c_str()); };
    return Counts{number(0), number(1), number(2)};
  }

  PostgresAccount account() const FD_EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    return account_;
  }
  PostgresFacts facts() const FD_EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    return facts_;
  }
  // Slots that this profile can take.
  int usable() const FD_EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    return facts_.max_connections - (superuser_ ? 0 : facts_.reserved);
  }
  void Close() FD_EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    session_.reset();
  }

 private:
  absl::Status Ensure(const Patience& patience) FD_REQUIRES(mutex_) {
    if (session_ != nullptr && session_->usable()) return absl::OkStatus();
    session_.reset();
    ASSIGN_OR_RETURN(auto session, OpenControl(account_, message_.profile(), run_, patience));
    if (session->superuser() && !message_.superuser()) {
      return absl::FailedPreconditionError(absl::StrCat(
          "profile ", message_.profile(), " is the superuser ", account_.user,
          ": its sessions would also take the slots by which a person gets in to repair; use an "
          "ordinary role, or say `superuser: true`"));
    }
    ASSIGN_OR_RETURN(facts_, AskFacts(*session, patience));
    if (facts_.identity.empty()) {
      facts_.identity = absl::StrCat("postgresql/", account_.host, "/", account_.port);
    }
    superuser_ = session->superuser();
    session_ = std::move(session);
    return absl::OkStatus();
  }

  const v1::HoldConnections message_;
  const std::string run_;
  const std::string stamp_;
  mutable Mutex mutex_;
  PostgresAccount account_ FD_GUARDED_BY(mutex_);
  PostgresFacts facts_ FD_GUARDED_BY(mutex_);
  bool superuser_ FD_GUARDED_BY(mutex_) = false;
  std::unique_ptr<PostgresSession> session_ FD_GUARDED_BY(mutex_);
};

// What the crowd's thread is to do now.
PostgresCrowd::Need NeedOf(CrowdGoal& goal, const Counts& counts,
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
    if (!profile.has_postgresql()) {
      return absl::InvalidArgumentError(absl::StrCat("profile ", message_.profile(),
                                                     " is no PostgreSQL server; name one that is"));
    }
    if (message_.size_case() == v1::HoldConnections::SIZE_NOT_SET) {
      return absl::InvalidArgumentError("say how many: count, fillTo or leaveFree");
    }
    return PermitDescriptors(message_.count() + kOtherDescriptors);
  }

  absl::Status Prepare(const Context& context, Node& node) override {
    if (control_ == nullptr) {
      control_ = std::make_unique<Control>(message_, context.run, context.Stamp());
    }
    return control_->Open(node, PatienceOf(context));
  }

  absl::Status Apply(const Context& context, Node& node, Changes&) override {
    RETURN_IF_ERROR(Prepare(context, node));
    const Patience patience = PatienceOf(context);
    ASSIGN_OR_RETURN(const Counts counts, control_->Count(patience));
    const absl::Duration now = RealClock().Boot();
    const absl::Duration end = now + (context.ends_at - context.clock.Boot());
    goal_.emplace(message_, control_->usable(), counts.taken, now, end);
    RETURN_IF_ERROR(goal_->Check());
    RETURN_IF_ERROR(PermitDescriptors(goal_->Wanted() + kOtherDescriptors));
    crowd_ = std::make_unique<PostgresCrowd>(CrowdOptions(context, end));
    const absl::Status status = AwaitFirst(counts, patience);
    if (!status.ok()) Release();
    return status;
  }

  absl::StatusOr<v1::Observation> Observe(const Context& context, const Node&) const override {
    if (control_ == nullptr || !goal_.has_value()) {
      return absl::FailedPreconditionError("holding connections: not applied");
    }
    ASSIGN_OR_RETURN(const Counts counts, control_->Count(PatienceOf(context)));
    const PostgresCrowd::Figures crowd =
        crowd_ == nullptr ? PostgresCrowd::Figures() : crowd_->figures();
    const PostgresFacts facts = control_->facts();
    const int real = goal_->counts_sessions() ? counts.ours_as_asked : counts.taken;
    v1::Observation observation;
    observation.set_requested(goal_->Wanted());
    observation.set_real(real);
    observation.set_unit(goal_->counts_sessions() ? "sessions" : "usable slots");
    observation.set_reached(real >= goal_->Wanted() && counts.ours_as_asked == counts.ours);
    observation.set_subject(facts.identity);
    std::string detail =
        absl::StrCat(counts.taken, " of ", control_->usable(), " usable slots taken, ",
                     counts.ours_as_asked, " by this fault (", ServerState(message_.state()), ")");
    if (!crowd.trouble.empty() && !observation.reached()) {
      absl::StrAppend(&detail, "; last: ", crowd.trouble);
    }
    observation.set_detail(detail);
    auto& figures = *observation.mutable_figures();
    figures["held"] = counts.ours_as_asked;
    figures["taken"] = counts.taken;
    figures["usable"] = control_->usable();
    figures["max_connections"] = facts.max_connections;
    figures["reserved"] = facts.reserved;
    figures["opened"] = static_cast<double>(crowd.opened);
    figures["lost"] = static_cast<double>(crowd.lost);
    figures["refused"] = static_cast<double>(crowd.refused);
    return observation;
  }

  void Release() override {
    crowd_.reset();
    // After Apply() the control connection is needed to look whether all is gone.
    if (!goal_.has_value()) control_.reset();
  }

  absl::Status ReadBack(const Context& context, const Node& node) const override {
    const Patience patience = PatienceOf(context);
    const auto fresh = control_ != nullptr
                           ? nullptr
                           : std::make_unique<Control>(message_, context.run, context.Stamp());
    Control& control = control_ != nullptr ? *control_ : *fresh;
    absl::Status last;
    do {
      const absl::Status seen = LookForOurs(control, node, context.Stamp(), patience);
      if (seen.ok()) {
        control.Close();
        return seen;
      }
      // What was seen says more than that the last look took too long.
      if (last.ok() || !absl::IsDeadlineExceeded(seen)) last = seen;
      absl::SleepFor(absl::Milliseconds(10));
    } while (patience.Check().ok());
    return Annotate(last, "looking whether all held sessions are gone");
  }

 private:
  static Patience PatienceOf(const Context& context) {
    return Patience(context.deadline - context.clock.Boot(), context.stop);
  }

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
      ASSIGN_OR_RETURN(const Counts counts, control_->Count(Patience(kLookTimeout, stop)));
      return NeedOf(*goal_, counts, crowd, RealClock().Boot());
    };
    return options;
  }

  // A profile that cannot open even one session is refused here, with the server's own words. A
  // server that others have filled already is no failure: the observation says how full it is.
  absl::Status AwaitFirst(const Counts& before, const Patience& patience) const {
    if (!goal_->counts_sessions() && before.taken >= goal_->Wanted()) return absl::OkStatus();
    for (;;) {
      const PostgresCrowd::Figures figures = crowd_->figures();
      if (figures.opened > 0 || figures.refused > 0) return absl::OkStatus();
      if (!figures.trouble.empty()) {
        return Annotate(absl::Status(figures.trouble_code, figures.trouble),
                        absl::StrCat("holding connections with profile ", message_.profile()));
      }
      RETURN_IF_ERROR(Annotate(patience.Check(), "opening the first session"));
      absl::SleepFor(absl::Milliseconds(1));
    }
  }

  static absl::Status LookForOurs(Control& control, const Node& node, absl::string_view stamp,
                                  const Patience& patience) {
    absl::Status status = control.Open(node, patience);
    // A server that is down holds no session.
    if (NobodyListens(status)) return absl::OkStatus();
    RETURN_IF_ERROR(status);
    ASSIGN_OR_RETURN(const Counts counts, control.Count(patience));
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
