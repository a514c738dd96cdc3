// The door to a server on TCP whose protocol does not matter, or is spoken by hand: addresses,
// connections that never block, and the kernel's own list of them.
#pragma once

#include <sys/socket.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/unique_fd.h"
#include "injector/os/crowd.h"
#include "injector/os/patience.h"

namespace firedrill {

// Where a server listens.
struct StreamAddress {
  std::string host;
  uint32_t port = 0;
  // Of the host, the one that answered.
  sockaddr_storage address{};

  // "127.0.0.1:8080", for messages.
  std::string Name() const;
};

// Resolves the host, and tries its addresses until one takes a connection, which is closed at once.
absl::StatusOr<StreamAddress> FindStream(const std::string& host, uint32_t port,
                                         const Patience& patience);

// Nobody listens there: the server is down, and no connection can live in it.
bool StreamNobodyListens(const absl::Status& status);

// Begins to connect; never blocks. The socket is close-on-exec, and is reset when it is closed, by
// us or with the process, so that the server need not notice by itself.
absl::StatusOr<UniqueFd> BeginStream(const sockaddr_storage& address);
// OK when it is connected, or is still under way; poll(2) says which.
absl::Status StreamError(int fd);

// One connection: what it says first, and what it makes of the answer.
class StreamMember : public CrowdMember {
 public:
  // `stamp`: see CountStamped(). `greeting` is sent as soon as it is connected.
  StreamMember(const sockaddr_storage& address, const std::string& stamp, std::string greeting);

  int fd() const override { return fd_.get(); }
  short events() const override;
  absl::Status Advance() override;
  bool ready() const override { return connected_ && to_send_.empty() && Satisfied(); }

 protected:
  // What has arrived. An error ends it.
  virtual absl::Status Take(absl::string_view) { return absl::OkStatus(); }
  // The answer to the greeting is there.
  virtual bool Satisfied() const { return true; }
  void Say(absl::string_view text) { to_send_.append(text.data(), text.size()); }
  bool connected() const { return connected_; }

 private:
  absl::Status Flush();
  absl::Status Receive();

  absl::Status begun_;
  UniqueFd fd_;
  bool connected_ = false;
  std::string to_send_;
};

// Connections of this process with this stamp that the kernel has still open. Those of another
// process ended with it.
absl::StatusOr<int> CountStamped(const std::string& stamp);
// None of them is looked for any more.
void ForgetStamped(const std::string& stamp);

}  // namespace firedrill
