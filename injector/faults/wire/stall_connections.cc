// stall_connections: connections fall silent, and go on where they stopped.
#include "absl/strings/str_cat.h"
#include "injector/faults/wire/interception.h"

namespace firedrill {
namespace {

class StallConnections final : public WireFault {
 public:
  explicit StallConnections(const v1::StallConnections& message)
      : WireFault(message), share_(message.share() == 0 ? 1 : message.share()) {}

 protected:
  void FillWish(v1::WireWish* wish) const override { wish->set_stall(share_); }
  void Judge(const v1::WireStatus& now, const v1::WireStatus&, const v1::WireCount&,
             v1::Observation* observation) const override {
    observation->set_requested(1);
    observation->set_real(static_cast<double>(now.stalled()));
    observation->set_unit("stalled connections");
    observation->set_reached(now.stalled() > 0);
    observation->set_detail(
        Counted(now.stalled(), "connection is silent", "connections are silent"));
    (*observation->mutable_figures())["stalled"] = static_cast<double>(now.stalled());
  }

 private:
  const double share_;
};

const FaultRegistration kStallConnections(v1::Fault::kStallConnections, [](const v1::Fault& fault) {
  return std::make_unique<StallConnections>(fault.stall_connections());
});

}  // namespace
}  // namespace firedrill
