// Asks one planned probe again and again.
#include "probes/runner.h"

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/time_proto.h"

namespace firedrill {

absl::StatusOr<std::unique_ptr<ProbeRunner>> ProbeRunner::Start(const v1::PlannedProbe& planned,
                                                                const ProbeSite& site,
                                                                const Clock& clock, Sink sink) {
  absl::StatusOr<std::unique_ptr<Probe>> probe = MakeProbe(planned.probe(), site);
  if (!probe.ok()) return Annotate(probe.status(), absl::StrCat("probe ", planned.id()));
  RETURN_IF_ERROR(Annotate((*probe)->Validate(), absl::StrCat("probe ", planned.id())));
  return std::unique_ptr<ProbeRunner>(
      new ProbeRunner(planned, *std::move(probe), clock, std::move(sink)));
}

ProbeRunner::ProbeRunner(v1::PlannedProbe planned, std::unique_ptr<Probe> probe, const Clock& clock,
                         Sink sink)
    : planned_(std::move(planned)),
      probe_(std::move(probe)),
      clock_(clock),
      sink_(std::move(sink)),
      thread_([this](std::stop_token stop) { Loop(std::move(stop)); }) {}

ProbeRunner::~ProbeRunner() = default;

v1::Sample ProbeRunner::Ask(std::stop_token stop) {
  const absl::Duration deadline = FromProto(planned_.deadline());
  const ProbeContext context{clock_, deadline, std::move(stop)};
  v1::Sample sample;
  sample.set_probe(planned_.id());
  *sample.mutable_asked() = ToProto(clock_.Now());
  const absl::Duration begin = clock_.Boot();
  const absl::StatusOr<ProbeValues> values = probe_->Read(context);
  const absl::Duration took = clock_.Boot() - begin;
  *sample.mutable_took() = ToProto(took);
  sample.set_late(took > deadline);
  if (!values.ok()) {
    sample.set_unknown(std::string(values.status().message()));
  } else {
    for (const auto& [field, value] : *values) (*sample.mutable_values())[field] = value;
  }
  return sample;
}

void ProbeRunner::Loop(std::stop_token stop) {
  const absl::Duration every = FromProto(planned_.every());
  std::mutex mutex;
  std::condition_variable_any wake;
  absl::Duration due = clock_.Boot();
  while (!stop.stop_requested()) {
    v1::Sample sample = Ask(stop);
    if (stop.stop_requested()) return;
    sink_(std::move(sample));
    // One question at a time: what a slow answer made us miss is not asked afterwards.
    due = std::max(due + every, clock_.Boot());
    std::unique_lock lock(mutex);
    wake.wait_for(lock, stop, absl::ToChronoNanoseconds(due - clock_.Boot()), [] { return false; });
  }
}

}  // namespace firedrill
