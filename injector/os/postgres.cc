// The door to PostgreSQL, over libpq's asynchronous calls.
#include "injector/os/postgres.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/clock.h"
#include "base/resolve.h"
#include "base/secret.h"
#include "base/status_macros.h"
#include "base/text.h"

namespace firedrill {
namespace {

constexpr char kSqlStatePayload[] = "firedrill/sqlstate";
constexpr char kNobodyPayload[] = "firedrill/nobody-listens";
// How long a blocking call goes on before it looks at the stop token again.
constexpr absl::Duration kLook = absl::Milliseconds(20);
// A host's addresses beyond these are not tried.
constexpr size_t kMostAddresses = 4;
// Sessions need idle_session_timeout and client_connection_check_interval, without which a hung
// injector would hold them for ever.
constexpr int kOldestServer = 140000;

absl::StatusCode CodeOf(absl::string_view sql_state) {
  if (sql_state == kTooManyConnections) return absl::StatusCode::kResourceExhausted;
  if (absl::StartsWith(sql_state, "28") || sql_state == "42501") {
    return absl::StatusCode::kPermissionDenied;
  }
  if (sql_state == "3D000") return absl::StatusCode::kNotFound;
  if (absl::StartsWith(sql_state, "57P") || absl::StartsWith(sql_state, "08")) {
    return absl::StatusCode::kUnavailable;
  }
  return sql_state.empty() ? absl::StatusCode::kUnavailable : absl::StatusCode::kInternal;
}

absl::Status ServerError(absl::string_view sql_state, absl::string_view message) {
  absl::Status status(CodeOf(sql_state), absl::StrCat(message, " (SQLSTATE ", sql_state, ")"));
  status.SetPayload(kSqlStatePayload, absl::Cord(sql_state));
  return status;
}

absl::Status ErrorOf(const PGresult* result) {
  const char* state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
  const char* message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
  if (state == nullptr || message == nullptr) {
    return absl::UnavailableError(absl::StripAsciiWhitespace(PQresultErrorMessage(result)));
  }
  return ServerError(state, message);
}

// Like Annotate(), keeping what SqlState() and NobodyListens() need.
absl::Status InContext(const absl::Status& status, absl::string_view before,
                       absl::string_view after) {
  absl::Status longer(status.code(), absl::StrCat(before, ": ", status.message(), after));
  status.ForEachPayload(
      [&](absl::string_view type, const absl::Cord& payload) { longer.SetPayload(type, payload); });
  return longer;
}

// Says what a person can do about a session that could not be opened.
std::string Advice(const absl::Status& status) {
  const std::string state = SqlState(status);
  if (NobodyListens(status)) return "; check that the server runs and the profile's host and port";
  if (state == kTooManyConnections) {
    return "; the server was full before this fault began, or the role's own limit is reached";
  }
  if (absl::StartsWith(state, "28")) {
    return "; check the profile's user and password, and the server's pg_hba.conf";
  }
  if (state == "3D000") return "; check the profile's database";
  if (status.code() == absl::StatusCode::kDeadlineExceeded) {
    return "; the server accepts connections but does not answer: check that it is not hung";
  }
  return "; check the profile and the server's log";
}

int CountOf(absl::string_view text, absl::string_view word) {
  int count = 0;
  for (size_t at = text.find(word); at != absl::string_view::npos; at = text.find(word, at + 1)) {
    ++count;
  }
  return count;
}

// libpq gives the SQLSTATE of a refused connection only inside its verbose text:
// `... failed: FATAL:  28P01: password authentication failed ...\nLOCATION:  auth_failed, ...`.
absl::Status ParseConnectionError(absl::string_view text) {
  std::vector<absl::string_view> lines;
  for (absl::string_view line : absl::StrSplit(text, '\n', absl::SkipWhitespace())) {
    if (!absl::StartsWith(line, "LOCATION:")) lines.push_back(absl::StripAsciiWhitespace(line));
  }
  const std::string message = absl::StrJoin(lines, "; ");
  for (size_t at = message.find(":  "); at != std::string::npos; at = message.find(":  ", at + 1)) {
    const absl::string_view rest = absl::string_view(message).substr(at + 3);
    if (rest.size() < 7 || rest.substr(5, 2) != ": ") continue;
    const absl::string_view state = rest.substr(0, 5);
    const bool code = std::all_of(state.begin(), state.end(), [](char c) {
      return absl::ascii_isdigit(c) || absl::ascii_isupper(c);
    });
    if (code) return ServerError(state, rest.substr(7));
  }
  absl::Status status = absl::UnavailableError(message);
  // A name with several addresses is down only when none of them answers.
  const int tried = CountOf(message, " failed: ");
  const int nobody =
      CountOf(message, std::strerror(ECONNREFUSED)) + CountOf(message, std::strerror(ENOENT));
  if (tried > 0 && tried == nobody) status.SetPayload(kNobodyPayload, absl::Cord("1"));
  return status;
}

}  // namespace

std::string PostgresAccount::Name() const {
  return absl::StrCat(host, absl::StartsWith(host, "/") ? "/.s.PGSQL." : ":", port, " as ", user);
}

absl::StatusOr<PostgresAccount> FindAccount(const v1::PostgresqlServer& server,
                                            const Patience& patience) {
  PostgresAccount account;
  account.host = server.host();
  if (server.port() != 0) account.port = server.port();
  account.user = server.user();
  account.database = server.database();
  account.ssl_mode = server.ssl_mode();
  ASSIGN_OR_RETURN(account.password, ResolveSecret(server.password()));
  // libpq would resolve the name while connecting, and block beyond any deadline.
  if (!absl::StartsWith(account.host, "/")) {
    auto addresses = ResolveHost(account.host, patience.Left(), patience.stop());
    if (!addresses.ok()) return InContext(addresses.status(), "the profile's host", "");
    account.addresses = *std::move(addresses);
    if (account.addresses.size() > kMostAddresses) account.addresses.resize(kMostAddresses);
  }
  return account;
}

std::string SqlState(const absl::Status& status) {
  const auto payload = status.GetPayload(kSqlStatePayload);
  return payload.has_value() ? std::string(*payload) : std::string();
}

bool NobodyListens(const absl::Status& status) {
  return status.GetPayload(kNobodyPayload).has_value();
}

std::unique_ptr<PostgresSession> PostgresSession::Begin(const PostgresAccount& account,
                                                        const std::string& application_name,
                                                        const PostgresSettings& settings) {
  std::string hosts = account.host;
  for (size_t i = 1; i < account.addresses.size(); ++i) absl::StrAppend(&hosts, ",", account.host);
  const std::string addresses = absl::StrJoin(account.addresses, ",");
  const std::string port = absl::StrCat(account.port);
  std::string options;
  for (const auto& [name, value] : settings)
    absl::StrAppend(&options, "-c ", name, "=", value, " ");
  const std::vector<std::pair<const char*, std::string>> parameters = {
      {"host", hosts},
      {"hostaddr", addresses},
      {"port", port},
      {"user", account.user},
      {"dbname", account.database},
      {"password", account.password},
      {"sslmode", account.ssl_mode},
      {"application_name", application_name},
      {"options", options},
      // Without these the environment of the injector would decide.
      {"gssencmode", "disable"},
      {"target_session_attrs", "any"},
      {"client_encoding", "UTF8"},
      {"keepalives_idle", "5"},
      {"keepalives_interval", "2"},
      {"keepalives_count", "3"},
      {"tcp_user_timeout", "10000"}};
  std::vector<const char*> keys, values;
  for (const auto& [key, value] : parameters) {
    if (value.empty()) continue;
    keys.push_back(key);
    values.push_back(value.c_str());
  }
  keys.push_back(nullptr);
  values.push_back(nullptr);
  auto* connection = PQconnectStartParams(keys.data(), values.data(), /*expand_dbname=*/0);
  std::unique_ptr<PostgresSession> session(new PostgresSession(connection));
  PQsetErrorVerbosity(connection, PQERRORS_VERBOSE);
  PQsetNoticeReceiver(connection, &PostgresSession::Hear, session.get());
  session->events_ = POLLOUT;
  return session;
}

absl::StatusOr<std::unique_ptr<PostgresSession>> PostgresSession::Open(
    const PostgresAccount& account, const std::string& application_name,
    const PostgresSettings& settings, const Patience& patience) {
  auto session = Begin(account, application_name, settings);
  RETURN_IF_ERROR(session->Connect(patience));
  return session;
}

absl::Status PostgresSession::Connect(const Patience& patience) {
  if (PQstatus(connection_.get()) == CONNECTION_BAD) return ConnectionError();
  while (!ready_) {
    RETURN_IF_ERROR(patience.Check());
    pollfd wait{fd(), events_, 0};
    const auto length = std::min(kLook, patience.Left());
    const int ready = poll(&wait, 1, static_cast<int>(absl::ToInt64Milliseconds(length)) + 1);
    if (ready > 0) RETURN_IF_ERROR(Advance());
  }
  return absl::OkStatus();
}

// A session that is ended between two statements is told so by a notice.
void PostgresSession::Hear(void* session, const PGresult* notice) {
  const char* severity = PQresultErrorField(notice, PG_DIAG_SEVERITY_NONLOCALIZED);
  if (severity == nullptr || absl::string_view(severity) != "FATAL") return;
  static_cast<PostgresSession*>(session)->last_words_ = ErrorOf(notice);
}

absl::Status PostgresSession::ConnectionError() const {
  if (!last_words_.ok()) return last_words_;
  return ParseConnectionError(PQerrorMessage(connection_.get()));
}

absl::Status PostgresSession::Advance() {
  if (ready_) return absl::OkStatus();
  switch (PQconnectPoll(connection_.get())) {
    case PGRES_POLLING_READING:
      events_ = POLLIN;
      return absl::OkStatus();
    case PGRES_POLLING_WRITING:
      events_ = POLLOUT;
      return absl::OkStatus();
    case PGRES_POLLING_OK:
      PQsetnonblocking(connection_.get(), 1);
      events_ = POLLIN;
      ready_ = true;
      return absl::OkStatus();
    default:
      broken_ = true;
      return ConnectionError();
  }
}

absl::Status PostgresSession::Send(const std::string& sql) {
  if (PQsendQuery(connection_.get(), sql.c_str()) == 0) {
    broken_ = true;
    return ConnectionError();
  }
  busy_ = true;
  // Or a large answer would be kept whole until its end.
  PQsetSingleRowMode(connection_.get());
  // What does not fit now goes out with the next Drain().
  if (PQflush(connection_.get()) < 0) {
    broken_ = true;
    return ConnectionError();
  }
  return absl::OkStatus();
}

absl::Status PostgresSession::Drain() {
  PGconn* connection = connection_.get();
  const bool alive = PQflush(connection) >= 0 && PQconsumeInput(connection) == 1;
  absl::Status failure;
  while (PQisBusy(connection) == 0 && busy_) {
    const std::unique_ptr<PGresult, decltype(&PQclear)> result(PQgetResult(connection), PQclear);
    if (result == nullptr) {
      busy_ = false;
      break;
    }
    const ExecStatusType kind = PQresultStatus(result.get());
    if (failure.ok() && (kind == PGRES_FATAL_ERROR || kind == PGRES_BAD_RESPONSE)) {
      failure = ErrorOf(result.get());
    }
  }
  if (!failure.ok()) return failure;
  if (alive && PQstatus(connection) == CONNECTION_OK) return absl::OkStatus();
  broken_ = true;
  if (!last_words_.ok()) return last_words_;
  return absl::UnavailableError("the server closed the session");
}

absl::Status PostgresSession::Flush(const Patience& patience) {
  for (;;) {
    const int left = PQflush(connection_.get());
    if (left == 0) return absl::OkStatus();
    if (left < 0) return ConnectionError();
    RETURN_IF_ERROR(patience.Check());
    pollfd wait{fd(), POLLIN | POLLOUT, 0};
    poll(&wait, 1, static_cast<int>(absl::ToInt64Milliseconds(kLook)));
    if ((wait.revents & POLLIN) != 0 && PQconsumeInput(connection_.get()) == 0) {
      return ConnectionError();
    }
  }
}

absl::StatusOr<PostgresRows> PostgresSession::Query(const std::string& sql,
                                                    const std::vector<std::string>& parameters,
                                                    const Patience& patience) {
  if (!usable()) return absl::FailedPreconditionError("the session is unusable");
  // Until the last answer has come, whatever ends this call leaves the session unusable.
  broken_ = true;
  PGconn* connection = connection_.get();
  std::string& name = prepared_[sql];
  if (name.empty()) {
    const std::string fresh = absl::StrCat("s", prepared_.size());
    if (PQsendPrepare(connection, fresh.c_str(), sql.c_str(), 0, nullptr) == 0) {
      return ConnectionError();
    }
    RETURN_IF_ERROR(Collect(patience).status());
    name = fresh;
    broken_ = true;
  }
  std::vector<const char*> values;
  for (const std::string& parameter : parameters) values.push_back(parameter.c_str());
  if (PQsendQueryPrepared(connection, name.c_str(), static_cast<int>(values.size()), values.data(),
                          nullptr, nullptr, 0) == 0) {
    return ConnectionError();
  }
  return Collect(patience);
}

absl::StatusOr<PostgresRows> PostgresSession::Collect(const Patience& patience) {
  PGconn* connection = connection_.get();
  RETURN_IF_ERROR(Flush(patience));
  absl::Status failure;
  PostgresRows rows;
  for (;;) {
    while (PQisBusy(connection) != 0) {
      RETURN_IF_ERROR(patience.Check());
      pollfd wait{fd(), POLLIN, 0};
      const auto length = std::min(kLook, patience.Left());
      poll(&wait, 1, static_cast<int>(absl::ToInt64Milliseconds(length)) + 1);
      if (wait.revents != 0 && PQconsumeInput(connection) == 0) return ConnectionError();
    }
    const std::unique_ptr<PGresult, decltype(&PQclear)> result(PQgetResult(connection), PQclear);
    if (result == nullptr) break;
    const ExecStatusType kind = PQresultStatus(result.get());
    tag_ = PQcmdStatus(result.get());
    // There is nobody here to take or to give the data, and libpq would tell of it for ever.
    if (kind == PGRES_COPY_IN || kind == PGRES_COPY_OUT || kind == PGRES_COPY_BOTH) {
      return absl::InvalidArgumentError("COPY from or to the client is not possible here");
    }
    if (kind == PGRES_TUPLES_OK) {
      for (int row = 0; row < PQntuples(result.get()); ++row) {
        rows.emplace_back();
        for (int column = 0; column < PQnfields(result.get()); ++column) {
          if (PQgetisnull(result.get(), row, column) != 0) {
            rows.back().emplace_back();
          } else {
            rows.back().emplace_back(PQgetvalue(result.get(), row, column));
          }
        }
      }
    } else if (kind != PGRES_COMMAND_OK && failure.ok()) {
      failure = ErrorOf(result.get());
    }
  }
  broken_ = PQstatus(connection) != CONNECTION_OK;
  if (!failure.ok()) return failure;
  return rows;
}

bool PostgresSession::superuser() const {
  const char* value = PQparameterStatus(connection_.get(), "is_superuser");
  return value != nullptr && absl::string_view(value) == "on";
}

absl::StatusOr<PostgresFacts> AskFacts(PostgresSession& session, const Patience& patience) {
  const auto rows = session.Query(
      "SELECT current_setting('max_connections'),"
      " current_setting('superuser_reserved_connections')::int"
      " + coalesce(current_setting('reserved_connections', true), '0')::int,"
      " current_setting('port'),"
      " has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE'),"
      " pg_has_role('pg_read_all_stats', 'USAGE')",
      {}, patience);
  if (!rows.ok()) return InContext(rows.status(), "asking the server for its limits", "");
  const auto& row = rows->at(0);
  PostgresFacts facts;
  facts.max_connections = std::atoi(row[0]->c_str());
  facts.reserved = std::atoi(row[1]->c_str());
  facts.sees_all = *row[4] == "t";
  if (*row[3] == "t") {
    const auto identifier =
        session.Query("SELECT system_identifier FROM pg_control_system()", {}, patience);
    if (!identifier.ok()) return identifier.status();
    facts.identity = absl::StrCat("postgresql/", *identifier->at(0)[0], "/", *row[2]);
  }
  return facts;
}

absl::StatusOr<std::unique_ptr<PostgresSession>> OpenControl(const PostgresAccount& account,
                                                             absl::string_view profile,
                                                             absl::string_view run,
                                                             const Patience& patience) {
  const std::string what =
      absl::StrCat("opening the control connection of profile ", profile, " to ", account.Name());
  auto session =
      PostgresSession::Open(account, absl::StrCat("firedrill-control:", run),
                            {{"statement_timeout", "5000"}, {"TimeZone", "UTC"}}, patience);
  if (!session.ok()) return InContext(session.status(), what, Advice(session.status()));
  if ((*session)->server_version() < kOldestServer) {
    return absl::FailedPreconditionError(
        absl::StrCat(what, ": this is PostgreSQL ", (*session)->server_version() / 10000,
                     ", which has no idle_session_timeout to end our sessions if this process "
                     "hangs; use a server of version 14 or newer"));
  }
  return session;
}

}  // namespace firedrill
