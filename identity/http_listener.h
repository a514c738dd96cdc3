// The HTTP server of what listens besides gRPC: one thread, bounds on everything, and it knows who
// calls.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "identity/identity.h"

namespace firedrill {

struct HttpCall {
  std::string method;
  // Without what follows a '?'.
  std::string path;
  std::string authorization;
  std::string body;
  // As TLS has proven it; empty without TLS, and where the caller has shown none. Signed by the
  // authority and not expired; whether it may do this is for the answer to decide.
  std::optional<Certificate> caller;
};

struct HttpReply {
  int status = 200;
  std::string body;
  std::map<std::string, std::string> headers;
};

// Takes as long for a wrong secret as for a right one.
bool SameSecret(const std::string& a, const std::string& b);

class HttpListener {
 public:
  struct Options {
    // The key by which messages name it: "webhook.listen".
    std::string key;
    // A numeric address or "localhost"; empty for all.
    std::string host;
    // 0: any free one.
    int port = 0;
    // TLS 1.3 with it, read anew when its files change. None: no TLS, and so on loopback only.
    std::optional<IdentityFiles> identity;
    // What else to do where the port is taken.
    std::string if_taken = "choose another port";
    // At once: of those that have not asked anything yet, or have their answer, one makes room for
    // one more; see WhoMakesRoom().
    size_t connections = 64;
    uint64_t longest_body = 1 << 20;
    // To say what it wants, TLS included; and again to take the answer.
    absl::Duration patience = absl::Seconds(10);
  };
  // Called on the server's thread, one after the other.
  using Answer = std::function<HttpReply(const HttpCall&)>;

  // INVALID_ARGUMENT for an address that is not on loopback and has no TLS, ALREADY_EXISTS where
  // somebody listens there; the message names the address and says what to do.
  static absl::StatusOr<std::unique_ptr<HttpListener>> Start(Options options, Answer answer);
  // Closes all connections and waits for the thread: nothing is called afterwards.
  ~HttpListener();

  uint16_t port() const;

 private:
  class Impl;
  explicit HttpListener(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace firedrill
