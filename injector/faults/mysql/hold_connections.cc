// hold_connections for MySQL and MariaDB. The servers have no name for a session that everybody
// could read, so each session of ours holds a lock (GET_LOCK) whose name is the fault's stamp and
// the session's own number: it ends with the session, and any session can ask who holds it.
#include <poll.h>

#include <algorithm>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/status_macros.h"
#include "injector/faults/held_crowd.h"
#include "injector/os/server_control.h"

namespace firedrill {
namespace {

// A server that runs a statement does not notice that its client is gone before the statement ends:
// a long wait is many short ones.
constexpr char kBusy[] = "DO SLEEP(0.4)";
// Between two of them a session is idle for a moment.
constexpr int kBusyGapMs = 200;
// The server makes its list of transactions anew only when nobody has read it for 0.1 s.
constexpr absl::Duration kTransactionsEvery = absl::Milliseconds(150);

class Session final : public CrowdMember {
 public:
  Session(std::unique_ptr<MysqlSession> session, v1::SessionState state)
      : session_(std::move(session)), state_(state) {}

  int fd() const override { return session_->fd(); }
  short events() const override {
    return static_cast<short>(session_->events() | (session_->ready() ? POLLIN : 0));
  }
  bool ready() const override { return ready_; }

  absl::Status Advance() override {
    if (!session_->ready()) {
      const absl::Status status = session_->Advance();
      if (!session_->ready()) return status;
    } else {
      RETURN_IF_ERROR(session_->Drain());
    }
    // A statement may be over before it has to be waited for: then nothing would wake us.
    while (session_->Quiet()) {
      if (state_ == v1::SESSION_STATE_ACTIVE) {
        ready_ = true;
        RETURN_IF_ERROR(session_->Send(kBusy));
      } else if (state_ == v1::SESSION_STATE_IDLE_IN_TRANSACTION && !begun_) {
        begun_ = true;
        // A read, too: what is changed from here on is kept for us.
        RETURN_IF_ERROR(session_->Send("START TRANSACTION WITH CONSISTENT SNAPSHOT"));
      } else {
        ready_ = true;
        break;
      }
    }
    return absl::OkStatus();
  }

 private:
  const std::unique_ptr<MysqlSession> session_;
  const v1::SessionState state_;
  bool begun_ = false;
  bool ready_ = false;
};

class MysqlCrowdServer final : public CrowdServer {
 public:
  MysqlCrowdServer(const v1::HoldConnections& message, std::string stamp)
      : message_(message), stamp_(std::move(stamp)) {}

  absl::Status Open(const v1::Profile& profile, const std::string& run,
                    const Patience& patience) override {
    return control_.Open(profile.mysql(),
                         {profile.name(), run, message_.superuser(), MysqlKind::kTakesTheLastSlot},
                         patience);
  }
  void Close() override { control_.Close(); }
  // One more is reserved.
  int usable() const override {
    return control_.facts().max_connections + (control_.superuser() ? 1 : 0);
  }

  absl::StatusOr<int> Taken(const Patience& patience) override {
    ASSIGN_OR_RETURN(const MysqlRows rows,
                     control_->Query("SHOW GLOBAL STATUS LIKE 'Threads_connected'", patience));
    if (rows.empty()) return absl::InternalError("the server does not tell Threads_connected");
    return std::atoi(rows[0][1].value_or("0").c_str());
  }

  absl::StatusOr<CrowdCounts> Count(const Patience& patience) override {
    CrowdCounts counts;
    ASSIGN_OR_RETURN(counts.taken, Taken(patience));
    const std::string held =
        absl::StrCat("IS_USED_LOCK(CONCAT(", MysqlText(stamp_ + ":"), ", ID)) = ID");
    ASSIGN_OR_RETURN(
        const MysqlRows rows,
        control_->Query(absl::StrCat("SELECT count(*), coalesce(sum(", AsAsked(),
                                     "), 0) FROM information_schema.PROCESSLIST WHERE ", held),
                        patience));
    counts.ours = Number(rows, 0);
    counts.ours_as_asked = Number(rows, 1);
    if (message_.state() != v1::SESSION_STATE_IDLE_IN_TRANSACTION || !control_.facts().sees_all) {
      return counts;
    }
    const absl::Duration now = RealClock().Boot();
    if (now - transactions_at_ >= kTransactionsEvery) {
      transactions_at_ = now;
      ASSIGN_OR_RETURN(
          const MysqlRows inside,
          control_->Query(absl::StrCat("SELECT count(*) FROM information_schema.INNODB_TRX JOIN "
                                       "information_schema.PROCESSLIST ON ID = "
                                       "trx_mysql_thread_id WHERE COMMAND = 'Sleep' AND ",
                                       held),
                          patience));
      transactions_ = Number(inside, 0);
    }
    counts.ours_as_asked = std::min(counts.ours_as_asked, transactions_);
    return counts;
  }

  std::unique_ptr<CrowdMember> Begin(absl::Duration end) override {
    // In case this process hangs: the server ends the session itself, shortly after the fault's
    // end.
    const std::string seconds =
        absl::StrCat(std::max<int64_t>(1, absl::ToInt64Seconds(end - RealClock().Boot()) + 2));
    const MysqlSettings settings{{"wait_timeout", seconds},
                                 {"idle_transaction_timeout", seconds},
                                 {"max_statement_time", seconds}};
    // The name of a lock may have 64 characters, and ours has not more.
    const std::string name =
        absl::StrCat("DO GET_LOCK(CONCAT(", MysqlText(stamp_ + ":"), ", CONNECTION_ID()), 0)");
    return std::make_unique<Session>(
        MysqlSession::Begin(control_.account(), stamp_, settings, name), message_.state());
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
  static int Number(const MysqlRows& rows, size_t column) {
    return std::atoi(rows[0][column].value_or("0").c_str());
  }

  // By the process list; whether a transaction is open is seen elsewhere, and only by an account
  // with PROCESS.
  std::string AsAsked() const {
    if (message_.state() != v1::SESSION_STATE_ACTIVE) return "COMMAND = 'Sleep'";
    return absl::StrCat("COMMAND <> 'Sleep' OR TIME_MS < ", kBusyGapMs);
  }

  const v1::HoldConnections message_;
  const std::string stamp_;
  ServerControl<MysqlKind> control_;
  int transactions_ = 0;
  // Boot time of the last look.
  absl::Duration transactions_at_ = -absl::InfiniteDuration();
};

absl::StatusOr<std::unique_ptr<CrowdServer>> MakeServer(const v1::HoldConnections& message,
                                                        const v1::Profile& profile,
                                                        const std::string& stamp) {
  RETURN_IF_ERROR(MysqlKind::ServerOf(profile).status());
  if (profile.mysql().user().empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("profile ", profile.name(), " names no user; say who opens the sessions"));
  }
  return std::make_unique<MysqlCrowdServer>(message, stamp);
}

const FaultRegistration kHoldConnections(v1::Fault::kHoldConnections, v1::PROTOCOL_MYSQL,
                                         [](const v1::Fault& fault) {
                                           return std::make_unique<HeldCrowd>(
                                               fault.hold_connections(), MakeServer);
                                         });

}  // namespace
}  // namespace firedrill
