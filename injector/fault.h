// What every fault is. A fault is one file in faults/<family>/ that ends in its own registration.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "firedrill/v1/fault.pb.h"
#include "firedrill/v1/run.pb.h"
#include "firedrill/v1/site.pb.h"
#include "injector/os/patience.h"
#include "injector/undo.h"

namespace firedrill {

// The node as faults, remedies and loads see it: its own file, and nothing of any controller.
class Node {
 public:
  virtual ~Node() = default;
  virtual const v1::NodeSpec& spec() const = 0;
  // NOT_FOUND names what there is.
  virtual absl::StatusOr<v1::Profile> FindProfile(absl::string_view name) const = 0;
  virtual absl::StatusOr<v1::HostSubject> FindSubject(absl::string_view name) const = 0;
  virtual absl::StatusOr<v1::Program> FindProgram(absl::string_view name) const = 0;
  virtual absl::StatusOr<v1::ValueFile> FindValues(absl::string_view name) const = 0;
};

// One fault of one run, for the length of a call.
struct Context {
  const Clock& clock;
  std::string run;
  std::string fault;
  // Boot time by which the call must have returned.
  absl::Duration deadline;
  // Asks the call to return early; what it did so far is reverted by Release() and the undo.
  std::stop_token stop;
  // Boot time at which the fault ends at the latest, whatever happens. For server-side second nets.
  absl::Duration ends_at;
  // Whatever is left to chance is drawn from it, so that a run can be repeated.
  uint64_t seed = 0;

  // "firedrill:<run>:<fault>", stamped on everything that is touched.
  std::string Stamp() const { return "firedrill:" + run + ":" + fault; }
  Patience patience() const { return Patience(deadline - clock.Boot(), stop); }
};

// The only door to a lasting change: journals `undo`, syncs, then calls `change`. When journalling
// fails nothing is changed. When `change` fails the undo stays journalled and is tried at revert.
class Changes {
 public:
  virtual ~Changes() = default;
  virtual absl::Status Make(const Undo& undo, absl::FunctionRef<absl::Status()> change) = 0;
};

// All calls come from one thread, one after the other, except the constructor and Validate().
class Fault {
 public:
  virtual ~Fault() = default;
  // Refuses what this node cannot apply, or could not undo. Touches nothing; may look.
  virtual absl::Status Validate(const Node& node) const = 0;
  // Disturbs the subject. Makes every lasting change through `changes`. May return before a ramp is
  // over.
  virtual absl::Status Apply(const Context& context, Node& node, Changes& changes) = 0;
  // Measures the disturbance itself, not whether Apply() was called. ABORTED: it is over before its
  // time, and is to be ended as such.
  virtual absl::StatusOr<v1::Observation> Observe(const Context& context,
                                                  const Node& node) const = 0;
  // Lets go of what dies with the process. Idempotent, and legal before Apply().
  virtual void Release() = 0;
  // After Release() and the undo: OK when an independent look finds nothing of this fault any more.
  virtual absl::Status ReadBack(const Context& context, const Node& node) const = 0;
};

// An optional ability: ramp, refill, renewal. Tick() is called about every `pace`, between
// observations.
class Sustains {
 public:
  virtual ~Sustains() = default;
  virtual absl::Duration pace() const = 0;
  virtual absl::Status Tick(const Context& context, Node& node) = 0;
};

// An optional ability: opens, when the run begins, what the fault will need to act and to look
// later, such as a control connection that could not be made any more once a server is full.
// Disturbs nothing. Apply() works without it too.
class Prepares {
 public:
  virtual ~Prepares() = default;
  virtual absl::Status Prepare(const Context& context, Node& node) = 0;
};

// An optional ability: what ReadBack() saw, told with the end of the fault. Not set where it could
// not be compared with anything.
class TellsAfter {
 public:
  virtual ~TellsAfter() = default;
  virtual std::optional<v1::Observation> After() const = 0;
};

// An optional ability of what hits something else than the server of its profile: says what that
// is, so that two runs cannot hit it at a time. Touches nothing; may look, until the deadline.
class NamesSubject {
 public:
  virtual ~NamesSubject() = default;
  // With `identity`, `family` and `words` set: "cgroup/<boot>/<inode>", "cgroup", for people.
  virtual absl::StatusOr<v1::Subject> Subject(const Context& context, const Node& node) const = 0;
};

using FaultMaker = std::function<std::unique_ptr<Fault>(const v1::Fault&)>;

// An optional ability: counts what it does. What has happened since the last observation would be
// missing from its figures, so it is asked once more just before Release().
class Counts {
 public:
  virtual ~Counts() = default;
  // As Observe(); must not wait for the server, because the undo waits for it.
  virtual absl::StatusOr<v1::Observation> LastCount() const = 0;
};

// Why this machine cannot have a kind, whatever it is asked for, and what would do instead.
struct Lack {
  std::string reason;
  // "use ..."; may be empty.
  std::string alternative;
};
// Nothing where it can. Looks; touches nothing.
using FaultLack = std::function<std::optional<Lack>()>;

// `const FaultRegistration kHold(v1::Fault::kHoldConnections, v1::PROTOCOL_MYSQL, MakeHold);`
// A kind whose message has a field `protocol` has one file for each protocol, each registered with
// its own.
class FaultRegistration {
 public:
  // Of a kind without protocols, or for PostgreSQL. What `lack` says is known to controllers before
  // they plan.
  FaultRegistration(v1::Fault::KindCase kind, FaultMaker maker, FaultLack lack = nullptr);
  FaultRegistration(v1::Fault::KindCase kind, v1::Protocol protocol, FaultMaker maker);
};

// UNIMPLEMENTED for a kind, or a protocol of it, that this injector does not know.
absl::StatusOr<std::unique_ptr<Fault>> MakeFault(const v1::Fault& fault);

struct RegisteredFault {
  v1::Fault::KindCase kind;
  // PROTOCOL_UNSPECIFIED for a kind that has none.
  v1::Protocol protocol;
};
// Every registered kind, once for each of its protocols.
std::vector<RegisteredFault> RegisteredFaults();
// What this machine lacks for a kind; nothing for one that works everywhere.
std::optional<Lack> LackOf(v1::Fault::KindCase kind);

// The kind as it is written in a definition: "holdConnections"; empty where none is set.
std::string KindName(const v1::Fault& fault);
// What its field `protocol` says; PostgreSQL where it says nothing, and PROTOCOL_UNSPECIFIED for a
// kind without one.
v1::Protocol ProtocolOf(const v1::Fault& fault);

}  // namespace firedrill
