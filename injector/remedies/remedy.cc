// The registry of remedies: filled before main() by the other files of this folder.
#include "injector/remedies/remedy.h"

#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/time_proto.h"

namespace firedrill {
namespace {

std::map<v1::Remedy::KindCase, RemedyMaker>& Makers() {
  static auto* const makers = new std::map<v1::Remedy::KindCase, RemedyMaker>;
  return *makers;
}

v1::RemedyReport RunOrRefuse(const v1::Remedy& message, const Node& node,
                             const RemedyContext& context) {
  const auto remedy = MakeRemedy(message);
  if (!remedy.ok()) return ReportOf(remedy.status(), "");
  if (const absl::Status status = (*remedy)->Validate(node); !status.ok()) {
    return ReportOf(status, "");
  }
  v1::RemedyReport report = (*remedy)->Run(context, node);
  if (const auto leaves = (*remedy)->Leaves(node); leaves.ok()) report.set_leaves(*leaves);
  return report;
}

}  // namespace

RemedyRegistration::RemedyRegistration(v1::Remedy::KindCase kind, RemedyMaker maker) {
  Makers().emplace(kind, std::move(maker));
}

absl::StatusOr<std::unique_ptr<Remedy>> MakeRemedy(const v1::Remedy& remedy) {
  const auto found = Makers().find(remedy.kind_case());
  if (found == Makers().end()) {
    return absl::UnimplementedError(
        absl::StrCat("this injector does not know the remedy ", KindName(remedy),
                     "; it is older than the controller: install the same version on both"));
  }
  return found->second(remedy);
}

std::vector<v1::Remedy::KindCase> RegisteredRemedies() {
  std::vector<v1::Remedy::KindCase> kinds;
  for (const auto& [kind, maker] : Makers()) kinds.push_back(kind);
  return kinds;
}

v1::RemedyReport RunRemedyBlocking(const v1::PlannedRemedy& remedy, const Node& node,
                                   const RemedyContext& context) {
  const absl::Duration begin = RealClock().Boot();
  RemedyContext named = context;
  named.remedy = remedy.name();
  v1::RemedyReport report = RunOrRefuse(remedy.remedy(), node, named);
  report.set_remedy(remedy.name());
  report.set_node(remedy.node());
  if (report.state() == v1::REMEDY_STATE_FAILED && context.stop.stop_requested()) {
    report.set_failure("interrupted");
  }
  *report.mutable_took() = ToProto(RealClock().Boot() - begin);
  return report;
}

v1::RemedyReport ReportOf(const absl::Status& why, absl::string_view done) {
  v1::RemedyReport report;
  report.set_state(why.ok() ? v1::REMEDY_STATE_DONE : v1::REMEDY_STATE_FAILED);
  report.set_exit_code(why.ok() ? 0 : -1);
  report.set_output(PrintableAscii(why.ok() ? done : absl::string_view(why.message())));
  return report;
}

std::string PrintableAscii(absl::string_view bytes) {
  std::string text;
  for (const char c : bytes) {
    text.push_back(c == '\n' || c == '\t' || (c >= ' ' && c < 0x7f) ? c : '?');
  }
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

std::string KindName(const v1::Remedy& remedy) {
  const auto* field = v1::Remedy::descriptor()->FindFieldByNumber(remedy.kind_case());
  return field == nullptr ? "" : field->json_name();
}

}  // namespace firedrill
