// throttle_bytes: bytes pass no faster than a rate, on each connection.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/clock.h"
#include "injector/faults/wire/interception.h"

namespace firedrill {
namespace {

constexpr absl::Duration kLeastLook = absl::Milliseconds(100);

class ThrottleBytes final : public WireFault {
 public:
  explicit ThrottleBytes(const v1::ThrottleBytes& message)
      : WireFault(message), rate_(message.rate()), direction_(message.direction()) {}

 protected:
  void FillWish(v1::WireWish* wish) const override {
    if (direction_ != v1::BYTE_DIRECTION_TO_CLIENT) wish->set_rate_to_server(rate_);
    if (direction_ != v1::BYTE_DIRECTION_TO_SERVER) wish->set_rate_to_client(rate_);
  }
  void Judge(const v1::WireStatus& now, const v1::WireStatus& then, const v1::WireCount&,
             v1::Observation* observation) const override {
    const auto since = [](uint64_t later, uint64_t before) {
      return static_cast<double>(later < before ? 0 : later - before);
    };
    const bool first = looked_ == absl::ZeroDuration();
    const absl::Duration at = RealClock().Boot();
    // The last look comes right behind another: too little time to tell a rate.
    if (first || at - looked_ >= kLeastLook) {
      const double seconds = first ? 1 : absl::ToDoubleSeconds(at - looked_);
      const double to_server = first ? 0 : since(now.bytes_to_server(), to_server_) / seconds;
      const double to_client = first ? 0 : since(now.bytes_to_client(), to_client_) / seconds;
      pass_ = direction_ == v1::BYTE_DIRECTION_TO_CLIENT ? 0 : to_server;
      if (direction_ != v1::BYTE_DIRECTION_TO_SERVER) pass_ = std::max(pass_, to_client);
      looked_ = at;
      to_server_ = now.bytes_to_server();
      to_client_ = now.bytes_to_client();
    }
    double passed = 0;
    double waited = 0;
    if (direction_ != v1::BYTE_DIRECTION_TO_CLIENT) {
      passed += since(now.bytes_to_server(), then.bytes_to_server());
      waited += since(now.waited_to_server(), then.waited_to_server());
    }
    if (direction_ != v1::BYTE_DIRECTION_TO_SERVER) {
      passed += since(now.bytes_to_client(), then.bytes_to_client());
      waited += since(now.waited_to_client(), then.waited_to_client());
    }
    observation->set_requested(rate_);
    observation->set_real(pass_);
    observation->set_unit("bytes/s");
    // Whoever asks for less is not limited, however many do so together.
    observation->set_reached(waited > 0);
    observation->set_detail(
        absl::StrFormat("%.0f bytes have passed, %.0f had to wait for the limit, now %.0f bytes/s "
                        "on all connections together, each limited to %.0f",
                        passed, waited, pass_, rate_));
    (*observation->mutable_figures())["passed"] = passed;
    (*observation->mutable_figures())["waited"] = waited;
  }

 private:
  const double rate_;
  const v1::ByteDirection direction_;
  // Of the look before. Looks come from one thread.
  mutable absl::Duration looked_;
  mutable double pass_ = 0;
  mutable uint64_t to_server_ = 0;
  mutable uint64_t to_client_ = 0;
};

const FaultRegistration kThrottleBytes(v1::Fault::kThrottleBytes, [](const v1::Fault& fault) {
  return std::make_unique<ThrottleBytes>(fault.throttle_bytes());
});

}  // namespace
}  // namespace firedrill
