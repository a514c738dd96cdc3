// leak_connections: a client's close is not passed on, so that the server's slots run out.
#include "absl/strings/str_cat.h"
#include "injector/faults/wire/interception.h"

namespace firedrill {
namespace {

class LeakConnections final : public WireFault {
 public:
  explicit LeakConnections(const v1::LeakConnections& message)
      : WireFault(message), share_(message.share() == 0 ? 1 : message.share()) {}

 protected:
  // Their clients say goodbye, and their servers close when they hear it.
  bool NeedsPlaintext(v1::Protocol protocol) const override {
    return protocol == v1::PROTOCOL_POSTGRESQL || protocol == v1::PROTOCOL_MYSQL;
  }
  void FillWish(v1::WireWish* wish) const override { wish->set_leak(share_); }
  void Judge(const v1::WireStatus& now, const v1::WireStatus&, const v1::WireCount&,
             v1::Observation* observation) const override {
    observation->set_requested(1);
    observation->set_real(static_cast<double>(now.leaked()));
    observation->set_unit("leaked connections");
    observation->set_reached(now.leaked() > 0);
    observation->set_detail(Counted(now.leaked(),
                                    "connection is open at the server though its client has gone "
                                    "or said goodbye",
                                    "connections are open at the server though their clients have "
                                    "gone or said goodbye"));
    (*observation->mutable_figures())["leaked"] = static_cast<double>(now.leaked());
  }

 private:
  const double share_;
};

const FaultRegistration kLeakConnections(v1::Fault::kLeakConnections, [](const v1::Fault& fault) {
  return std::make_unique<LeakConnections>(fault.leak_connections());
});

}  // namespace
}  // namespace firedrill
