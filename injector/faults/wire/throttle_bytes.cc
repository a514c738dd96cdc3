// throttle_bytes: bytes pass no faster than a rate, on each connection.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/clock.h"
#include "injector/faults/wire/interception.h"

namespace firedrill {
namespace {

// Less than this share of the limit is what clients asked for, and no proof of a limit.
constexpr double kAtTheLimit = 0.5;

class ThrottleBytes final : public WireFault {
 public:
  explicit ThrottleBytes(const v1::ThrottleBytes& message)
      : WireFault(message), rate_(message.rate()), direction_(message.direction()) {}

 protected:
  void FillWish(v1::WireWish* wish) const override {
    if (direction_ != v1::BYTE_DIRECTION_TO_CLIENT) wish->set_rate_to_server(rate_);
    if (direction_ != v1::BYTE_DIRECTION_TO_SERVER) wish->set_rate_to_client(rate_);
  }
  void Judge(const v1::WireStatus& now, const v1::WireStatus&, const v1::WireCount&,
             v1::Observation* observation) const override {
    const absl::Duration at = RealClock().Boot();
    double passed = 0;
    if (looked_ != absl::ZeroDuration() && at > looked_) {
      const double seconds = absl::ToDoubleSeconds(at - looked_);
      const auto per_second = [seconds](uint64_t later, uint64_t before) {
        return later < before ? 0 : static_cast<double>(later - before) / seconds;
      };
      const double to_server = per_second(now.bytes_to_server(), to_server_);
      const double to_client = per_second(now.bytes_to_client(), to_client_);
      if (direction_ != v1::BYTE_DIRECTION_TO_CLIENT) passed = to_server;
      if (direction_ != v1::BYTE_DIRECTION_TO_SERVER) passed = std::max(passed, to_client);
    }
    looked_ = at;
    to_server_ = now.bytes_to_server();
    to_client_ = now.bytes_to_client();
    observation->set_requested(rate_);
    observation->set_real(passed);
    observation->set_unit("bytes/s");
    observation->set_reached(passed >= kAtTheLimit * rate_);
    observation->set_detail(absl::StrFormat(
        "%.0f bytes/s pass on all connections together, each limited to %.0f", passed, rate_));
  }

 private:
  const double rate_;
  const v1::ByteDirection direction_;
  // Of the look before. Looks come from one thread.
  mutable absl::Duration looked_;
  mutable uint64_t to_server_ = 0;
  mutable uint64_t to_client_ = 0;
};

const FaultRegistration kThrottleBytes(v1::Fault::kThrottleBytes, [](const v1::Fault& fault) {
  return std::make_unique<ThrottleBytes>(fault.throttle_bytes());
});

}  // namespace
}  // namespace firedrill
