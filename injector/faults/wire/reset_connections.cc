// reset_connections: ends established connections once, idle ones too.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "injector/faults/wire/interception.h"
#include "injector/os/socket_destroy.h"

namespace firedrill {
namespace {

class ResetConnections final : public Fault, public Prepares {
 public:
  explicit ResetConnections(const v1::ResetConnections& message)
      : interception_(InterceptionOf(message)),
        share_(message.share() == 0 ? 1 : message.share()) {}
  ~ResetConnections() override {
    worker_.reset();
    WireWorker::Tidy();
  }

  absl::Status Validate(const Node& node) const override {
    RETURN_IF_ERROR(CheckInterception(node, interception_));
    return interception_.listen.empty() ? CheckDestroySockets() : absl::OkStatus();
  }

  // Clients that come to an address of ours must find it before.
  absl::Status Prepare(const Context& context, Node& node) override {
    if (context.stop.stop_requested()) return absl::CancelledError("it was taken back");
    ASSIGN_OR_RETURN(way_, FindWay(context, node, interception_));
    RETURN_IF_ERROR(CheckNoCircle(interception_, way_.servers));
    ASSIGN_OR_RETURN(worker_, WireWorker::Acquire(way_.key, way_.setup, way_.subject));
    return absl::OkStatus();
  }

  absl::Status Apply(const Context& context, Node& node, Changes&) override {
    RETURN_IF_ERROR(Prepare(context, node));
    applied_ = true;
    // Those that come to us, or that another fault carries.
    ASSIGN_OR_RETURN(reset_, worker_->Reset(share_, context.seed));
    if (!interception_.listen.empty()) return absl::OkStatus();
    ASSIGN_OR_RETURN(const uint64_t direct, worker_->Reconnect(share_, context.seed));
    reset_ += direct;
    return absl::OkStatus();
  }

  absl::StatusOr<v1::Observation> Observe(const Context&, const Node&) const override {
    if (!applied_) return absl::FailedPreconditionError("resetting connections: not applied");
    v1::Observation observation;
    observation.set_requested(static_cast<double>(std::max<uint64_t>(1, reset_)));
    observation.set_real(static_cast<double>(reset_));
    observation.set_unit("connections");
    observation.set_reached(reset_ > 0);
    observation.set_subject(way_.subject);
    observation.set_detail(
        absl::StrCat(reset_ == 0 ? absl::StrCat("no connection to ", way_.subject, " was there")
                                 : absl::StrCat(Counted(reset_, "connection", "connections"),
                                                " to ", way_.subject, " reset"),
                     way_.left_alone));
    (*observation.mutable_figures())["reset"] = static_cast<double>(reset_);
    return observation;
  }

  void Release() override { worker_.reset(); }
  // Nothing to undo, and nothing of ours stays.
  absl::Status ReadBack(const Context&, const Node&) const override { return absl::OkStatus(); }

 private:
  const Interception interception_;
  const double share_;
  WireWay way_;
  std::shared_ptr<WireWorker> worker_;
  uint64_t reset_ = 0;
  bool applied_ = false;
};

const FaultRegistration kResetConnections(v1::Fault::kResetConnections, [](const v1::Fault& fault) {
  return std::make_unique<ResetConnections>(fault.reset_connections());
});

}  // namespace
}  // namespace firedrill
