// delay_bytes: a longer way to the server, whatever the bytes say.
#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "injector/faults/wire/interception.h"

namespace firedrill {
namespace {

class DelayBytes final : public WireFault {
 public:
  explicit DelayBytes(const v1::DelayBytes& message)
      : WireFault(message), shape_(ShapeOf(message)), direction_(message.direction()) {}

 protected:
  absl::Status CheckWish() const override { return CheckShape(shape_); }
  void FillWish(v1::WireWish* wish) const override {
    if (direction_ != v1::BYTE_DIRECTION_TO_CLIENT) *wish->mutable_delay_to_server() = shape_;
    if (direction_ != v1::BYTE_DIRECTION_TO_SERVER) *wish->mutable_delay_to_client() = shape_;
  }
  void Judge(const v1::WireStatus&, const v1::WireStatus&, const v1::WireCount& count,
             v1::Observation* observation) const override {
    const uint64_t delayed = count.delayed();
    const uint64_t met = std::max(count.hit(), delayed);
    JudgeDelay(shape_, count, observation);
    std::string detail = "no bytes have come yet";
    if (delayed > 0) {
      detail = absl::StrCat("bytes were ", observation->detail(), ", ",
                            Counted(delayed, "time", "times"));
      if (met > delayed) absl::StrAppend(&detail, ", and are held ", met - delayed, " times more");
    } else if (met > 0) {
      // For how long is known of what has been let go.
      detail = absl::StrCat("bytes were held, ", Counted(met, "time", "times"),
                            ", and none of them for the whole time yet; what it holds is let go at "
                            "its end");
    }
    observation->set_detail(detail);
  }

 private:
  const v1::DelayShape shape_;
  const v1::ByteDirection direction_;
};

const FaultRegistration kDelayBytes(v1::Fault::kDelayBytes, [](const v1::Fault& fault) {
  return std::make_unique<DelayBytes>(fault.delay_bytes());
});

}  // namespace
}  // namespace firedrill
