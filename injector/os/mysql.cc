// The door to MariaDB, over libmariadb's non-blocking calls.
#include "injector/os/mysql.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "base/clock.h"
#include "base/resolve.h"
#include "base/secret.h"
#include "base/status_macros.h"

namespace firedrill {
namespace {

constexpr char kErrorPayload[] = "firedrill/mysql-error";
constexpr char kNobodyPayload[] = "firedrill/nobody-listens";
// How long a blocking call goes on before it looks at the stop token again.
constexpr absl::Duration kLook = absl::Milliseconds(20);
// A host's addresses beyond these are not tried.
constexpr size_t kMostAddresses = 4;
// Of one call, before others have their turn.
constexpr int kMostSteps = 8;
// The oldest with ignored indexes; all that is asked of a server here works from it on.
constexpr int kOldestServer = 100600;
// Errors of this number and above are libmariadb's own: the session is lost.
constexpr int kFirstClientError = 2000;
constexpr int kAccessDenied = 1045;
constexpr int kUnknownDatabase = 1049;
constexpr int kTlsRequired = 3159;
constexpr int kPluginMissing = 2059;
// A server must not be able to ask for the password itself.
constexpr char kPlugins[] =
    "mysql_native_password,client_ed25519,caching_sha2_password,sha256_password";

absl::StatusCode CodeOf(int error) {
  switch (error) {
    case kMysqlTooManyConnections:
    case 1203:  // Of this account.
    case 1226:  // A limit of this account.
      return absl::StatusCode::kResourceExhausted;
    case kAccessDenied:
    case 1044:  // To the database.
    case 1142:  // To the table.
    case 1143:  // To the column.
    case 1227:  // A privilege is missing.
    case 1698:
      return absl::StatusCode::kPermissionDenied;
    case kUnknownDatabase:
    case 1146:  // Table.
      return absl::StatusCode::kNotFound;
    case 1053:  // Shutdown.
    case 1080:  // Forced close.
    case 1927:  // Killed.
      return absl::StatusCode::kUnavailable;
    default:
      return error >= kFirstClientError || error == 0 ? absl::StatusCode::kUnavailable
                                                      : absl::StatusCode::kInternal;
  }
}

// Like Annotate(), keeping what MysqlError() and MysqlNobodyListens() need.
absl::Status InContext(const absl::Status& status, absl::string_view before,
                       absl::string_view after) {
  absl::Status longer(status.code(), absl::StrCat(before, ": ", status.message(), after));
  status.ForEachPayload(
      [&](absl::string_view type, const absl::Cord& payload) { longer.SetPayload(type, payload); });
  return longer;
}

// Says what a person can do about a session that could not be opened.
std::string Advice(const absl::Status& status) {
  const int error = MysqlError(status);
  if (MysqlNobodyListens(status)) {
    return "; check that the server runs and the profile's host and port";
  }
  if (absl::IsResourceExhausted(status)) {
    return "; the server was full before this fault began, or the account's own limit is reached";
  }
  if (error == kTlsRequired) {
    return "; sessions of firedrill are not encrypted: name an account that needs no TLS, over the "
           "loopback or a network that may see it";
  }
  if (error == kPluginMissing) {
    return "; name an account that proves itself by mysql_native_password or ed25519";
  }
  if (absl::IsPermissionDenied(status)) {
    return "; check the profile's user and password, and from where the account may come";
  }
  if (error == kUnknownDatabase) return "; check the profile's database";
  if (status.code() == absl::StatusCode::kDeadlineExceeded) {
    return "; the server accepts connections but does not answer: check that it is not hung";
  }
  return "; check the profile and the server's log";
}

}  // namespace

std::string MysqlAccount::Name() const { return absl::StrCat(host, ":", port, " as ", user); }

absl::StatusOr<MysqlAccount> FindMysqlAccount(const v1::MysqlServer& server,
                                              const Patience& patience) {
  MysqlAccount account;
  account.host = server.host();
  if (server.port() != 0) account.port = server.port();
  account.user = server.user();
  account.database = server.database();
  if (account.user.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("the profile of ", account.host, ":", account.port,
                     " names no user, so nobody can log in there; give it a user and a password"));
  }
  if (absl::StartsWith(account.host, "/")) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the profile's host ", account.host,
        " is a path, and MariaDB is not reached by its Unix socket here: write `host` and `port` "
        "of its TCP address, as in host: 127.0.0.1, port: 3306, and an account that may come from "
        "there"));
  }
  ASSIGN_OR_RETURN(account.password, ResolveSecret(server.password()));
  // libmariadb would resolve the name while connecting, and block beyond any deadline.
  auto addresses = ResolveHost(account.host, patience.Left(), patience.stop());
  if (!addresses.ok()) return InContext(addresses.status(), "the profile's host", "");
  account.addresses = *std::move(addresses);
  if (account.addresses.size() > kMostAddresses) account.addresses.resize(kMostAddresses);
  return account;
}

int MysqlError(const absl::Status& status) {
  const auto payload = status.GetPayload(kErrorPayload);
  return payload.has_value() ? std::atoi(std::string(*payload).c_str()) : 0;
}

bool MysqlNobodyListens(const absl::Status& status) {
  return status.GetPayload(kNobodyPayload).has_value();
}

std::string MysqlName(absl::string_view name) {
  return absl::StrCat("`", absl::StrReplaceAll(name, {{"`", "``"}}), "`");
}

std::string MysqlText(absl::string_view text) {
  // Whether a backslash means itself depends on the session.
  if (text.find('\\') != absl::string_view::npos) {
    return absl::StrCat("_utf8mb4 X'", absl::BytesToHexString(text), "'");
  }
  return absl::StrCat("'", absl::StrReplaceAll(text, {{"'", "''"}}), "'");
}

std::unique_ptr<MysqlSession> MysqlSession::Begin(const MysqlAccount& account,
                                                  const std::string& program_name,
                                                  const MysqlSettings& settings,
                                                  const std::string& first) {
  MYSQL* connection = mysql_init(nullptr);
  std::unique_ptr<MysqlSession> session(new MysqlSession(connection));
  session->account_ = account;
  session->address_ = account.addresses.empty() ? account.host : account.addresses.front();
  mysql_options(connection, MYSQL_OPT_NONBLOCK, nullptr);
  mysql_options4(connection, MYSQL_OPT_CONNECT_ATTR_ADD, "program_name", program_name.c_str());
  mysql_options(connection, MYSQL_SET_CHARSET_NAME, "utf8mb4");
  mysql_options(connection, MARIADB_OPT_RESTRICTED_AUTH, kPlugins);
  // Or a server could ask for files of this machine.
  const unsigned no_files = 0;
  mysql_options(connection, MYSQL_OPT_LOCAL_INFILE, &no_files);
  std::vector<std::string> words;
  for (const auto& [name, value] : settings) words.push_back(absl::StrCat(name, " = ", value));
  if (!words.empty()) {
    const std::string set = absl::StrCat("SET SESSION ", absl::StrJoin(words, ", "));
    mysql_options(connection, MYSQL_INIT_COMMAND, set.c_str());
  }
  if (!first.empty()) mysql_options(connection, MYSQL_INIT_COMMAND, first.c_str());
  session->Start(Call::kConnect);
  if (session->fd() >= 0) fcntl(session->fd(), F_SETFD, FD_CLOEXEC);
  return session;
}

absl::StatusOr<std::unique_ptr<MysqlSession>> MysqlSession::Open(const MysqlAccount& account,
                                                                 const std::string& program_name,
                                                                 const MysqlSettings& settings,
                                                                 const Patience& patience) {
  absl::Status last = absl::UnavailableError("the host has no address");
  MysqlAccount one = account;
  for (const std::string& address : account.addresses) {
    one.addresses = {address};
    auto session = Begin(one, program_name, settings);
    last = session->Connect(patience);
    if (last.ok()) return session;
    // Only what is not there at all may be there at the next address.
    if (MysqlError(last) < kFirstClientError) break;
  }
  return last;
}

MysqlSession::~MysqlSession() {
  if (call_ == Call::kNone) return;
  // Every further byte fails at once, so that libmariadb comes back and lets go of all it has.
  shutdown(fd(), SHUT_RDWR);
  for (int i = 0; i < 16 && wait_ != 0; ++i) Continue(wait_);
}

int MysqlSession::fd() const {
  const my_socket socket = mysql_get_socket(connection_.get());
  return socket == MARIADB_INVALID_SOCKET ? -1 : static_cast<int>(socket);
}

short MysqlSession::events() const {
  if (wait_ == 0) return POLLIN;
  return static_cast<short>(((wait_ & MYSQL_WAIT_READ) != 0 ? POLLIN : 0) |
                            ((wait_ & MYSQL_WAIT_WRITE) != 0 ? POLLOUT : 0) |
                            ((wait_ & MYSQL_WAIT_EXCEPT) != 0 ? POLLPRI : 0));
}

bool MysqlSession::mariadb() const {
  return absl::StrContains(mysql_get_server_info(connection_.get()), "MariaDB");
}

absl::Status MysqlSession::Error() {
  call_ = Call::kNone;
  const int error = static_cast<int>(mysql_errno(connection_.get()));
  const std::string words = mysql_error(connection_.get());
  if (error >= kFirstClientError || error == 0 || !ready_) broken_ = true;
  absl::Status status(CodeOf(error), absl::StrCat(words, " (error ", error, ")"));
  status.SetPayload(kErrorPayload, absl::Cord(absl::StrCat(error)));
  if (!ready_ && error >= kFirstClientError &&
      absl::EndsWith(words, absl::StrCat("(", ECONNREFUSED, ")"))) {
    status.SetPayload(kNobodyPayload, absl::Cord("1"));
  }
  return status;
}

void MysqlSession::Start(Call call) {
  MYSQL* connection = connection_.get();
  call_ = call;
  switch (call) {
    case Call::kConnect:
      wait_ =
          mysql_real_connect_start(&connected_, connection, address_.c_str(), account_.user.c_str(),
                                   account_.password.c_str(),
                                   account_.database.empty() ? nullptr : account_.database.c_str(),
                                   account_.port, nullptr, 0);
      break;
    case Call::kQuery:
      wait_ = mysql_real_query_start(&failed_, connection, sql_.data(), sql_.size());
      break;
    case Call::kStore:
      wait_ = mysql_store_result_start(&result_, connection);
      break;
    case Call::kDiscard:
      wait_ = mysql_free_result_start(result_);
      break;
    case Call::kNext:
      wait_ = mysql_next_result_start(&failed_, connection);
      break;
    case Call::kNone:
      break;
  }
}

void MysqlSession::Continue(int happened) {
  MYSQL* connection = connection_.get();
  switch (call_) {
    case Call::kConnect:
      wait_ = mysql_real_connect_cont(&connected_, connection, happened);
      break;
    case Call::kQuery:
      wait_ = mysql_real_query_cont(&failed_, connection, happened);
      break;
    case Call::kStore:
      wait_ = mysql_store_result_cont(&result_, connection, happened);
      break;
    case Call::kDiscard:
      wait_ = mysql_free_result_cont(result_, happened);
      break;
    case Call::kNext:
      wait_ = mysql_next_result_cont(&failed_, connection, happened);
      break;
    case Call::kNone:
      break;
  }
}

void MysqlSession::KeepRows() {
  const unsigned columns = mysql_num_fields(result_);
  while (const MYSQL_ROW row = mysql_fetch_row(result_)) {
    const unsigned long* lengths = mysql_fetch_lengths(result_);
    rows_.emplace_back();
    for (unsigned column = 0; column < columns; ++column) {
      if (row[column] == nullptr) {
        rows_.back().emplace_back();
      } else {
        rows_.back().emplace_back(std::string(row[column], lengths[column]));
      }
    }
  }
}

// An answer has begun: its rows, or none.
absl::Status MysqlSession::TakeResult() {
  if (failed_ != 0) return Error();
  if (mysql_field_count(connection_.get()) == 0) {
    if (mysql_more_results(connection_.get()) != 0) {
      Start(Call::kNext);
    } else {
      call_ = Call::kNone;
    }
    return absl::OkStatus();
  }
  if (keep_) {
    Start(Call::kStore);
    return absl::OkStatus();
  }
  result_ = mysql_use_result(connection_.get());
  if (result_ == nullptr) return Error();
  Start(Call::kDiscard);
  return absl::OkStatus();
}

// Libmariadb's call is done.
absl::Status MysqlSession::Follow() {
  switch (call_) {
    case Call::kConnect:
      if (connected_ == nullptr) return Error();
      call_ = Call::kNone;
      ready_ = true;
      return absl::OkStatus();
    case Call::kQuery:
      return TakeResult();
    case Call::kNext:
      // -1: there was none.
      if (failed_ >= 0) return TakeResult();
      call_ = Call::kNone;
      return absl::OkStatus();
    case Call::kStore:
      if (result_ == nullptr) return Error();
      KeepRows();
      mysql_free_result(std::exchange(result_, nullptr));
      break;
    case Call::kDiscard:
      result_ = nullptr;
      break;
    case Call::kNone:
      return absl::OkStatus();
  }
  if (mysql_errno(connection_.get()) != 0) return Error();
  if (mysql_more_results(connection_.get()) != 0) {
    Start(Call::kNext);
  } else {
    call_ = Call::kNone;
  }
  return absl::OkStatus();
}

absl::Status MysqlSession::FollowAll() {
  while (call_ != Call::kNone && wait_ == 0) RETURN_IF_ERROR(Follow());
  return absl::OkStatus();
}

// As far as possible without blocking, and not for ever with a server that sends faster than we
// read.
absl::Status MysqlSession::Step() {
  for (int i = 0; wait_ != 0 && i < kMostSteps; ++i) {
    pollfd now{fd(), events(), 0};
    if (poll(&now, 1, 0) <= 0) return absl::OkStatus();
    const int happened = ((now.revents & POLLIN) != 0 ? MYSQL_WAIT_READ : 0) |
                         ((now.revents & POLLOUT) != 0 ? MYSQL_WAIT_WRITE : 0) |
                         ((now.revents & POLLPRI) != 0 ? MYSQL_WAIT_EXCEPT : 0);
    // An error or the end of the connection comes out by what libmariadb was about to do.
    Continue(happened != 0 ? happened : wait_);
    RETURN_IF_ERROR(FollowAll());
  }
  return FollowAll();
}

absl::Status MysqlSession::Advance() { return ready_ ? absl::OkStatus() : Step(); }

absl::Status MysqlSession::Connect(const Patience& patience) {
  while (!ready_) {
    if (broken_) return absl::UnavailableError("the session could not be opened");
    RETURN_IF_ERROR(Step());
    if (ready_) break;
    RETURN_IF_ERROR(patience.Check());
    pollfd wait{fd(), events(), 0};
    const auto length = std::min(kLook, patience.Left());
    poll(&wait, 1, static_cast<int>(absl::ToInt64Milliseconds(length)) + 1);
  }
  return absl::OkStatus();
}

absl::Status MysqlSession::Send(const std::string& sql) {
  if (!usable() || !Quiet()) return absl::FailedPreconditionError("the session is unusable");
  sql_ = sql;
  keep_ = false;
  Start(Call::kQuery);
  return FollowAll();
}

absl::Status MysqlSession::Drain() {
  if (!Quiet()) return Step();
  // Nothing is to come now: a word of the server is its last one.
  char byte = 0;
  const ssize_t got = recv(fd(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return absl::OkStatus();
  broken_ = true;
  return absl::UnavailableError("the server closed the session");
}

absl::StatusOr<MysqlRows> MysqlSession::Query(const std::string& sql, const Patience& patience) {
  if (!usable() || !Quiet()) return absl::FailedPreconditionError("the session is unusable");
  // The answer may be there before anything has to be waited for.
  if (const absl::Status patient = patience.Check(); !patient.ok()) {
    broken_ = true;
    return patient;
  }
  sql_ = sql;
  keep_ = true;
  rows_.clear();
  Start(Call::kQuery);
  RETURN_IF_ERROR(FollowAll());
  while (!Quiet()) {
    if (const absl::Status patient = patience.Check(); !patient.ok()) {
      broken_ = true;
      return patient;
    }
    pollfd wait{fd(), events(), 0};
    const auto length = std::min(kLook, patience.Left());
    poll(&wait, 1, static_cast<int>(absl::ToInt64Milliseconds(length)) + 1);
    RETURN_IF_ERROR(Step());
  }
  return std::exchange(rows_, {});
}

absl::StatusOr<MysqlFacts> AskMysqlFacts(MysqlSession& session, const Patience& patience) {
  // server_uid is younger than the oldest server.
  const auto rows = session.Query(
      "SELECT @@max_connections, coalesce((SELECT variable_value FROM "
      "information_schema.global_variables WHERE variable_name = 'SERVER_UID'), @@hostname),"
      " @@port,"
      " (SELECT count(*) FROM information_schema.user_privileges WHERE privilege_type = 'PROCESS'"
      "  AND grantee = concat('''', replace(current_user(), '@', '''@'''), '''')),"
      " (SELECT count(*) FROM information_schema.user_privileges WHERE privilege_type IN"
      "  ('SUPER', 'CONNECTION ADMIN')"
      "  AND grantee = concat('''', replace(current_user(), '@', '''@'''), ''''))",
      patience);
  if (!rows.ok()) return InContext(rows.status(), "asking the server for its limits", "");
  const auto& row = rows->at(0);
  MysqlFacts facts;
  facts.max_connections = std::atoi(row[0]->c_str());
  facts.identity = absl::StrCat("mysql/", *row[1], "/", *row[2]);
  facts.sees_all = *row[3] != "0";
  facts.superuser = *row[4] != "0";
  return facts;
}

absl::StatusOr<std::unique_ptr<MysqlSession>> OpenMysqlControl(const MysqlAccount& account,
                                                               absl::string_view profile,
                                                               absl::string_view run,
                                                               const Patience& patience) {
  const std::string what =
      absl::StrCat("opening the control connection of profile ", profile, " to ", account.Name());
  auto session = MysqlSession::Open(account, absl::StrCat("firedrill-control:", run), {}, patience);
  if (!session.ok()) return InContext(session.status(), what, Advice(session.status()));
  if (!(*session)->mariadb() || (*session)->server_version() < kOldestServer) {
    return absl::FailedPreconditionError(absl::StrCat(
        what, ": this is ", (*session)->mariadb() ? "MariaDB " : "MySQL ",
        (*session)->server_words(),
        "; faults inside a server of this protocol need MariaDB 10.6 or newer, which has ignored "
        "indexes, and time-outs that end our sessions if this process hangs"));
  }
  const absl::Status set = (*session)
                               ->Query(
                                   "SET SESSION max_statement_time = 5, lock_wait_timeout = 1,"
                                   " innodb_lock_wait_timeout = 1, wait_timeout = 86400,"
                                   " autocommit = 1,"
                                   " time_zone = '+00:00'",
                                   patience)
                               .status();
  if (!set.ok()) return InContext(set, what, "");
  return session;
}

}  // namespace firedrill
