// The HTTP side of our receiver, over Boost.Beast: everything runs on one thread. Each connection
// carries one request, so that Alertmanager never meets a connection that we are just closing.
#include "controller/alerts/webhook.h"

#include <fcntl.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/secret.h"
#include "base/status_macros.h"
#include "experiment/address.h"

namespace firedrill {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using Tcp = asio::ip::tcp;

constexpr uint64_t kLongestBody = 1 << 20;
constexpr uint32_t kLongestHeader = 16 << 10;
constexpr size_t kMostConnections = 64;
constexpr std::chrono::seconds kPatience(10);

struct Route {
  std::string name;
  std::string token;
};

// Takes as long for a wrong token as for a right one.
bool SameSecret(const std::string& a, const std::string& b) {
  unsigned char difference = a.size() == b.size() ? 0 : 1;
  for (size_t i = 0; i < a.size(); ++i) difference |= a[i] ^ (i < b.size() ? b[i] : 0);
  return difference == 0;
}

void CloseOnExec(int fd) { fcntl(fd, F_SETFD, FD_CLOEXEC); }

}  // namespace

class WebhookServer::Impl {
 public:
  Impl(const Clock& clock, Sink sink) : clock_(clock), sink_(std::move(sink)), acceptor_(io_) {}

  ~Impl() {
    io_.stop();
    if (thread_.joinable()) thread_.join();
  }

  absl::Status AddReceivers(const v1::Webhook& webhook) {
    for (const v1::WebhookReceiver& receiver : webhook.receivers()) {
      absl::StatusOr<std::string> token = ResolveSecret(receiver.token());
      if (!token.ok()) {
        return Annotate(token.status(), absl::StrCat("webhook receiver ", receiver.name()));
      }
      receivers_[receiver.path()] = {receiver.name(), *std::move(token)};
    }
    return absl::OkStatus();
  }

  absl::Status Listen(const std::string& text) {
    absl::StatusOr<Address> where = ParseListenAddress(text);
    if (!where.ok()) return Annotate(where.status(), absl::StrCat("webhook.listen: ", text));
    if (!IsLoopback(*where)) {
      return absl::InvalidArgumentError(
          absl::StrCat("webhook.listen: ", text,
                       " is not on loopback, and the receiver speaks no TLS; listen on "
                       "127.0.0.1 and put a reverse proxy with TLS in front of it"));
    }
    boost::system::error_code error;
    const auto address =
        asio::ip::make_address(where->host == "localhost" ? "127.0.0.1" : where->host, error);
    const Tcp::endpoint endpoint(address, static_cast<uint16_t>(where->port));
    if (!error) acceptor_.open(endpoint.protocol(), error);
    // A port in TIME_WAIT may be taken; one on which somebody listens may not (no SO_REUSEPORT).
    if (!error) acceptor_.set_option(asio::socket_base::reuse_address(true), error);
    if (!error) CloseOnExec(acceptor_.native_handle());
    if (!error) acceptor_.bind(endpoint, error);
    if (!error) acceptor_.listen(asio::socket_base::max_listen_connections, error);
    if (error == boost::system::errc::address_in_use) {
      return absl::AlreadyExistsError(absl::StrCat(
          "webhook.listen: ", text,
          " is taken: somebody listens there already. Is another run or "
          "controller under way? `ss -ltnp 'sport = :",
          where->port,
          "'` says who; end it, or choose another port in the site file and in Alertmanager's "
          "webhook_configs"));
    }
    if (error) {
      return absl::UnavailableError(
          absl::StrCat("webhook.listen: listening on ", text, ": ", error.message()));
    }
    port_ = acceptor_.local_endpoint().port();
    return absl::OkStatus();
  }

  void Run() {
    Accept();
    thread_ = std::thread([this] { io_.run(); });
  }

  uint16_t port() const { return port_; }

 private:
  // One request on one connection; lives in the callbacks that it waits for.
  struct Connection : std::enable_shared_from_this<Connection> {
    Connection(Impl& server, Tcp::socket socket) : server(server), stream(std::move(socket)) {
      ++server.connections_;
      parser.body_limit(kLongestBody);
      parser.header_limit(kLongestHeader);
    }
    ~Connection() { --server.connections_; }

    void Read() {
      stream.expires_after(kPatience);
      http::async_read(
          stream, buffer, parser,
          [self = shared_from_this()](beast::error_code error, size_t) { self->Answer(error); });
    }

    void Answer(beast::error_code error) {
      if (error == http::error::body_limit) return Write(http::status::payload_too_large);
      if (error == http::error::header_limit) {
        return Write(http::status::request_header_fields_too_large);
      }
      if (error == http::error::end_of_stream || error == beast::error::timeout) return;
      if (error) {
        // What cannot be parsed is answered; a connection that broke is not.
        if (error.category() == make_error_code(http::error::bad_method).category()) {
          Write(http::status::bad_request);
        }
        return;
      }
      Write(server.Take(parser.get()));
    }

    void Write(http::status status) {
      response.result(status);
      response.version(11);
      response.keep_alive(false);
      if (status == http::status::method_not_allowed) response.set(http::field::allow, "POST");
      if (status == http::status::unauthorized) {
        response.set(http::field::www_authenticate, "Bearer");
      }
      response.prepare_payload();
      stream.expires_after(kPatience);
      http::async_write(stream, response, [self = shared_from_this()](beast::error_code, size_t) {
        beast::error_code ignored;
        self->stream.socket().shutdown(Tcp::socket::shutdown_send, ignored);
      });
    }

    Impl& server;
    beast::tcp_stream stream;
    beast::flat_buffer buffer;
    http::request_parser<http::string_body> parser;
    http::response<http::empty_body> response;
  };

  void Accept() {
    acceptor_.async_accept([this](beast::error_code error, Tcp::socket socket) {
      if (error == asio::error::operation_aborted) return;
      if (!error) {
        CloseOnExec(socket.native_handle());
        // One connection too many is closed at once; Alertmanager tries again.
        if (connections_ < kMostConnections) {
          std::make_shared<Connection>(*this, std::move(socket))->Read();
        }
        return Accept();
      }
      // Out of descriptors, for instance: not again at once.
      pause_.expires_after(std::chrono::milliseconds(100));
      pause_.async_wait([this](beast::error_code ended) {
        if (!ended) Accept();
      });
    });
  }

  http::status Take(const http::request<http::string_body>& request) {
    std::string path(request.target());
    path = path.substr(0, path.find('?'));
    const auto receiver = receivers_.find(path);
    if (receiver == receivers_.end()) return http::status::not_found;
    if (request.method() != http::verb::post) return http::status::method_not_allowed;
    const std::string authorization(request[http::field::authorization]);
    const std::string& token = receiver->second.token;
    if (!token.empty() && !SameSecret(absl::StrCat("Bearer ", token), authorization)) {
      return http::status::unauthorized;
    }
    const absl::StatusOr<std::vector<WebhookDelivery>> deliveries =
        ParseWebhookPayload(request.body(), clock_.Now());
    if (!deliveries.ok()) return http::status::bad_request;
    bool kept = true;
    for (const WebhookDelivery& delivery : *deliveries) kept = sink_(delivery) && kept;
    return kept ? http::status::ok : http::status::service_unavailable;
  }

  const Clock& clock_;
  const Sink sink_;
  std::map<std::string, Route> receivers_;
  uint16_t port_ = 0;
  size_t connections_ = 0;
  asio::io_context io_{1};
  Tcp::acceptor acceptor_;
  asio::steady_timer pause_{io_};
  std::thread thread_;
};

WebhookServer::WebhookServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

WebhookServer::~WebhookServer() = default;

absl::StatusOr<std::unique_ptr<WebhookServer>> WebhookServer::Start(const v1::Webhook& webhook,
                                                                    const Clock& clock, Sink sink) {
  auto impl = std::make_unique<Impl>(clock, std::move(sink));
  RETURN_IF_ERROR(impl->AddReceivers(webhook));
  RETURN_IF_ERROR(impl->Listen(webhook.listen()));
  impl->Run();
  return std::unique_ptr<WebhookServer>(new WebhookServer(std::move(impl)));
}

uint16_t WebhookServer::port() const { return impl_->port(); }

}  // namespace firedrill
