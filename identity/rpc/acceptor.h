// Takes connections in place of gRPC, which never takes one again after a flood of silent ones has
// used up its file descriptors (CVE-2023-4785, unmended in 1.51).
#pragma once

#include <grpcpp/server_builder.h>

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "base/unique_fd.h"
#include "identity/certificate.h"

namespace firedrill {

struct AcceptorLimits {
  // Of all; 0: what RLIMIT_NOFILE leaves, two descriptors each.
  size_t connections = 0;
  // Of one origin.
  size_t of_one_peer = 512;
  // That have not proven yet who they are, at most half of all; see WhoMakesRoom().
  size_t unproven = 256;
  // A handshake and a first call that is let in.
  absl::Duration proven_within = absl::Seconds(2);
};

// Has a thread of its own. Outlives the server that it serves.
class Acceptor {
 public:
  // Listens. `host` is a numeric address, empty for all; port 0 is any free one. UNAVAILABLE where
  // the port is taken: it is never shared with another process.
  static absl::StatusOr<std::unique_ptr<Acceptor>> Listen(const std::string& host, int port,
                                                          AcceptorLimits limits = {});
  ~Acceptor();

  // Before the server is built: it will get its connections from here, and a call that is let in
  // proves a connection. Takes the builder's interceptors, and bounds its streams and messages.
  void Attach(grpc::ServerBuilder& builder, std::shared_ptr<grpc::ServerCredentials> credentials);
  // Once the server has started.
  void Start();

  // A call has been let in on this connection, by gRPC's name of it ("ipv4:127.0.0.1:5000"); who it
  // is, is asked at the first one. Any thread.
  void Proven(const std::string& peer, absl::FunctionRef<absl::StatusOr<Certificate>()> who)
      FD_EXCLUDES(mutex_);
  // Ends connections whose certificate has ended, a moment after it is seen here: their calls are
  // told why before. A new connection is made with a new certificate. Any thread.
  void EndThose(absl::FunctionRef<bool(const Certificate&)> ended) FD_EXCLUDES(mutex_);
  int port() const { return port_; }

 private:
  struct Connection {
    uint64_t id;
    // A second descriptor of it: tells its end, and can end it.
    UniqueFd fd;
    std::string peer, origin;
    absl::Duration since;  // Boot time.
    bool proven = false;
    std::optional<Certificate> holder = std::nullopt;
    // Boot time at which its certificate was seen to have ended.
    std::optional<absl::Duration> ended = std::nullopt;
  };
  using Connections = std::list<Connection>;

  Acceptor(UniqueFd listener, int port, AcceptorLimits limits);
  void Run();
  void TakeAll() FD_EXCLUDES(mutex_);
  // Null where it must not stay.
  Connection* Admit(int fd, const std::string& peer, const std::string& origin) FD_REQUIRES(mutex_);
  // The end where nobody has to.
  Connections::iterator TakesRoom() FD_REQUIRES(mutex_);
  void Drop(Connections::iterator connection) FD_REQUIRES(mutex_);
  void DropLate() FD_EXCLUDES(mutex_);

  const UniqueFd listener_;
  const int port_;
  AcceptorLimits limits_;
  UniqueFd epoll_, stop_;
  // Given up for a moment where the process has no descriptor left.
  UniqueFd spare_;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> server_;
  Mutex mutex_;
  // In the order in which they came.
  Connections connections_ FD_GUARDED_BY(mutex_);
  absl::flat_hash_map<uint64_t, Connections::iterator> by_id_ FD_GUARDED_BY(mutex_);
  absl::flat_hash_map<std::string, uint64_t> by_peer_ FD_GUARDED_BY(mutex_);
  absl::flat_hash_map<std::string, size_t> of_origin_ FD_GUARDED_BY(mutex_);
  size_t unproven_ FD_GUARDED_BY(mutex_) = 0;
  uint64_t next_ FD_GUARDED_BY(mutex_) = 2;
  std::thread thread_;
};

}  // namespace firedrill
