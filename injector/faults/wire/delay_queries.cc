// delay_queries: holds requests that match before the server gets them.
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "injector/faults/wire/interception.h"

namespace firedrill {
namespace {

class DelayQueries final : public WireFault {
 public:
  explicit DelayQueries(const v1::DelayQueries& message)
      : WireFault(message), match_(MatchOf(message.match())), shape_(ShapeOf(message)) {}

 protected:
  bool NeedsRequests() const override { return true; }
  absl::Status CheckWish() const override { return CheckShape(shape_); }
  void FillWish(v1::WireWish* wish) const override {
    *wish->mutable_match() = match_;
    *wish->mutable_delay() = shape_;
  }
  void Judge(const v1::WireStatus& now, const v1::WireStatus& then, const v1::WireCount& count,
             v1::Observation* observation) const override {
    JudgeDelay(shape_, count, observation);
    std::string detail =
        absl::StrCat(count.hit(), " of ", now.requests() - then.requests(), " requests met");
    if (!observation->detail().empty()) absl::StrAppend(&detail, ", ", observation->detail());
    if (count.cancelled() > 0) {
      absl::StrAppend(&detail, ", ", count.cancelled(), " cancelled by their clients meanwhile");
    }
    observation->set_detail(detail);
  }

 private:
  const v1::QueryMatch match_;
  const v1::DelayShape shape_;
};

const FaultRegistration kDelayQueries(v1::Fault::kDelayQueries, [](const v1::Fault& fault) {
  return std::make_unique<DelayQueries>(fault.delay_queries());
});

}  // namespace
}  // namespace firedrill
