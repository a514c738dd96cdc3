// storm_queries for MariaDB: one statement, run far more often than the server was built for. The
// server has no name for a session that everybody could read, so each session of ours holds a lock
// (GET_LOCK) whose name is the fault's stamp and the session's own number.
#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/status_macros.h"
#include "injector/faults/query_storm.h"
#include "injector/os/server_control.h"

namespace firedrill {
namespace {

// The server does not notice that a client is gone while it runs its statement. So no statement may
// last longer than a fault may outlive us.
constexpr char kLongestStatement[] = "1";
// The server's own time-outs end our sessions so long after the fault's end.
constexpr int64_t kNetMarginSeconds = 2;

std::string ErrorCode(const absl::Status& status) {
  const int error = MysqlError(status);
  return error == 0 ? "" : absl::StrCat(error);
}

class MysqlStormServer final : public StormServer {
 public:
  MysqlStormServer(const v1::StormQueries& message, std::string stamp)
      : message_(message), stamp_(std::move(stamp)) {}

  absl::Status Open(const v1::Profile& profile, const std::string& run,
                    const Patience& patience) override {
    return control_.Open(profile.mysql(),
                         {profile.name(), run, message_.superuser(), MysqlKind::kTakesTheLastSlot},
                         patience);
  }

  absl::StatusOr<StormCounts> Count(const Patience& patience) override {
    ASSIGN_OR_RETURN(
        const MysqlRows rows,
        control_->Query(absl::StrCat("SELECT count(*), coalesce(sum(COMMAND <> 'Sleep'), 0) FROM "
                                     "information_schema.PROCESSLIST WHERE IS_USED_LOCK(CONCAT(",
                                     MysqlText(stamp_ + ":"), ", ID)) = ID"),
                        patience));
    return StormCounts{std::atoi(rows[0][0].value_or("0").c_str()),
                       std::atoi(rows[0][1].value_or("0").c_str())};
  }

  std::function<std::unique_ptr<StormSession>()> Sessions(absl::Duration end) const override {
    return [account = control_.account(), stamp = stamp_, end, writes = message_.writes()] {
      const std::string seconds = absl::StrCat(
          std::max<int64_t>(1, absl::ToInt64Seconds(end - RealClock().Boot()) + kNetMarginSeconds));
      using Session = StormSessionOf<MysqlSession, ErrorCode>;
      return std::make_unique<Session>(MysqlSession::Begin(
          account, stamp,
          {{"wait_timeout", seconds},
           {"idle_transaction_timeout", seconds},
           {"max_statement_time", kLongestStatement},
           {"tx_read_only", writes ? "OFF" : "ON"}},
          absl::StrCat("DO GET_LOCK(CONCAT(", MysqlText(stamp + ":"), ", CONNECTION_ID()), 0)")));
    };
  }

  std::string identity() const override { return control_.facts().identity; }
  bool Down(const absl::Status& status) const override { return MysqlNobodyListens(status); }
  std::string ByHand() const override {
    return absl::StrCat(
        "to end them by hand, KILL each: SELECT ID FROM "
        "information_schema.PROCESSLIST WHERE IS_USED_LOCK(CONCAT('",
        stamp_, ":', ID)) = ID");
  }

 private:
  const v1::StormQueries message_;
  const std::string stamp_;
  ServerControl<MysqlKind> control_;
};

absl::StatusOr<std::unique_ptr<StormServer>> MakeServer(const v1::StormQueries& message,
                                                        const v1::Profile& profile,
                                                        const std::string& stamp) {
  RETURN_IF_ERROR(MysqlKind::ServerOf(profile).status());
  return std::make_unique<MysqlStormServer>(message, stamp);
}

const FaultRegistration kStormQueries(v1::Fault::kStormQueries, v1::PROTOCOL_MYSQL,
                                      [](const v1::Fault& fault) {
                                        return std::make_unique<QueryStorm>(fault.storm_queries(),
                                                                            MakeServer);
                                      });

}  // namespace
}  // namespace firedrill
