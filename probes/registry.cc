// Which kinds of probes there are.
#include <map>

#include "absl/strings/str_cat.h"
#include "probes/probe.h"

namespace firedrill {
namespace {

std::map<int, ProbeMaker>& Makers() {
  static auto* const makers = new std::map<int, ProbeMaker>();
  return *makers;
}

}  // namespace

ProbeRegistration::ProbeRegistration(v1::Probe::QuestionCase kind, ProbeMaker maker) {
  Makers()[kind] = std::move(maker);
}

absl::StatusOr<std::unique_ptr<Probe>> MakeProbe(const v1::Probe& probe, const ProbeSite& site) {
  const auto maker = Makers().find(probe.question_case());
  if (maker != Makers().end()) return maker->second(probe, site);
  const auto* field = v1::Probe::descriptor()->FindFieldByNumber(probe.question_case());
  return absl::UnimplementedError(
      absl::StrCat("a probe of kind ", field == nullptr ? std::string("none") : field->name(),
                   " is not asked by itself: its answers come from other measurements"));
}

}  // namespace firedrill
