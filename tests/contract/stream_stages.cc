// HTTP and plain TCP: a server that only takes connections in, for faults that hold them, and one
// that answers, for faults on live traffic: nginx, or an echo.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/unique_fd.h"
#include "tests/contract/contract_stage.h"
#include "tests/contract/stream_client.h"
#include "tests/testing/child.h"
#include "tests/testing/counting_server.h"

namespace firedrill {
namespace {

class StreamStage : public ContractStage {
 public:
  void Furnish(StageNode& node) override { Add(node, word(), silent_.port()); }
  void AddTrafficProfile(StageNode& node, const std::string& name) override {
    Add(node, name, port());
  }
  void Populate(int) override {}
  std::string Snapshot() override {
    const int open = silent_.open();
    return open == 0 ? "nothing" : absl::StrCat("firedrill: ", open, " connections");
  }
  // The look whether somebody listens is over at once.
  int Held() override {
    Within(absl::Seconds(1), [this] { return silent_.open() == 0; });
    return silent_.open();
  }

 protected:
  // Of the profile in the examples.
  virtual std::string word() const = 0;
  virtual void Add(StageNode& node, const std::string& name, int port) = 0;
  // Of who answers.
  virtual int port() const = 0;
  template <typename Server>
  static void At(int port, Server* server) {
    server->set_host("127.0.0.1");
    server->set_port(static_cast<uint32_t>(port));
  }

 private:
  CountingServer silent_;
};

class Nginx {
 public:
  static std::unique_ptr<Nginx> Start() {
    std::unique_ptr<Nginx> server(new Nginx);
    const std::string& at = server->folder_.path();
    WriteFile(at + "/much", std::string(StreamClient::kMuch, 'x'));
    std::string temporary;
    for (const char* kind : {"client_body", "proxy", "fastcgi", "uwsgi", "scgi"}) {
      absl::StrAppend(&temporary, kind, "_temp_path ", at, "/", kind, "; ");
    }
    // Another process may take the port in between: then with another one.
    for (int attempt = 0; attempt < 5; ++attempt) {
      server->port_ = FreePort();
      WriteFile(at + "/conf",
                absl::StrCat("daemon off; master_process off; pid ", at, "/pid; events {} http { ",
                             temporary, "access_log off; keepalive_timeout 300s; server { listen ",
                             "127.0.0.1:", server->port_, "; location = /users { return 200 ",
                             "answer; } location = /much { root ", at, "; } } }"));
      auto child = Child::Start(
          {.arguments = {"/usr/sbin/nginx", "-p", at, "-c", at + "/conf", "-e", at + "/error"},
           .log = at + "/log",
           .user = ""});
      if (!child.ok()) continue;
      server->child_ = *std::move(child);
      const bool up = Within(absl::Seconds(10), [&] {
        return !server->child_->Running() || server->NewClient() != nullptr;
      });
      if (up && server->child_->Running()) return server;
    }
    std::fprintf(stderr, "nginx: %s\n", ReadFile(at + "/log").c_str());
    return nullptr;
  }

  int port() const { return port_; }
  std::unique_ptr<TrafficClient> NewClient() const {
    return StreamClient::Connect(port_, {Get("/users"), Answered("answer")},
                                 {Get("/much"), Answered(std::string(StreamClient::kMuch, 'x'))});
  }

 private:
  Nginx() : folder_("fd-nginx") {}
  static std::string Get(const std::string& path) {
    return absl::StrCat("GET ", path, " HTTP/1.1\r\nHost: it\r\n\r\n");
  }
  static StreamClient::Judge Answered(std::string body) {
    return [body = std::move(body)](const std::string& heard) {
      const std::string good = "HTTP/1.1 200 OK\r\n";
      if (heard.substr(0, good.size()) != good.substr(0, heard.size())) {
        return StreamClient::Heard::kWrong;
      }
      const size_t head = heard.find("\r\n\r\n");
      if (head == std::string::npos) return StreamClient::Heard::kPart;
      const std::string came = heard.substr(head + 4);
      if (came == body) return StreamClient::Heard::kWhole;
      return absl::StartsWith(body, came) ? StreamClient::Heard::kPart
                                          : StreamClient::Heard::kWrong;
    };
  }

  TempDir folder_;
  int port_ = 0;
  std::unique_ptr<Child> child_;
};

class HttpStage final : public StreamStage {
 public:
  explicit HttpStage(std::unique_ptr<Nginx> server) : server_(std::move(server)) {}
  TrafficWords words() const override { return {"GET", "/users", "503"}; }
  std::unique_ptr<TrafficClient> NewClient() override { return server_->NewClient(); }

 protected:
  std::string word() const override { return "front"; }
  int port() const override { return server_->port(); }
  void Add(StageNode& node, const std::string& name, int port) override {
    v1::Profile& profile = *node.mutable_spec.add_profiles();
    profile.set_name(name);
    At(port, profile.mutable_http());
  }

 private:
  const std::unique_ptr<Nginx> server_;
};

// Gives every byte back.
class Echo {
 public:
  Echo() : listener_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof(address);
    if (bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), length) != 0 ||
        listen(listener_.get(), 64) != 0) {
      abort();
    }
    getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &length);
    port_ = ntohs(address.sin_port);
    thread_ = std::jthread([this](std::stop_token stop) { Serve(std::move(stop)); });
  }
  int port() const { return port_; }

 private:
  struct Open {
    UniqueFd fd;
    std::string owed;
  };

  void Serve(std::stop_token stop) {
    std::vector<Open> open;
    while (!stop.stop_requested()) {
      std::vector<pollfd> waits;
      for (const Open& one : open) {
        const int more = one.owed.empty() ? POLLIN : POLLIN | POLLOUT;
        waits.push_back({one.fd.get(), static_cast<int16_t>(more), 0});
      }
      waits.push_back({listener_.get(), POLLIN, 0});
      if (poll(waits.data(), waits.size(), 20) <= 0) continue;
      for (size_t i = 0; i < open.size(); ++i) {
        if (waits[i].revents != 0 && !Turn(open[i])) open[i].fd.Reset();
      }
      std::erase_if(open, [](const Open& one) { return !one.fd.valid(); });
      if (waits.back().revents == 0) continue;
      open.push_back({UniqueFd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC)), ""});
    }
  }
  // False when the other end is gone.
  static bool Turn(Open& one) {
    char bytes[65536];
    const ssize_t got = recv(one.fd.get(), bytes, sizeof(bytes), MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno != EAGAIN)) return false;
    if (got > 0) one.owed.append(bytes, static_cast<size_t>(got));
    const ssize_t put =
        send(one.fd.get(), one.owed.data(), one.owed.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (put < 0 && errno != EAGAIN) return false;
    if (put > 0) one.owed.erase(0, static_cast<size_t>(put));
    return true;
  }

  const UniqueFd listener_;
  int port_ = 0;
  std::jthread thread_;
};

class TcpStage final : public StreamStage {
 public:
  TrafficWords words() const override { return {}; }
  std::unique_ptr<TrafficClient> NewClient() override {
    const auto back = [](const std::string& said) {
      return StreamClient::Exchange{said, StreamClient::Exactly(said)};
    };
    return StreamClient::Connect(server_.port(), back("users"),
                                 back(std::string(StreamClient::kMuch, 'x')));
  }

 protected:
  std::string word() const override { return "queue"; }
  int port() const override { return server_.port(); }
  void Add(StageNode& node, const std::string& name, int port) override {
    v1::Profile& profile = *node.mutable_spec.add_profiles();
    profile.set_name(name);
    At(port, profile.mutable_tcp());
  }

 private:
  Echo server_;
};

const StageRegistration kHttp(v1::PROTOCOL_HTTP, []() -> std::unique_ptr<ContractStage> {
  auto server = Nginx::Start();
  if (server == nullptr) return nullptr;
  return std::make_unique<HttpStage>(std::move(server));
});
const StageRegistration kTcp(v1::PROTOCOL_TCP, [] { return std::make_unique<TcpStage>(); });

}  // namespace
}  // namespace firedrill
