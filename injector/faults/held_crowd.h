// hold_connections, but for what depends on the protocol: ramp, refill, measuring, letting go and
// looking back are the same whatever the server speaks.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "absl/functional/function_ref.h"
#include "base/mutex.h"
#include "injector/fault.h"
#include "injector/os/crowd.h"
#include "injector/os/crowd_goal.h"
#include "injector/os/patience.h"

namespace firedrill {

struct CrowdCounts {
  // By anyone.
  int taken = 0;
  // Of ours, those that do what they were asked to, and all.
  int ours_as_asked = 0;
  int ours = 0;
};

// A server whose slots are taken, seen through the connection by which it is watched. One call at a
// time; what blocks ends with its patience.
class CrowdServer {
 public:
  virtual ~CrowdServer() = default;
  // Opens what is needed to look, and again when that has broken. The error says what to mend.
  virtual absl::Status Open(const v1::Profile& profile, const std::string& run,
                            const Patience& patience) = 0;
  virtual void Close() = 0;
  // The rest after Open() only.
  // CrowdGoal::kUnlimited where the server does not tell.
  virtual int usable() const = 0;
  // Called often: slots taken by anyone; 0 where the server does not tell.
  virtual absl::StatusOr<int> Taken(const Patience& patience) = 0;
  virtual absl::StatusOr<CrowdCounts> Count(const Patience& patience) = 0;
  // `end`: boot time of the fault's end, for the server's own time-outs.
  virtual std::unique_ptr<CrowdMember> Begin(absl::Duration end) = 0;
  // "redis/<what is its own>/<port>".
  virtual std::string identity() const = 0;
  // Nobody listens there.
  virtual bool Down(const absl::Status& status) const = 0;
  // How a person ends what is left.
  virtual std::string ByHand() const = 0;
};

// What is the same at PostgreSQL, too, whose crowd takes slots back in a way of its own.

// Refuses a definition without a size, and more than this process may have open.
absl::Status CheckCrowdSize(const v1::HoldConnections& message);
absl::Status CheckCrowdGoal(const CrowdGoal& goal);
// A profile that cannot open even one is refused here, with the server's own words. A server that
// others have filled already is no failure: the observation says how full it is. `taken`: before
// ours began.
absl::Status AwaitFirst(const v1::HoldConnections& message, const CrowdGoal& goal, int taken,
                        absl::FunctionRef<Crowd::Figures()> crowd, const Patience& patience);
v1::Observation ObserveCrowd(const v1::HoldConnections& message, const CrowdGoal& goal,
                             const CrowdCounts& counts, const Crowd::Figures& crowd,
                             const std::string& identity);
// As PostgreSQL calls it: "idle in transaction".
absl::string_view StateWords(v1::SessionState state);

class HeldCrowd final : public Fault, public Prepares {
 public:
  // Gives the server of one fault; an error where the profile or the definition does not fit.
  // `stamp` as in Context.
  using MakeServer = absl::StatusOr<std::unique_ptr<CrowdServer>> (*)(
      const v1::HoldConnections& message, const v1::Profile& profile, const std::string& stamp);

  HeldCrowd(const v1::HoldConnections& message, MakeServer make) : message_(message), make_(make) {}

  absl::Status Validate(const Node& node) const override;
  absl::Status Prepare(const Context& context, Node& node) override;
  absl::Status Apply(const Context& context, Node& node, Changes& changes) override;
  absl::StatusOr<v1::Observation> Observe(const Context& context, const Node& node) const override;
  void Release() override;
  absl::Status ReadBack(const Context& context, const Node& node) const override;

 private:
  // The server, shared with the crowd's thread.
  struct Watched {
    Mutex mutex;
    std::unique_ptr<CrowdServer> server FD_GUARDED_BY(mutex);
    v1::Profile profile FD_GUARDED_BY(mutex);
  };

  absl::Status Open(Watched& watched, const Context& context, const Node& node) const;
  absl::Status LookForOurs(Watched& watched, const Context& context, const Node& node) const;

  const v1::HoldConnections message_;
  const MakeServer make_;
  std::unique_ptr<Watched> watched_;
  std::optional<CrowdGoal> goal_;
  std::unique_ptr<Crowd> crowd_;
};

}  // namespace firedrill
