// The relay of a worker: takes connections in, opens one to the server for each, and carries bytes
// both ways through a codec, while disturbances hold, slow, fail or cut them.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/unique_fd.h"
#include "firedrill/v1/wire.pb.h"
#include "injector/wire/codec.h"
#include "injector/wire/rules.h"

namespace firedrill::wire {

class Cancels;
class HoldLog;

// Everything that is done to the traffic of one proxy at a time. Empty: it flows on untouched.
struct Disturbance {
  // Of all delay_queries and fail_queries; null: none.
  std::shared_ptr<const Rules> rules;
  // Per direction; zero: none. Drawn with `seed`.
  std::optional<v1::DelayShape> delay_to_server;
  std::optional<v1::DelayShape> delay_to_client;
  // Where it is noted, for the fault that it comes from, what was held: by the place of the rule,
  // and for each direction's delay. Null or missing: nowhere.
  std::vector<std::shared_ptr<HoldLog>> rule_holds;
  std::shared_ptr<HoldLog> holds_to_server;
  std::shared_ptr<HoldLog> holds_to_client;
  // Bytes per second for each connection and direction; 0: no limit.
  double rate_to_server = 0;
  double rate_to_client = 0;
  // Nothing is read or written any more, in this share of the connections (0 to 1); new ones are
  // taken in and met with silence. Healing goes on where it stopped: no byte is lost.
  double stall = 0;
  // A client's goodbye and close are not passed on, in this share of the connections, until healed.
  double leak = 0;
  uint64_t seed = 0;
};

struct ProxyOptions {
  // Bound and listening, close-on-exec; one or two.
  std::vector<UniqueFd> listeners;
  sockaddr_storage server = {};
  v1::Protocol protocol = v1::PROTOCOL_UNSPECIFIED;
  // In place of the protocol's own, such as in tests; may return null. Called from the relay's
  // threads. May be empty.
  std::function<std::unique_ptr<Codec>()> make_codec;
  int threads = 1;
  // Bytes that one direction of a connection may hold; then reading stops.
  size_t max_held = 4 << 20;
  // Called with each socket before it connects to the server, such as to mark it. May be empty.
  std::function<absl::Status(int fd)> prepare_socket;
  // Called from the relay's threads when the server refuses or cannot be reached. May be empty.
  std::function<void()> on_refused;
  // Shared by all proxies of one server; null: there is only this one.
  std::shared_ptr<Cancels> cancels;
};

struct ProxyCounters {
  uint64_t accepted = 0;
  uint64_t open = 0;       // Right now.
  uint64_t refused = 0;    // The server could not be reached; the client was reset.
  uint64_t encrypted = 0;  // Of all accepted: their streams could not be looked into.
  uint64_t lost = 0;       // Codecs that lost track: those connections pass unmatched.
  std::string lost_why;    // The latest reason.
  // Of those that are open right now, whenever they came.
  uint64_t encrypted_open = 0;
  uint64_t lost_open = 0;
  // Right now: the client has gone or said goodbye, and the server, which was not told, has kept
  // the connection for a second and more.
  uint64_t leaked = 0;
  uint64_t stalled = 0;  // Right now.
  uint64_t reset = 0;    // By Reset(), and by rules that cut.
  uint64_t bytes_to_server = 0;
  uint64_t bytes_to_client = 0;
  uint64_t requests = 0;
  uint64_t delayed = 0;  // Messages or chunks that have been held and let go again.
  // What was asked of those, and what it was: arrival to write(2), over the latest ones.
  absl::Duration asked_p50;
  absl::Duration held_p50;
  absl::Duration held_p99;
  uint64_t failed = 0;
  uint64_t unmatched = 0;  // Requests that passed because their text is not known any more.
  uint64_t cut = 0;        // Requests of which rules have seen the first kMaxText bytes only.
  // Bytes that a rate, and nothing else, has kept from going on when they were due.
  uint64_t waited_to_server = 0;
  uint64_t waited_to_client = 0;
};

class Proxy {
 public:
  // INVALID_ARGUMENT says which option is wrong.
  static absl::StatusOr<std::unique_ptr<Proxy>> Start(ProxyOptions options);
  // Resets what is still open, and joins the threads.
  virtual ~Proxy() = default;

  // INVALID_ARGUMENT says which value is wrong, and changes nothing.
  // When it returns, every connection of every thread follows `disturbance`: what was held under
  // the former one and would not be under this one has been let go, in order. Blocks for a few
  // milliseconds, whatever the number of connections. Never closes a connection, but those
  // that leaked and do not any more. Not from `on_refused`.
  virtual absl::Status Set(Disturbance disturbance) = 0;

  // Resets this share of the open connections, idle ones too; returns how many. One-shot.
  virtual size_t Reset(double share, uint64_t seed) = 0;

  // Closes the listener. Open connections go on. Idempotent.
  virtual void StopAccepting() = 0;

  virtual ProxyCounters Read() const = 0;
};

}  // namespace firedrill::wire
