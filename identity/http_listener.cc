// HTTP over Boost.Beast: everything runs on one thread. Each connection carries one request, so
// that nobody meets a connection that we are just closing.
#include "identity/http_listener.h"

#include <fcntl.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl.hpp>
#include <list>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "identity/listening.h"

namespace firedrill {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using Tcp = asio::ip::tcp;
using Plain = beast::tcp_stream;
using Secure = beast::ssl_stream<beast::tcp_stream>;

constexpr uint32_t kLongestHeader = 16 << 10;
constexpr std::chrono::milliseconds kPause(100);

void CloseOnExec(int fd) { fcntl(fd, F_SETFD, FD_CLOEXEC); }

// Null where the files cannot be read, or do not belong together.
std::shared_ptr<asio::ssl::context> MakeTls(const IdentityFiles& files) {
  auto made = std::make_shared<asio::ssl::context>(asio::ssl::context::tls_server);
  SSL_CTX* const native = made->native_handle();
  SSL_CTX_set_min_proto_version(native, TLS1_3_VERSION);
  // A resumed session would go on with a certificate that nobody looks at again.
  SSL_CTX_set_session_cache_mode(native, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(native, 0);
  SSL_CTX_set_verify(native, SSL_VERIFY_PEER, nullptr);
  const bool ok = SSL_CTX_use_certificate_chain_file(native, files.certificate.c_str()) == 1 &&
                  SSL_CTX_use_PrivateKey_file(native, files.key.c_str(), SSL_FILETYPE_PEM) == 1 &&
                  SSL_CTX_check_private_key(native) == 1 &&
                  SSL_CTX_load_verify_locations(native, files.authority.c_str(), nullptr) == 1;
  return ok ? made : nullptr;
}

std::optional<Certificate> CallerOf(SSL* ssl) {
  const std::unique_ptr<X509, decltype(&X509_free)> shown(SSL_get1_peer_certificate(ssl),
                                                          X509_free);
  if (shown == nullptr || SSL_get_verify_result(ssl) != X509_V_OK) return std::nullopt;
  const std::unique_ptr<BIO, decltype(&BIO_free)> text(BIO_new(BIO_s_mem()), BIO_free);
  char* bytes = nullptr;
  if (text == nullptr || PEM_write_bio_X509(text.get(), shown.get()) != 1) return std::nullopt;
  const long size = BIO_get_mem_data(text.get(), &bytes);
  const absl::StatusOr<Certificate> read =
      ReadCertificate(absl::string_view(bytes, static_cast<size_t>(size)));
  return read.ok() ? std::make_optional(*read) : std::nullopt;
}

}  // namespace

bool SameSecret(const std::string& a, const std::string& b) {
  unsigned char difference = a.size() == b.size() ? 0 : 1;
  for (size_t i = 0; i < a.size(); ++i) difference |= a[i] ^ (i < b.size() ? b[i] : 0);
  return difference == 0;
}

class HttpListener::Impl {
 public:
  Impl(Options options, Answer answer)
      : options_(std::move(options)), answer_(std::move(answer)), acceptor_(io_) {}

  ~Impl() {
    io_.stop();
    if (thread_.joinable()) thread_.join();
  }

  absl::Status Listen() {
    const std::string where = ListenWords(options_.key, options_.host, options_.port);
    boost::system::error_code error;
    const auto address =
        options_.host.empty()
            ? asio::ip::address(asio::ip::address_v6::any())
            : asio::ip::make_address(options_.host == "localhost" ? "127.0.0.1" : options_.host,
                                     error);
    if (error) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, ": write the address as numbers, or leave it out for all"));
    }
    if (!options_.identity.has_value() && !address.is_loopback()) {
      return absl::InvalidArgumentError(
          absl::StrCat(where,
                       " is not on loopback, and no TLS is spoken here; listen on 127.0.0.1 and "
                       "put a reverse proxy with TLS in front of it"));
    }
    if (options_.identity.has_value() && Tls() == nullptr) {
      return absl::FailedPreconditionError(
          absl::StrCat(where, ": ", options_.identity->certificate, ", its key and ",
                       options_.identity->authority, " cannot be used together"));
    }
    const Tcp::endpoint endpoint(address, static_cast<uint16_t>(options_.port));
    acceptor_.open(endpoint.protocol(), error);
    // A port in TIME_WAIT may be taken; one on which somebody listens may not (no SO_REUSEPORT).
    if (!error) acceptor_.set_option(asio::socket_base::reuse_address(true), error);
    if (!error && options_.host.empty()) acceptor_.set_option(asio::ip::v6_only(false), error);
    if (!error) CloseOnExec(acceptor_.native_handle());
    if (!error) acceptor_.bind(endpoint, error);
    if (!error) acceptor_.listen(asio::socket_base::max_listen_connections, error);
    // Of the system's own category: an errno.
    if (error) return ListenFailed(where, options_.port, error.value(), options_.if_taken);
    port_ = acceptor_.local_endpoint().port();
    return absl::OkStatus();
  }

  void Run() {
    Accept();
    thread_ = std::thread([this] { io_.run(); });
  }

  uint16_t port() const { return port_; }

 private:
  // What the server knows of a connection.
  struct Entry {
    std::string origin;
    // It has its answer: what is left is to part.
    bool answered = false;
    // It has not asked anything yet, or has its answer: it may have to make room.
    bool idle = true;
    int fd;
    std::function<void()> close;
  };
  using Entries = std::list<Entry>;

  // One request on one connection; lives in the callbacks that it waits for.
  template <typename Stream>
  struct Connection : std::enable_shared_from_this<Connection<Stream>> {
    template <typename... Args>
    Connection(Impl& server, Entries::iterator entry, Args&&... args)
        : server(server), entry(entry), stream(std::forward<Args>(args)...) {
      parser.body_limit(server.options_.longest_body);
      parser.header_limit(kLongestHeader);
      entry->close = [this] { socket().close(ignored); };
    }
    ~Connection() { server.entries_.erase(entry); }

    Plain& lowest() { return beast::get_lowest_layer(stream); }
    Tcp::socket& socket() { return lowest().socket(); }
    void GrantTime() {
      lowest().expires_after(
          std::chrono::nanoseconds(absl::ToInt64Nanoseconds(server.options_.patience)));
    }

    void Begin() {
      GrantTime();
      if constexpr (std::is_same_v<Stream, Secure>) {
        stream.async_handshake(asio::ssl::stream_base::server,
                               [self = this->shared_from_this()](beast::error_code error) {
                                 if (!error) self->Read();
                               });
      } else {
        Read();
      }
    }

    void Read() {
      http::async_read(stream, buffer, parser,
                       [self = this->shared_from_this()](beast::error_code error, size_t) {
                         self->Take(error);
                       });
    }

    void Take(beast::error_code error) {
      entry->idle = false;
      if (error == http::error::body_limit) return Write({413, "the body is too long\n", {}});
      if (error == http::error::header_limit) return Write({431, "the header is too long\n", {}});
      if (error == http::error::end_of_stream || error == beast::error::timeout) return;
      if (error) {
        // What cannot be parsed is answered; a connection that broke is not.
        if (error.category() == make_error_code(http::error::bad_method).category()) {
          Write({400, "", {}});
        }
        return;
      }
      const http::request<http::string_body>& request = parser.get();
      HttpCall call;
      call.method = std::string(request.method_string());
      call.path = std::string(request.target());
      call.path = call.path.substr(0, call.path.find('?'));
      call.authorization = std::string(request[http::field::authorization]);
      call.body = request.body();
      if constexpr (std::is_same_v<Stream, Secure>) call.caller = CallerOf(stream.native_handle());
      Write(server.answer_(call));
    }

    void Write(HttpReply reply) {
      response.result(static_cast<unsigned>(reply.status));
      response.version(11);
      response.keep_alive(false);
      for (const auto& [name, value] : reply.headers) response.set(name, value);
      response.body() = std::move(reply.body);
      response.prepare_payload();
      GrantTime();
      http::async_write(stream, response,
                        [self = this->shared_from_this()](beast::error_code error, size_t) {
                          if (!error) self->End();
                        });
    }

    void End() {
      if constexpr (std::is_same_v<Stream, Secure>) {
        // It ends with the connection, whether the caller answers this or not.
        entry->idle = entry->answered = true;
        stream.async_shutdown([self = this->shared_from_this()](beast::error_code) {});
      } else {
        socket().shutdown(Tcp::socket::shutdown_send, ignored);
      }
    }

    Impl& server;
    const Entries::iterator entry;
    Stream stream;
    beast::flat_buffer buffer;
    http::request_parser<http::string_body> parser;
    http::response<http::string_body> response;
    beast::error_code ignored;
  };

  void Accept() {
    acceptor_.async_accept([this](beast::error_code error, Tcp::socket socket) {
      if (error == asio::error::operation_aborted) return;
      if (!error) {
        Admit(std::move(socket));
        return Accept();
      }
      // Out of descriptors, for instance: not again at once.
      pause_.expires_after(kPause);
      pause_.async_wait([this](beast::error_code ended) {
        if (!ended) Accept();
      });
    });
  }

  void Admit(Tcp::socket socket) {
    CloseOnExec(socket.native_handle());
    boost::system::error_code error;
    const Tcp::endpoint from = socket.remote_endpoint(error);
    // Closed by the other end, or one too many: it is closed here, and may try again.
    if (error || !MakeRoom()) return;
    const auto entry = entries_.insert(
        entries_.end(),
        Entry{.origin = OriginOf(from.address().to_string()), .fd = socket.native_handle()});
    if (!options_.identity.has_value()) {
      return std::make_shared<Connection<Plain>>(*this, entry, std::move(socket))->Begin();
    }
    std::make_shared<Connection<Secure>>(*this, entry, std::move(socket), *Tls())->Begin();
  }

  // Whether one more may come. A connection that was closed for it still counts until its callbacks
  // have run, so it may not go again: nobody is closed twice for one.
  bool MakeRoom() {
    size_t open = 0;
    std::vector<Entry*> idle;
    std::vector<absl::string_view> origins;
    for (Entry& entry : entries_) {
      if (entry.close == nullptr) continue;
      ++open;
      if (!entry.idle) continue;
      idle.push_back(&entry);
      origins.push_back(entry.origin);
    }
    if (open < options_.connections) return true;
    if (idle.empty()) return false;
    Entry& one = *idle[WhoMakesRoom(origins, [&](size_t i) {
      return idle[i]->answered ? Progress::kSilent : ProgressOf(idle[i]->fd);
    })];
    std::exchange(one.close, nullptr)();
    return true;
  }

  // The last that could be read. Sessions keep what they use of it: OpenSSL counts.
  std::shared_ptr<asio::ssl::context> Tls() {
    const std::string version = VersionOf(*options_.identity);
    if (version != tls_version_) {
      tls_version_ = version;
      if (auto made = MakeTls(*options_.identity); made != nullptr) tls_ = std::move(made);
    }
    return tls_;
  }

  const Options options_;
  const Answer answer_;
  uint16_t port_ = 0;
  Entries entries_;
  std::shared_ptr<asio::ssl::context> tls_;
  std::string tls_version_;
  asio::io_context io_{1};
  Tcp::acceptor acceptor_;
  asio::steady_timer pause_{io_};
  std::thread thread_;
};

HttpListener::HttpListener(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

HttpListener::~HttpListener() = default;

absl::StatusOr<std::unique_ptr<HttpListener>> HttpListener::Start(Options options, Answer answer) {
  auto impl = std::make_unique<Impl>(std::move(options), std::move(answer));
  RETURN_IF_ERROR(impl->Listen());
  impl->Run();
  return std::unique_ptr<HttpListener>(new HttpListener(std::move(impl)));
}

uint16_t HttpListener::port() const { return impl_->port(); }

}  // namespace firedrill
