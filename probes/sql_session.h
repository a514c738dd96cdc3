// A probe's own session at a PostgreSQL server, kept open: when all slots are taken, no new one can
// be had.
#pragma once

#include <libpq-fe.h>

#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "firedrill/v1/site.pb.h"

namespace firedrill {

// One thread at a time. Never blocks beyond the given end (boot time).
class SqlSession {
 public:
  // `application_name` says whose session it is; faults count theirs by another name.
  SqlSession(v1::PostgresqlServer server, std::string application_name)
      : server_(std::move(server)), application_name_(std::move(application_name)) {}

  struct Patience {
    absl::Duration end;
    std::stop_token stop;
  };
  // The first column of the only row; no value for NULL. Connects where there is no session. A
  // statement that is not answered in time is left to end by itself (statement_timeout), so that
  // the session stays ours.
  absl::StatusOr<std::optional<std::string>> Ask(const std::string& sql,
                                                 const std::vector<std::string>& parameters,
                                                 const Patience& patience);

 private:
  struct Finish {
    void operator()(PGconn* connection) const { PQfinish(connection); }
  };
  using Result = std::unique_ptr<PGresult, decltype(&PQclear)>;

  absl::Status Connect(const Patience& patience);
  absl::Status Handshake(const Patience& patience);
  absl::Status Settle(const Patience& patience);
  absl::Status WaitFor(short events, const Patience& patience) const;
  absl::Status Flush(const Patience& patience);
  // The last result of what was sent, after all of it has arrived.
  absl::StatusOr<Result> Collect(const Patience& patience);
  absl::Status Broken(absl::string_view doing) const;
  std::string Where() const;

  const v1::PostgresqlServer server_;
  const std::string application_name_;
  std::unique_ptr<PGconn, Finish> connection_;
  // A statement was sent whose answer has not been read.
  bool outstanding_ = false;
  // Calls in a row in which the old answer did not come.
  int silent_ = 0;
};

}  // namespace firedrill
