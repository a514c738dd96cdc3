// What all faults on live traffic have in common: whose traffic is meant, how it is taken in, and
// how its end is proven. A fault adds what it wishes, and what proves that the wish came true.
#pragma once

#include <sys/socket.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/message.h"
#include "injector/fault.h"
#include "injector/faults/wire/worker_line.h"

namespace firedrill {

// The keys that every such fault has.
struct Interception {
  std::string profile;
  std::string listen;
  std::string client_user;
  std::string cgroup;
  bool reconnect = false;
};
Interception InterceptionOf(const google::protobuf::Message& fault);

// A server whose traffic is meant, as its profile says.
struct WireServer {
  v1::Protocol protocol = v1::PROTOCOL_UNSPECIFIED;
  std::string host;
  uint32_t port = 0;
  // Its clients that use this profile's settings speak TLS.
  bool always_encrypted = false;
};
absl::StatusOr<WireServer> WireServerOf(const Node& node, const std::string& profile);

// OK where this node can take in that traffic. Touches nothing.
absl::Status CheckInterception(const Node& node, const Interception& interception);

// Not OK where one of them is the address that clients are to come to: each connection would be
// led back there, and there be two. Nothing is said of clients that are redirected.
absl::Status CheckNoCircle(const Interception& interception,
                           const std::vector<sockaddr_storage>& servers);

// Everything a worker must know; resolves names, blocks as long as that takes.
struct WireWay {
  v1::WireSetup setup;
  // Names the traffic, within this injector.
  std::string key;
  // "postgresql/127.0.0.1/5432".
  std::string subject;
  // "127.0.0.1:5432", as the profile names it.
  std::string address;
  std::vector<sockaddr_storage> servers;
  // "; clients of 2001:db8::5 are left alone: ..."; empty where none are.
  std::string left_alone;
};

absl::StatusOr<WireWay> FindWay(const Context& context, const Node& node,
                                const Interception& interception);

// A fault that lasts.
class WireFault : public Fault, public Prepares, public Counts {
 public:
  explicit WireFault(const google::protobuf::Message& message)
      : interception_(InterceptionOf(message)) {}
  ~WireFault() override;

  absl::Status Validate(const Node& node) const override;
  absl::Status Prepare(const Context& context, Node& node) override;
  absl::Status Apply(const Context& context, Node& node, Changes& changes) override;
  absl::StatusOr<v1::Observation> Observe(const Context& context, const Node& node) const override;
  absl::StatusOr<v1::Observation> LastCount() const override;
  void Release() override;
  absl::Status ReadBack(const Context& context, const Node& node) const override;

 protected:
  // It looks into requests, so a protocol must be known and the stream readable.
  virtual bool NeedsRequests() const { return false; }
  // It must hear what is said in this protocol: what is encrypted it does not hit.
  virtual bool NeedsPlaintext(v1::Protocol) const { return NeedsRequests(); }
  virtual absl::Status CheckWish() const { return absl::OkStatus(); }
  virtual void FillWish(v1::WireWish* wish) const = 0;
  // Fills requested, real, unit, reached and detail. `count` is of this fault's own rule; `then` is
  // how the traffic was when the fault was applied.
  virtual void Judge(const v1::WireStatus& now, const v1::WireStatus& then,
                     const v1::WireCount& count, v1::Observation* observation) const = 0;

 private:
  absl::Status Acquire(const Context& context, const Node& node);
  // The worker names its rules by their stamps, which say nothing here.
  absl::Status WithoutStamp(const absl::Status& status) const;

  const Interception interception_;
  WireWay way_;
  std::shared_ptr<WireWorker> worker_;
  v1::WireStatus then_;
  std::string stamp_;
  uint64_t reconnected_ = 0;
  bool applied_ = false;
};

// The fault's own keys `delay`, `uniform`, `normal` and `pareto` as one shape.
template <typename FaultMessage>
v1::DelayShape ShapeOf(const FaultMessage& message) {
  v1::DelayShape shape;
  if (message.has_delay()) *shape.mutable_delay() = message.delay();
  if (message.has_uniform()) *shape.mutable_uniform() = message.uniform();
  if (message.has_normal()) *shape.mutable_normal() = message.normal();
  if (message.has_pareto()) *shape.mutable_pareto() = message.pareto();
  if (shape.has_pareto() && shape.pareto().shape() == 0) shape.mutable_pareto()->set_shape(1.5);
  return shape;
}
// What is wrong with it; OK for a shape that can be drawn from.
absl::Status CheckShape(const v1::DelayShape& shape);
// A share of 0 means all.
v1::QueryMatch MatchOf(const v1::QueryMatch& match);
// "1 connection", "3 connections".
std::string Counted(uint64_t count, absl::string_view one, absl::string_view many);
// What was asked for and what came out, of what was held for this fault; no detail where nothing
// was.
void JudgeDelay(const v1::DelayShape& shape, const v1::WireCount& count,
                v1::Observation* observation);

}  // namespace firedrill
