// lock_table and lock_rows, but for what depends on the server and on what is locked.
#pragma once

#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/time_proto.h"
#include "injector/fault.h"
#include "injector/os/server_control.h"

namespace firedrill {

// `Lock`: PostgresLock or MysqlLock.
template <typename Message, typename Lock>
class HeldLock : public Fault, public Prepares {
 public:
  explicit HeldLock(const Message& message) : message_(message) {}

  absl::Status Prepare(const Context& context, Node& node) override {
    ASSIGN_OR_RETURN(const typename Lock::Place place, PlaceOf(node, context.run));
    return lock_.Open(place, context.patience());
  }

  void Release() override {
    lock_.LetGo();
    if (!applied_) lock_.Close();
  }

  absl::Status ReadBack(const Context& context, const Node& node) const override {
    ASSIGN_OR_RETURN(const typename Lock::Place place, PlaceOf(node, context.run));
    RETURN_IF_ERROR(lock_.AwaitNone(place, context.Stamp(), context.patience()));
    lock_.Close();
    return absl::OkStatus();
  }

 protected:
  absl::StatusOr<typename Lock::Place> PlaceOf(const Node& node, const std::string& run) const {
    ASSIGN_OR_RETURN(const v1::Profile profile, node.FindProfile(message_.profile()));
    ASSIGN_OR_RETURN(auto server, Lock::Kind::ServerOf(profile));
    return typename Lock::Place{message_.profile(), std::move(server), message_.table(),
                                message_.superuser(), run};
  }

  // Without its statements.
  typename Lock::Take TakeOf(const Context& context) const {
    typename Lock::Take take;
    take.stamp = context.Stamp();
    take.end = RealClock().Boot() + (context.ends_at - context.clock.Boot());
    take.within =
        message_.has_acquire_within() ? FromProto(message_.acquire_within()) : absl::Seconds(1);
    return take;
  }

  // `waiting`: how many sessions, where that can be seen.
  v1::Observation Observed(double requested, double real, const std::string& unit, bool held,
                           std::string detail, std::optional<int> waiting) const {
    v1::Observation observation;
    observation.set_requested(requested);
    observation.set_real(real);
    observation.set_unit(unit);
    observation.set_reached(real > 0 && real == requested);
    observation.set_subject(lock_.facts().identity);
    if (!held && !lock_.trouble().empty()) absl::StrAppend(&detail, "; ", lock_.trouble());
    observation.set_detail(detail);
    if (waiting.has_value()) (*observation.mutable_figures())["waiting"] = *waiting;
    return observation;
  }

  const Message message_;
  bool applied_ = false;
  // Its connections are opened anew where the server has ended them.
  mutable Lock lock_;
};

}  // namespace firedrill
