// delay_bytes: a longer way to the server, whatever the bytes say.
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
    JudgeDelay(shape_, count, observation);
    // What is held is counted when it is let go.
    observation->set_detail(delayed == 0 ? "no bytes have come through yet; what it holds is let "
                                           "go at its end"
                                         : absl::StrCat("bytes were ", observation->detail(), ", ",
                                                        Counted(delayed, "time", "times")));
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
