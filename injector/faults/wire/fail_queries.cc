// fail_queries: lets requests that match fail, by an error of the server's own kind or a cut.
#include "absl/strings/str_cat.h"
#include "injector/faults/wire/interception.h"

namespace firedrill {
namespace {

class FailQueries final : public WireFault {
 public:
  explicit FailQueries(const v1::FailQueries& message)
      : WireFault(message), match_(MatchOf(message.match())) {
    if (message.how_case() == v1::FailQueries::kCutAfter) {
      failure_.set_cut_after(message.cut_after());
    } else {
      failure_.set_error(message.error());
    }
    failure_.set_message(message.message());
    failure_.set_moment(message.moment() == v1::FAILURE_MOMENT_UNSPECIFIED
                            ? v1::FAILURE_MOMENT_BEFORE
                            : message.moment());
  }

 protected:
  bool NeedsRequests() const override { return true; }
  void FillWish(v1::WireWish* wish) const override {
    *wish->mutable_match() = match_;
    *wish->mutable_failure() = failure_;
  }
  void Judge(const v1::WireStatus& now, const v1::WireStatus& then, const v1::WireCount& count,
             v1::Observation* observation) const override {
    // Its own: another fault may let requests of the same server fail, too.
    const uint64_t failed = count.failed();
    observation->set_requested(1);
    observation->set_real(static_cast<double>(failed));
    observation->set_unit("failed requests");
    observation->set_reached(failed > 0);
    observation->set_detail(absl::StrCat(failed, " of ", now.requests() - then.requests(),
                                         " requests failed, ", count.matched(), " matched"));
    (*observation->mutable_figures())["failed"] = static_cast<double>(failed);
  }

 private:
  const v1::QueryMatch match_;
  v1::QueryFailure failure_;
};

const FaultRegistration kFailQueries(v1::Fault::kFailQueries, [](const v1::Fault& fault) {
  return std::make_unique<FailQueries>(fault.fail_queries());
});

}  // namespace
}  // namespace firedrill
