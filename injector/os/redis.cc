// RESP2 by hand: what is asked here needs four commands.
#include "injector/os/redis.h"

#include <poll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/secret.h"
#include "base/status_macros.h"

namespace firedrill {
namespace {

// How long a blocking call goes on before it looks at the stop token again.
constexpr absl::Duration kLook = absl::Milliseconds(20);
// A list of 100 000 clients has about 35 MB.
constexpr size_t kMostBytes = 256u << 20;
constexpr int kMostElements = 1 << 20;
constexpr int kDeepest = 4;

absl::Status Unfinished() { return absl::NotFoundError("the answer is not whole"); }

// Reads one value from `at` on, and moves `at` behind it.
absl::Status ReadValue(absl::string_view bytes, size_t* at, int depth, std::string* text) {
  const size_t end = bytes.find("\r\n", *at);
  if (end == absl::string_view::npos) return Unfinished();
  const absl::string_view line = bytes.substr(*at, end - *at);
  *at = end + 2;
  if (line.empty()) return absl::DataLossError("the server does not speak RESP");
  const absl::string_view rest = line.substr(1);
  int64_t number = 0;
  switch (line[0]) {
    case '+':
    case ':':
      absl::StrAppend(text, rest);
      return absl::OkStatus();
    case '-':
      return RedisError(rest);
    case '$':
    case '*':
      if (absl::SimpleAtoi(rest, &number)) break;
      [[fallthrough]];
    default:
      return absl::DataLossError("the server does not speak RESP");
  }
  // Nil.
  if (number < 0) return absl::OkStatus();
  if (line[0] == '$') {
    if (static_cast<size_t>(number) > kMostBytes) {
      return absl::DataLossError("an answer of the server is too long");
    }
    if (bytes.size() < *at + static_cast<size_t>(number) + 2) return Unfinished();
    absl::StrAppend(text, bytes.substr(*at, static_cast<size_t>(number)));
    *at += static_cast<size_t>(number) + 2;
    return absl::OkStatus();
  }
  if (depth >= kDeepest || number > kMostElements) {
    return absl::DataLossError("an answer of the server is too deep or too long");
  }
  for (int64_t i = 0; i < number; ++i) {
    if (i > 0) text->push_back('\n');
    RETURN_IF_ERROR(ReadValue(bytes, at, depth + 1, text));
  }
  return absl::OkStatus();
}

}  // namespace

std::string RedisAccount::Name() const { return absl::StrCat(server.Name(), " as ", user); }

std::vector<std::vector<std::string>> RedisAccount::Greeting(const std::string& name) const {
  std::vector<std::vector<std::string>> commands;
  if (!password.empty() || user != "default") {
    // Servers before 6 know no accounts.
    if (user == "default") {
      commands.push_back({"AUTH", password});
    } else {
      commands.push_back({"AUTH", user, password});
    }
  }
  commands.push_back({"CLIENT", "SETNAME", name});
  return commands;
}

absl::StatusOr<RedisAccount> FindRedisAccount(const v1::RedisServer& server,
                                              const Patience& patience) {
  RedisAccount account;
  account.user = server.user().empty() ? "default" : server.user();
  ASSIGN_OR_RETURN(account.password, ResolveSecret(server.password()));
  ASSIGN_OR_RETURN(account.server,
                   FindStream(server.host(), server.port() == 0 ? 6379 : server.port(), patience));
  return account;
}

std::string RedisCommand(const std::vector<std::string>& words) {
  std::string bytes = absl::StrCat("*", words.size(), "\r\n");
  for (const std::string& word : words) {
    absl::StrAppend(&bytes, "$", word.size(), "\r\n", word, "\r\n");
  }
  return bytes;
}

absl::StatusOr<std::string> TakeRedisAnswer(std::string* bytes) {
  size_t at = 0;
  std::string text;
  const absl::Status status = ReadValue(*bytes, &at, 0, &text);
  if (absl::IsNotFound(status)) return status;
  bytes->erase(0, at);
  if (!status.ok()) return status;
  return text;
}

absl::Status RedisError(absl::string_view text) {
  const bool full = absl::StrContains(text, "max number of clients");
  for (absl::string_view code : {"NOAUTH", "WRONGPASS", "NOPERM"}) {
    if (absl::StartsWith(text, code)) return absl::PermissionDeniedError(text);
  }
  if (absl::StartsWith(text, "ERR invalid password") || absl::StrContains(text, "AUTH")) {
    return absl::PermissionDeniedError(text);
  }
  return full ? absl::ResourceExhaustedError(text) : absl::InternalError(text);
}

absl::StatusOr<std::unique_ptr<RedisSession>> RedisSession::Open(const RedisAccount& account,
                                                                 const std::string& name,
                                                                 const Patience& patience) {
  RETURN_IF_ERROR(patience.Check());
  ASSIGN_OR_RETURN(UniqueFd fd, BeginStream(account.server.address));
  std::unique_ptr<RedisSession> session(new RedisSession(std::move(fd)));
  RETURN_IF_ERROR(session->Await(POLLOUT, patience));
  RETURN_IF_ERROR(StreamError(session->fd_.get()));
  for (const auto& command : account.Greeting(name)) {
    RETURN_IF_ERROR(session->Ask(command, patience).status());
  }
  return session;
}

absl::Status RedisSession::Await(short events, const Patience& patience) {
  for (;;) {
    RETURN_IF_ERROR(patience.Check());
    pollfd wait{fd_.get(), events, 0};
    const absl::Duration length = std::min(patience.Left(), kLook);
    if (poll(&wait, 1, static_cast<int>(absl::ToInt64Milliseconds(length)) + 1) > 0) {
      return absl::OkStatus();
    }
  }
}

absl::StatusOr<std::string> RedisSession::Ask(const std::vector<std::string>& words,
                                              const Patience& patience) {
  if (!usable_) return absl::UnavailableError("the session with the server has ended");
  usable_ = false;
  std::string bytes = RedisCommand(words);
  // A full server says so before it reads, and closes: its words count more than a broken pipe.
  (void)send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
  for (;;) {
    auto answer = TakeRedisAnswer(&received_);
    if (!absl::IsNotFound(answer.status())) {
      usable_ = answer.ok() || !absl::IsDataLoss(answer.status());
      return answer;
    }
    RETURN_IF_ERROR(Await(POLLIN, patience));
    std::array<char, 65536> buffer;
    const ssize_t got = recv(fd_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (got <= 0) {
      return absl::UnavailableError(got == 0 ? "the server has closed the connection"
                                             : std::strerror(errno));
    }
    received_.append(buffer.data(), static_cast<size_t>(got));
  }
}

std::map<std::string, std::string> ReadRedisInfo(absl::string_view text) {
  std::map<std::string, std::string> info;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    const std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(absl::StripSuffix(line, "\r"), absl::MaxSplits(':', 1));
    info.emplace(parts.first, parts.second);
  }
  return info;
}

}  // namespace firedrill
