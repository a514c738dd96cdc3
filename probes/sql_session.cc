// libpq without blocking: connect, send, collect, each within the patience of the question.
#include "probes/sql_session.h"

#include <poll.h>

#include <cerrno>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/clock.h"
#include "base/resolve.h"
#include "base/secret.h"
#include "base/status_macros.h"
#include "base/text.h"

namespace firedrill {
namespace {

// How soon a stop is noticed.
constexpr absl::Duration kLook = absl::Milliseconds(20);
// After so many questions without an answer to the old one, the session is given up.
constexpr int kMostSilent = 3;
// A question whose asker is gone or has given up must not run on in the server.
constexpr char kSettings[] =
    "SET statement_timeout = '10s'; SET lock_timeout = '5s'; SET default_transaction_read_only = "
    "on";
// PostgreSQL 14 and later.
constexpr char kCheckSetting[] = "SET client_connection_check_interval = 250";

absl::Duration Left(const SqlSession::Patience& patience) {
  return patience.end - RealClock().Boot();
}

}  // namespace

std::string SqlSession::Where() const {
  return absl::StrCat(server_.host(), ":", server_.port() == 0 ? 5432 : server_.port(), " as ",
                      server_.user());
}

absl::Status SqlSession::Broken(absl::string_view doing) const {
  std::string why(absl::StripAsciiWhitespace(PQerrorMessage(connection_.get())));
  if (why.empty()) why = "the connection is gone";
  return absl::UnavailableError(absl::StrCat(doing, " ", Where(), ": ", why));
}

absl::Status SqlSession::WaitFor(short events, const Patience& patience) const {
  while (true) {
    if (patience.stop.stop_requested()) return absl::CancelledError("stopped");
    const absl::Duration left = Left(patience);
    if (left <= absl::ZeroDuration()) {
      return absl::DeadlineExceededError(absl::StrCat("no answer in time from ", Where()));
    }
    pollfd wait{PQsocket(connection_.get()), events, 0};
    const auto millis = absl::ToInt64Milliseconds(std::min(left, kLook)) + 1;
    const int ready = poll(&wait, 1, static_cast<int>(millis));
    if (ready > 0) return absl::OkStatus();
    if (ready < 0 && errno != EINTR) return absl::ErrnoToStatus(errno, "poll");
  }
}

absl::Status SqlSession::Handshake(const Patience& patience) {
  if (PQstatus(connection_.get()) == CONNECTION_BAD) return Broken("connecting to");
  PostgresPollingStatusType next = PGRES_POLLING_WRITING;
  while (next != PGRES_POLLING_OK) {
    if (next == PGRES_POLLING_FAILED) return Broken("connecting to");
    RETURN_IF_ERROR(WaitFor(next == PGRES_POLLING_READING ? POLLIN : POLLOUT, patience));
    next = PQconnectPoll(connection_.get());
  }
  return absl::OkStatus();
}

absl::Status SqlSession::Connect(const Patience& patience) {
  ASSIGN_OR_RETURN(const std::string password, ResolveSecret(server_.password()));
  std::vector<std::string> addresses;
  if (!absl::StartsWith(server_.host(), "/")) {
    ASSIGN_OR_RETURN(addresses, ResolveHost(server_.host(), Left(patience), patience.stop));
  }
  // libpq wants a host for each address.
  std::string hosts = server_.host();
  for (size_t i = 1; i < addresses.size(); ++i) absl::StrAppend(&hosts, ",", server_.host());
  const std::string hostaddr = absl::StrJoin(addresses, ",");
  const std::string port = absl::StrCat(server_.port() == 0 ? 5432 : server_.port());
  // What is added must live until libpq has read it: no temporaries.
  std::vector<const char*> keys = {"client_encoding"}, values = {"UTF8"};
  const auto add = [&](const char* key, const std::string& value) {
    if (value.empty()) return;
    keys.push_back(key);
    values.push_back(value.c_str());
  };
  add("host", hosts);
  add("hostaddr", hostaddr);
  add("port", port);
  add("user", server_.user());
  add("dbname", server_.database());
  add("password", password);
  add("sslmode", server_.ssl_mode());
  add("application_name", application_name_);
  keys.push_back(nullptr);
  values.push_back(nullptr);
  connection_.reset(PQconnectStartParams(keys.data(), values.data(), /*expand_dbname=*/0));
  outstanding_ = false;
  silent_ = 0;
  absl::Status status = connection_ == nullptr ? absl::ResourceExhaustedError("libpq: no memory")
                                               : Handshake(patience);
  if (status.ok() && PQsetnonblocking(connection_.get(), 1) != 0) status = Broken("connecting to");
  if (status.ok()) status = Settle(patience);
  if (!status.ok()) connection_.reset();
  return status;
}

absl::Status SqlSession::Settle(const Patience& patience) {
  const auto set = [&](const char* sql) -> absl::Status {
    if (PQsendQuery(connection_.get(), sql) == 0) return Broken("preparing the session at");
    RETURN_IF_ERROR(Flush(patience));
    ASSIGN_OR_RETURN(const Result result, Collect(patience));
    if (PQresultStatus(result.get()) == PGRES_COMMAND_OK) return absl::OkStatus();
    return Broken("preparing the session at");
  };
  RETURN_IF_ERROR(set(kSettings));
  if (PQserverVersion(connection_.get()) >= 140000) RETURN_IF_ERROR(set(kCheckSetting));
  return absl::OkStatus();
}

absl::Status SqlSession::Flush(const Patience& patience) {
  while (true) {
    const int left = PQflush(connection_.get());
    if (left == 0) return absl::OkStatus();
    if (left < 0) return Broken("asking");
    RETURN_IF_ERROR(WaitFor(POLLIN | POLLOUT, patience));
    if (PQconsumeInput(connection_.get()) == 0) return Broken("asking");
  }
}

absl::StatusOr<SqlSession::Result> SqlSession::Collect(const Patience& patience) {
  Result last(nullptr, &PQclear);
  while (true) {
    while (PQisBusy(connection_.get()) != 0) {
      RETURN_IF_ERROR(WaitFor(POLLIN, patience));
      if (PQconsumeInput(connection_.get()) == 0) return Broken("asking");
    }
    Result next(PQgetResult(connection_.get()), &PQclear);
    if (next == nullptr) break;
    last = std::move(next);
  }
  outstanding_ = false;
  if (last == nullptr) return Broken("asking");
  return last;
}

absl::StatusOr<std::optional<std::string>> SqlSession::Ask(
    const std::string& sql, const std::vector<std::string>& parameters, const Patience& patience) {
  if (connection_ != nullptr && outstanding_) {
    const absl::Status status = Collect(patience).status();
    if (absl::IsDeadlineExceeded(status) && ++silent_ < kMostSilent) return status;
    if (!status.ok()) connection_.reset();
  }
  if (connection_ == nullptr) RETURN_IF_ERROR(Connect(patience));
  silent_ = 0;

  std::vector<const char*> values;
  for (const std::string& parameter : parameters) values.push_back(parameter.c_str());
  // Only the extended protocol takes parameters; it also refuses a second statement after a
  // semicolon.
  absl::StatusOr<Result> result = Broken("asking");
  if (PQsendQueryParams(connection_.get(), sql.c_str(), static_cast<int>(values.size()), nullptr,
                        values.data(), nullptr, nullptr, 0) != 0) {
    outstanding_ = true;
    const absl::Status sent = Flush(patience);
    result = sent.ok() ? Collect(patience) : absl::StatusOr<Result>(sent);
  }
  if (!result.ok()) {
    const absl::Status status = result.status();
    // Late or stopped: the answer still comes, and the session with it. Anything else: connect
    // again.
    if (!absl::IsDeadlineExceeded(status) && !absl::IsCancelled(status)) connection_.reset();
    return status;
  }
  if (PQstatus(connection_.get()) != CONNECTION_OK) {
    const absl::Status broken = absl::UnavailableError(absl::StrCat(
        "asking ", Where(), ": ", absl::StripAsciiWhitespace(PQresultErrorMessage(result->get()))));
    connection_.reset();
    return broken;
  }
  if (PQresultStatus(result->get()) != PGRES_TUPLES_OK) {
    return absl::FailedPreconditionError(absl::StrCat(
        "asking ", Where(), ": ", absl::StripAsciiWhitespace(PQresultErrorMessage(result->get()))));
  }
  const int rows = PQntuples(result->get());
  if (rows != 1 || PQnfields(result->get()) < 1) {
    return absl::FailedPreconditionError(
        absl::StrCat("the statement returns ", rows, " rows, not one with a number"));
  }
  if (PQgetisnull(result->get(), 0, 0) != 0) return std::optional<std::string>();
  return std::optional<std::string>(PQgetvalue(result->get(), 0, 0));
}

}  // namespace firedrill
