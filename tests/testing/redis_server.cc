// Starts and stops a Redis server for a test, and asks it things.
#include "tests/testing/redis_server.h"

#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <stdexcept>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "base/unique_fd.h"

namespace firedrill {
namespace {

constexpr char kProgram[] = "/usr/bin/redis-server";
constexpr char kSocket[] = "socket";

// One blocking conversation.
class Talk {
 public:
  // By the Unix socket in this folder.
  explicit Talk(const std::string& folder) : fd_(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const timeval patience = {10, 0};
    setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    absl::SNPrintF(address.sun_path, sizeof address.sun_path, "%s/%s", folder, kSocket);
    connected_ = connect(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  }

  bool connected() const { return connected_; }

  void Send(const std::vector<std::string>& words) {
    std::string bytes = absl::StrCat("*", words.size(), "\r\n");
    for (const std::string& word : words) {
      absl::StrAppend(&bytes, "$", word.size(), "\r\n", word, "\r\n");
    }
    for (size_t sent = 0; sent < bytes.size();) {
      const ssize_t n = send(fd_.get(), bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
      // One that is full says so, closes, and does not listen: its words are there to be read.
      if (n < 0 && (errno == EPIPE || errno == ECONNRESET)) return;
      if (n <= 0) throw std::runtime_error("redis: cannot send");
      sent += static_cast<size_t>(n);
    }
  }

  std::string Value() {
    const std::string line = Line();
    int64_t number = 0;
    (void)absl::SimpleAtoi(line.substr(1), &number);
    if (line[0] == '-') return line;
    if (line[0] == '$') {
      if (number < 0) return "(nil)";
      std::string value = Bytes(static_cast<size_t>(number) + 2);
      value.resize(value.size() - 2);
      return value;
    }
    if (line[0] != '*') return line.substr(1);
    if (number < 0) return "(nil)";
    std::string values;
    for (int64_t i = 0; i < number; ++i) absl::StrAppend(&values, i > 0 ? "\n" : "", Value());
    return values;
  }

 private:
  std::string Line() {
    for (;;) {
      const size_t end = held_.find("\r\n");
      if (end != std::string::npos) {
        std::string line = held_.substr(0, end);
        held_.erase(0, end + 2);
        return line.empty() ? throw std::runtime_error("redis: an empty line") : line;
      }
      Read();
    }
  }

  std::string Bytes(size_t count) {
    while (held_.size() < count) Read();
    std::string bytes = held_.substr(0, count);
    held_.erase(0, count);
    return bytes;
  }

  void Read() {
    char bytes[65536];
    const ssize_t n = recv(fd_.get(), bytes, sizeof bytes, 0);
    if (n <= 0) throw std::runtime_error("redis: no answer");
    held_.append(bytes, static_cast<size_t>(n));
  }

  UniqueFd fd_;
  bool connected_ = false;
  std::string held_;
};

}  // namespace

std::unique_ptr<RedisServer> RedisServer::Start(const RedisOptions& options) {
  if (access(kProgram, X_OK) != 0) {
    std::fprintf(stderr, "no %s; install redis-server\n", kProgram);
    return nullptr;
  }
  std::unique_ptr<RedisServer> server(new RedisServer);
  server->settings_ = options.settings;
  // Another process may take the port in between: then with another one.
  for (int attempt = 0; attempt < 5; ++attempt) {
    server->port_ = static_cast<uint16_t>(FreePort());
    if (server->StartAgain()) return server;
  }
  std::fprintf(stderr, "%s", ReadFile(server->folder() + "/log").c_str());
  return nullptr;
}

bool RedisServer::StartAgain() {
  Child::Options options;
  options.arguments = {kProgram, "--port",       absl::StrCat(port_),
                       "--bind", "127.0.0.1",    "--save",
                       "",       "--appendonly", "no",
                       "--dir",  folder_.path(), "--enable-debug-command",
                       "yes",    "--unixsocket", absl::StrCat(folder_.path(), "/", kSocket)};
  options.arguments.insert(options.arguments.end(), settings_.begin(), settings_.end());
  options.log = folder_.path() + "/log";
  auto child = Child::Start(options);
  if (!child.ok()) return false;
  child_ = *std::move(child);
  for (int i = 0; i < 1500 && child_->Running(); ++i) {
    try {
      Talk talk(folder_.path());
      if (talk.connected()) {
        talk.Send({"PING"});
        // Or an error that asks for a password: it answers.
        if (!talk.Value().empty()) return true;
      }
    } catch (const std::runtime_error&) {
    }
    absl::SleepFor(absl::Milliseconds(10));
  }
  return false;
}

void RedisServer::Stop() {
  if (child_ != nullptr) child_->Stop(SIGKILL);
}

RedisServer::~RedisServer() { Stop(); }

std::string RedisServer::Run(const std::vector<std::string>& words) const {
  Talk talk(folder_.path());
  talk.Send(words);
  return talk.Value();
}

}  // namespace firedrill
