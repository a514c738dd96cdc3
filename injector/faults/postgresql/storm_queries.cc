// storm_queries for PostgreSQL: one statement, run far more often than the server was built for.
#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/clock.h"
#include "base/status_macros.h"
#include "injector/faults/query_storm.h"
#include "injector/os/server_control.h"

namespace firedrill {
namespace {

// The server's own time-outs end our sessions so long after the fault's end.
constexpr absl::Duration kNetMargin = absl::Seconds(1);

std::string NetMs(absl::Duration left) {
  return absl::StrCat(absl::ToInt64Milliseconds(std::max(absl::ZeroDuration(), left) + kNetMargin));
}

class PostgresStormServer final : public StormServer {
 public:
  PostgresStormServer(const v1::StormQueries& message, std::string stamp)
      : message_(message), stamp_(std::move(stamp)) {}

  absl::Status Open(const v1::Profile& profile, const std::string& run,
                    const Patience& patience) override {
    return control_.Open(
        profile.postgresql(),
        {profile.name(), run, message_.superuser(), PostgresKind::kTakesTheLastSlot}, patience);
  }

  absl::StatusOr<StormCounts> Count(const Patience& patience) override {
    ASSIGN_OR_RETURN(
        const PostgresRows rows,
        control_->Query(
            "SELECT count(*), count(*) FILTER (WHERE state IS DISTINCT FROM 'idle') FROM "
            "pg_stat_get_activity(NULL) WHERE application_name = $1",
            {stamp_}, patience));
    return StormCounts{std::atoi(rows[0][0]->c_str()), std::atoi(rows[0][1]->c_str())};
  }

  std::function<std::unique_ptr<StormSession>()> Sessions(absl::Duration end) const override {
    return [account = control_.account(), stamp = stamp_, end, writes = message_.writes()] {
      // What ends at one instant is shorter for a session that comes later.
      const std::string ms = NetMs(end - RealClock().Boot());
      using Session = StormSessionOf<PostgresSession, SqlState>;
      return std::make_unique<Session>(
          PostgresSession::Begin(account, stamp,
                                 {{"client_connection_check_interval", "100"},
                                  {"default_transaction_read_only", writes ? "off" : "on"},
                                  {"statement_timeout", ms},
                                  {"idle_session_timeout", ms},
                                  {"idle_in_transaction_session_timeout", ms}}));
    };
  }

  std::function<std::string(absl::Duration left)> Limit() const override {
    return [](absl::Duration left) {
      std::vector<std::string> settings;
      for (const char* name :
           {"statement_timeout", "idle_session_timeout", "idle_in_transaction_session_timeout"}) {
        settings.push_back(absl::StrCat("set_config('", name, "', '", NetMs(left), "', false)"));
      }
      return absl::StrCat("SELECT ", absl::StrJoin(settings, ", "));
    };
  }

  std::string identity() const override { return control_.facts().identity; }
  bool Down(const absl::Status& status) const override { return NobodyListens(status); }
  std::string ByHand() const override {
    return absl::StrCat(
        "to end them by hand: SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE "
        "application_name = '",
        stamp_, "'");
  }

 private:
  const v1::StormQueries message_;
  const std::string stamp_;
  ServerControl<PostgresKind> control_;
};

absl::StatusOr<std::unique_ptr<StormServer>> MakeServer(const v1::StormQueries& message,
                                                        const v1::Profile& profile,
                                                        const std::string& stamp) {
  RETURN_IF_ERROR(PostgresKind::ServerOf(profile).status());
  return std::make_unique<PostgresStormServer>(message, stamp);
}

const FaultRegistration kStormQueries(v1::Fault::kStormQueries, [](const v1::Fault& fault) {
  return std::make_unique<QueryStorm>(fault.storm_queries(), MakeServer);
});

}  // namespace
}  // namespace firedrill
