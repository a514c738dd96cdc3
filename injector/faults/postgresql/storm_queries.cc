// storm_queries: one statement, run far more often than the server was built for.
#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "injector/fault.h"
#include "injector/os/descriptors.h"
#include "injector/os/postgres_lock.h"
#include "injector/os/postgres_storm.h"

namespace firedrill {
namespace {

// Sessions for a rate, where the definition does not say.
constexpr int kSessionsForRate = 20;
// Descriptors that this process needs for everything else.
constexpr size_t kOtherDescriptors = 128;
// The server's own time-outs end our sessions so long after the fault's end.
constexpr absl::Duration kNetMargin = absl::Seconds(1);
// A statement that cannot be run at all says so at once.
constexpr absl::Duration kFailsWithin = absl::Milliseconds(300);
// Of what is due, what must have begun for the rate to count as reached: one session's hiccup is
// not the end of a storm.
constexpr double kEnough = 0.95;

class StormQueries final : public Fault, public Prepares {
 public:
  explicit StormQueries(const v1::StormQueries& message) : message_(message) {}

  absl::Status Validate(const Node& node) const override {
    ASSIGN_OR_RETURN(const v1::Profile profile, node.FindProfile(message_.profile()));
    if (!profile.has_postgresql()) {
      return absl::InvalidArgumentError(absl::StrCat("profile ", message_.profile(),
                                                     " is no PostgreSQL server; name one that is"));
    }
    if (message_.rate() <= 0 && message_.sessions() == 0) {
      return absl::InvalidArgumentError("say how much: sessions, or a rate");
    }
    RETURN_IF_ERROR(FindPlainStatement(profile, message_.statement()).status());
    return PermitDescriptors(sessions() + kOtherDescriptors);
  }

  absl::Status Prepare(const Context& context, Node& node) override {
    return Ensure(context, node, PatienceOf(context));
  }

  absl::Status Apply(const Context& context, Node& node, Changes&) override {
    const Patience patience = PatienceOf(context);
    RETURN_IF_ERROR(Ensure(context, node, patience));
    ASSIGN_OR_RETURN(const v1::Profile profile, node.FindProfile(message_.profile()));
    PostgresStorm::Options options;
    options.account = account_;
    options.application_name = context.Stamp();
    ASSIGN_OR_RETURN(options.statement, FindPlainStatement(profile, message_.statement()));
    options.sessions = sessions();
    options.rate = message_.rate();
    options.end = RealClock().Boot() + (context.ends_at - context.clock.Boot());
    options.settings = [end = options.end, writes = message_.writes()] {
      const absl::Duration net =
          std::max(absl::ZeroDuration(), end - RealClock().Boot()) + kNetMargin;
      const std::string ms = absl::StrCat(absl::ToInt64Milliseconds(net));
      return PostgresSettings{{"client_connection_check_interval", "100"},
                              {"default_transaction_read_only", writes ? "off" : "on"},
                              {"statement_timeout", ms},
                              {"idle_session_timeout", ms},
                              {"idle_in_transaction_session_timeout", ms}};
    };
    applied_ = true;
    storm_ = std::make_unique<PostgresStorm>(std::move(options));
    const absl::Status status = AwaitFirst(patience);
    if (!status.ok()) storm_.reset();
    return status;
  }

  absl::StatusOr<v1::Observation> Observe(const Context& context, const Node& node) const override {
    if (!applied_ || storm_ == nullptr) {
      return absl::FailedPreconditionError("running statements: not applied");
    }
    const Patience patience = PatienceOf(context);
    RETURN_IF_ERROR(Ensure(context, node, patience));
    ASSIGN_OR_RETURN(
        const PostgresRows rows,
        control_->Query(
            "SELECT count(*), count(*) FILTER (WHERE state IS DISTINCT FROM 'idle') FROM "
            "pg_stat_get_activity(NULL) WHERE application_name = $1",
            {context.Stamp()}, patience));
    const int there = std::atoi(rows[0][0]->c_str());
    const PostgresStorm::Figures storm = storm_->figures();
    v1::Observation observation;
    observation.set_subject(facts_.identity);
    // Statements that all fail disturb nobody.
    const bool effect = storm.finished > 0 || storm.busy > 0;
    if (message_.rate() > 0) {
      const bool enough = storm.due_rate > 0 && storm.begun_rate >= kEnough * storm.due_rate;
      observation.set_requested(message_.rate());
      observation.set_real(enough ? message_.rate() : storm.begun_rate);
      observation.set_unit("statements/s");
      observation.set_reached(effect && enough && there > 0);
    } else {
      observation.set_requested(sessions());
      observation.set_real(there);
      observation.set_unit("sessions");
      observation.set_reached(effect && there >= sessions());
    }
    std::string detail =
        absl::StrCat(there, there == 1 ? " session runs " : " sessions run ", message_.statement(),
                     ": ", static_cast<int64_t>(storm.begun_rate), " begun and ",
                     static_cast<int64_t>(storm.answered_rate), " answered a second, median ",
                     firedrill::FormatDuration(storm.p50), ", 95th percentile ",
                     firedrill::FormatDuration(storm.p95));
    if (storm.waiting > 0) absl::StrAppend(&detail, ", ", storm.waiting, " due and not begun");
    if (!storm.errors.empty()) absl::StrAppend(&detail, "; last error: ", storm.trouble);
    observation.set_detail(detail);
    auto& figures = *observation.mutable_figures();
    figures["sessions"] = there;
    figures["active"] = std::atoi(rows[0][1]->c_str());
    figures["begun_per_second"] = storm.begun_rate;
    figures["answered_per_second"] = storm.answered_rate;
    figures["waiting"] = static_cast<double>(storm.waiting);
    figures["finished"] = static_cast<double>(storm.finished);
    figures["failed"] = static_cast<double>(storm.failed);
    figures["p50_ms"] = absl::ToDoubleMilliseconds(storm.p50);
    figures["p95_ms"] = absl::ToDoubleMilliseconds(storm.p95);
    for (const auto& [state, count] : storm.errors) {
      figures[absl::StrCat("errors_", state)] = static_cast<double>(count);
    }
    return observation;
  }

  void Release() override {
    storm_.reset();
    if (!applied_) control_.reset();
  }

  absl::Status ReadBack(const Context& context, const Node& node) const override {
    ASSIGN_OR_RETURN(const v1::Profile profile, node.FindProfile(message_.profile()));
    PostgresLock look;
    RETURN_IF_ERROR(look.AwaitNone(
        {message_.profile(), profile.postgresql(), "", message_.superuser(), context.run},
        context.Stamp(), PatienceOf(context)));
    control_.reset();
    return absl::OkStatus();
  }

 private:
  static Patience PatienceOf(const Context& context) {
    return Patience(context.deadline - context.clock.Boot(), context.stop);
  }
  int sessions() const {
    return message_.sessions() > 0 ? static_cast<int>(message_.sessions()) : kSessionsForRate;
  }

  // The control connection.
  absl::Status Ensure(const Context& context, const Node& node, const Patience& patience) const {
    if (control_ != nullptr && control_->usable()) return absl::OkStatus();
    control_.reset();
    ASSIGN_OR_RETURN(const v1::Profile profile, node.FindProfile(message_.profile()));
    ASSIGN_OR_RETURN(account_, FindAccount(profile.postgresql(), patience));
    ASSIGN_OR_RETURN(auto control,
                     OpenControl(account_, message_.profile(), context.run, patience));
    if (control->superuser() && !message_.superuser()) {
      return absl::FailedPreconditionError(absl::StrCat(
          "profile ", message_.profile(), " is the superuser ", account_.user,
          ": its sessions would also take the slots by which a person gets in to repair; use an "
          "ordinary role, or say `superuser: true`"));
    }
    ASSIGN_OR_RETURN(facts_, AskFacts(*control, patience));
    if (facts_.identity.empty()) {
      facts_.identity = absl::StrCat("postgresql/", account_.host, "/", account_.port);
    }
    control_ = std::move(control);
    return absl::OkStatus();
  }

  // A statement that fails, or a profile that gets no session, is refused with the server's words.
  absl::Status AwaitFirst(const Patience& patience) const {
    const absl::Duration begin = RealClock().Boot();
    for (;;) {
      const PostgresStorm::Figures figures = storm_->figures();
      if (figures.finished > 0) return absl::OkStatus();
      if (!figures.trouble.empty()) {
        return Annotate(absl::Status(figures.trouble_code, figures.trouble),
                        absl::StrCat("running the statement ", message_.statement(),
                                     " with profile ", message_.profile()));
      }
      // It may be slow: that it runs is enough.
      if (figures.busy > 0 && RealClock().Boot() - begin > kFailsWithin) return absl::OkStatus();
      RETURN_IF_ERROR(Annotate(patience.Check(), "running the first statement"));
      absl::SleepFor(absl::Milliseconds(2));
    }
  }

  const v1::StormQueries message_;
  std::unique_ptr<PostgresStorm> storm_;
  bool applied_ = false;
  // Opened anew where the server has ended it.
  mutable PostgresAccount account_;
  mutable PostgresFacts facts_;
  mutable std::unique_ptr<PostgresSession> control_;
};

const FaultRegistration kStormQueries(v1::Fault::kStormQueries, [](const v1::Fault& fault) {
  return std::make_unique<StormQueries>(fault.storm_queries());
});

}  // namespace
}  // namespace firedrill
