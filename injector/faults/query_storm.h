// storm_queries, but for what depends on the protocol: how much, measuring, and the end are the
// same whatever the server speaks.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "injector/fault.h"
#include "injector/os/patience.h"
#include "injector/os/storm.h"

namespace firedrill {

struct StormCounts {
  // Sessions of ours, and those of them that run something.
  int there = 0;
  int active = 0;
};

// A server that is stormed, seen through the connection by which it is watched. One call at a time;
// what blocks ends with its patience.
class StormServer {
 public:
  virtual ~StormServer() = default;
  // Opens what is needed to look, and again when that has broken. The error says what to mend.
  virtual absl::Status Open(const v1::Profile& profile, const std::string& run,
                            const Patience& patience) = 0;
  // The rest after Open() only.
  virtual absl::StatusOr<StormCounts> Count(const Patience& patience) = 0;
  // Begins sessions from any thread, without this object. `end`: boot time of the fault's end, for
  // the server's own time-outs.
  virtual std::function<std::unique_ptr<StormSession>()> Sessions(absl::Duration end) const = 0;
  // As Storm::Options::limit.
  virtual std::function<std::string(absl::Duration left)> Limit() const { return nullptr; }
  virtual std::string identity() const = 0;
  // Nobody listens there.
  virtual bool Down(const absl::Status& status) const = 0;
  // How a person ends what is left.
  virtual std::string ByHand() const = 0;
};

class QueryStorm final : public Fault, public Prepares {
 public:
  // `stamp` as in Context.
  using MakeServer = absl::StatusOr<std::unique_ptr<StormServer>> (*)(
      const v1::StormQueries& message, const v1::Profile& profile, const std::string& stamp);

  QueryStorm(const v1::StormQueries& message, MakeServer make) : message_(message), make_(make) {}

  absl::Status Validate(const Node& node) const override;
  absl::Status Prepare(const Context& context, Node& node) override;
  absl::Status Apply(const Context& context, Node& node, Changes& changes) override;
  absl::StatusOr<v1::Observation> Observe(const Context& context, const Node& node) const override;
  void Release() override;
  absl::Status ReadBack(const Context& context, const Node& node) const override;

 private:
  int sessions() const;
  std::string FewerSessions() const;
  absl::Status Open(const Context& context, const Node& node) const;
  absl::Status AwaitFirst(const Patience& patience) const;
  absl::Status LookForOurs(const Context& context, const Node& node) const;

  const v1::StormQueries message_;
  const MakeServer make_;
  // Opened anew where the server has ended it.
  mutable std::unique_ptr<StormServer> server_;
  std::unique_ptr<Storm> storm_;
  bool applied_ = false;
};

}  // namespace firedrill
