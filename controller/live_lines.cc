// What people see while a run goes on: one line for what means something to them.
#include "absl/algorithm/container.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/time_proto.h"
#include "controller/report.h"
#include "controller/report_parts.h"
#include "controller/run_steps.h"
#include "controller/words.h"

namespace firedrill {
namespace {

using reporting::Ink;
using reporting::Paint;

// A single missing answer is no news.
constexpr int kUnknownPoints = 3;
// Where the words begin, behind the time.
constexpr size_t kTextColumn = 10;

std::string LastLine(const std::string& output) {
  const std::vector<std::string> lines = absl::StrSplit(output, '\n', absl::SkipEmpty());
  return lines.empty() ? "" : lines.back();
}

std::string Count(uint32_t count, absl::string_view what, absl::string_view rest) {
  return absl::StrCat(count, " ", what, count == 1 ? "" : "s", rest);
}

std::string Because(const std::string& reason) {
  return reason.empty() ? "" : absl::StrCat(": ", reason);
}

std::string Instance(const v1::AlertTransition& alert) {
  for (const char* label : {"instance", "job"}) {
    auto it = alert.labels().find(label);
    if (it != alert.labels().end()) return absl::StrCat(" at ", it->second);
  }
  return "";
}

std::string FindingWords(const ReportStyle& style, const v1::Finding& finding) {
  const std::string mend = finding.mend().empty() ? "" : absl::StrCat(" (", finding.mend(), ")");
  switch (finding.kind()) {
    case v1::Finding::KIND_DEFECT:
      return absl::StrCat(Paint(style, Ink::kRed, "defect"), "  ", finding.message(), mend);
    case v1::Finding::KIND_CIRCUMSTANCE:
      return absl::StrCat(Paint(style, Ink::kYellow, "not now"), "  ", finding.message(), mend);
    default:
      return absl::StrCat("note  ", finding.message(), mend);
  }
}

std::string RemedyWords(const ReportStyle& style, const v1::RemedyReport& report) {
  const std::string who = absl::StrCat("remedy ", report.remedy());
  switch (report.state()) {
    case v1::REMEDY_STATE_RUNNING:
      return absl::StrCat(who, " runs on ", report.node());
    case v1::REMEDY_STATE_DONE:
      return absl::StrCat(who, " is done, after ", Short(FromProto(report.took())));
    case v1::REMEDY_STATE_FAILED:
      return absl::StrCat(Paint(style, Ink::kRed, absl::StrCat(who, " failed")),
                          FailedWords(report), Because(LastLine(report.output())));
    default:
      return "";
  }
}

}  // namespace

std::string LiveLines::Stamp(absl::Time at) const {
  const absl::Time from = gate_passed_.value_or(begin_.value_or(at));
  const std::string time = Signed(at - from);
  return absl::StrFormat("%8s", gate_passed_.has_value() ? time : time.substr(1));
}

std::string LiveLines::Line(const v1::Event& event) {
  const absl::Time at = FromProto(event.at());
  if (!begin_.has_value()) begin_ = at;
  if (event.has_phase() && event.phase().phase() == v1::PHASE_INJECT) gate_passed_ = at;
  const std::string words = Words(event);
  if (words.empty()) return "";
  const std::string stamp = Paint(style_, Ink::kDim, Stamp(at));
  std::vector<std::string> lines;
  for (absl::string_view line : absl::StrSplit(words, '\n', absl::SkipEmpty())) {
    lines.push_back(absl::StrCat(
        stamp, "  ",
        wrap_ ? reporting::Wrap(line, style_.width, kTextColumn, kTextColumn) : std::string(line)));
  }
  return absl::StrJoin(lines, "\n");
}

std::string LiveLines::Beneath(absl::string_view words) const {
  const std::string indent(kTextColumn, ' ');
  return absl::StrCat(indent, wrap_ ? reporting::Wrap(words, style_.width, kTextColumn, kTextColumn)
                                    : std::string(words));
}

std::string LiveLines::Words(const v1::Event& event) {
  switch (event.body_case()) {
    case v1::Event::kCreated:
      return Created(event.created());
    case v1::Event::kFinding:
      First(absl::StrCat("found/", event.finding().code()));
      return FindingWords(style_, event.finding());
    case v1::Event::kPreflightFinished: {
      const v1::PreflightFinished& found = event.preflight_finished();
      if (found.defects() + found.circumstances() == 0)
        return "preflight: this run can tell the truth";
      std::vector<std::string> parts;
      if (found.defects() > 0)
        parts.push_back(Count(found.defects(), "defect", " of the alerting under test"));
      if (found.circumstances() > 0)
        parts.push_back(Count(found.circumstances(), "reason", " not to start now"));
      return absl::StrCat("preflight: ", absl::StrJoin(parts, ", "));
    }
    case v1::Event::kPhase:
      if (event.phase().phase() == v1::PHASE_FINISHED) return "";
      return absl::StrCat(Paint(style_, Ink::kBold, PhaseWord(event.phase().phase())),
                          BecauseOfMore(event.phase().reason()));
    case v1::Event::kCommand:
      if (event.command().command().has_apply()) applied_ = true;
      return "";
    case v1::Event::kFault:
      return Fault(event.fault());
    case v1::Event::kRemedy:
      return RemedyWords(style_, event.remedy());
    case v1::Event::kAlert:
      return Alert(event.alert());
    case v1::Event::kGap:
      return Gap(event.gap(), event.source());
    case v1::Event::kResumed:
      return absl::StrCat(Paint(style_, Ink::kYellow, "the controller was started again"),
                          " after ", Short(FromProto(event.resumed().gap())),
                          " in which nobody watched; it goes on with the run");
    case v1::Event::kSample:
    case v1::Event::kLoad:
      return Truths(event);
    case v1::Event::kStop: {
      const std::string& why = event.stop().reason();
      const bool told = Told(why);
      told_reasons_.push_back(why);
      return absl::StrCat(Paint(style_, Ink::kRed, "stopped"), " by ",
                          StopWords(event.stop().cause(), told ? "" : why));
    }
    case v1::Event::kNode:
      if (event.node().connected()) {
        // The first time it is no news: it was there when the run began.
        return said_.erase(absl::StrCat("silent/", event.node().node())) > 0
                   ? absl::StrCat("node ", event.node().node(), " is back",
                                  Because(event.node().reason()))
                   : "";
      }
      First(absl::StrCat("silent/", event.node().node()));
      return absl::StrCat(
          Paint(style_, Ink::kYellow, absl::StrCat("node ", event.node().node(), " is silent")),
          Because(event.node().reason()));
    case v1::Event::kCanary:
      // One that was lost is a defect, and was told as that.
      if (said_.contains("found/canary-lost")) return "";
      return event.canary().delivered()
                 ? absl::StrCat("canary alert delivered, after ",
                                Short(FromProto(event.canary().took())))
                 : absl::StrCat(Paint(style_, Ink::kYellow, "canary alert not delivered"),
                                Because(event.canary().reason()));
    case v1::Event::kAnnounced:
      if (event.announced().delivered()) return "";
      return absl::StrCat("could not announce '", event.announced().what(), "' to ",
                          event.announced().url(), Because(event.announced().reason()));
    case v1::Event::kLoadReport:
      if (event.load_report().running() || event.load_report().reason().empty()) return "";
      return absl::StrCat(
          Paint(style_, Ink::kYellow, absl::StrCat("load ", event.load_report().load(), " ended")),
          Because(event.load_report().reason()));
    case v1::Event::kFinished:
      return absl::StrCat(
          Paint(style_, Ink::kBold, OutcomeWord(event.finished().outcome())),
          BecauseOfMore(event.finished().reason()),
          !event.finished().undo_confirmed() ? Paint(style_, Ink::kRed, "; undo NOT confirmed")
          : applied_ && event.finished().outcome() == v1::OUTCOME_ABORTED ? "; every fault undone"
                                                                          : "");
    default:
      return "";
  }
}

// Also where it only says in addition whose reason it is: "db-1 refuses leak: no free slot".
bool LiveLines::Told(absl::string_view reason) const {
  return absl::c_any_of(told_reasons_, [&](const std::string& told) {
    return reason == told || absl::EndsWith(reason, absl::StrCat(": ", told));
  });
}

// What has been said when the run was stopped is no news afterwards.
std::string LiveLines::BecauseOfMore(const std::string& reason) const {
  return Told(reason) ? "" : Because(reason);
}

std::string LiveLines::Created(const v1::RunCreated& created) {
  spec_ = created.experiment().spec();
  for (const v1::PlannedFault& fault : created.plan().faults()) {
    if (fault.ending() == v1::ENDING_ONE_SHOT) one_shots_.insert(fault.name());
  }
  for (const v1::PlannedCheck& check : created.plan().gate()) {
    checks_.push_back({check.name(), check.is(), TruthTracker(check), std::nullopt});
  }
  return absl::StrCat("run ", created.plan().run(), " of ", created.experiment().metadata().name(),
                      ", seed ", created.plan().seed());
}

std::string LiveLines::Fault(const v1::FaultReport& report) {
  const std::string key = absl::StrCat(report.fault(), "@", report.node());
  const std::string who = absl::StrCat("fault ", report.fault());
  std::vector<std::string> lines;
  const v1::Observation& seen = report.observation();
  const bool one_shot = one_shots_.contains(report.fault());
  const bool active = report.state() == v1::FAULT_STATE_ACTIVE;
  if (active && First(absl::StrCat("on/", key)) && !seen.reached()) {
    lines.push_back(absl::StrCat(who, " is on at ", report.node(), Because(seen.detail())));
  }
  if (active && !report.has_observation() && !report.reason().empty() &&
      First(absl::StrCat("blind/", key))) {
    lines.push_back(absl::StrCat(who, " at ", report.node(), Because(report.reason())));
  }
  // What was counted while it was let go is not said of a fault that was in force.
  const bool counted = report.state() == v1::FAULT_STATE_REVERTING;
  if (seen.reached() && !counted && First(absl::StrCat("reached/", key))) {
    const absl::string_view what = one_shot ? " has hit" : " in force";
    lines.push_back(
        absl::StrCat(Paint(style_, Ink::kBold, absl::StrCat(who, what)), Because(seen.detail())));
  }
  switch (report.state()) {
    case v1::FAULT_STATE_REVERTED:
      // What was only prepared, or happened once, was never on.
      if (!one_shot && said_.contains(absl::StrCat("on/", key)) &&
          First(absl::StrCat("off/", key))) {
        lines.push_back(
            absl::StrCat(who, " is off, read back",
                         Because(seen.detail().empty() ? report.reason() : seen.detail())));
      }
      break;
    case v1::FAULT_STATE_STUCK:
      lines.push_back(
          absl::StrCat(Paint(style_, Ink::kRed, absl::StrCat(who, " is STUCK on ", report.node())),
                       Because(report.reason())));
      if (!report.undo_by_hand().empty())
        lines.push_back(absl::StrCat("  undo it with: ", report.undo_by_hand()));
      break;
    case v1::FAULT_STATE_REFUSED:
    case v1::FAULT_STATE_SUPERSEDED:
    case v1::FAULT_STATE_EXPIRED:
    case v1::FAULT_STATE_UNKNOWN:
      lines.push_back(absl::StrCat(
          Paint(style_, Ink::kYellow,
                absl::StrCat(who, " is ", FaultStateWord(report.state()), " on ", report.node())),
          Because(report.reason())));
      if (report.state() == v1::FAULT_STATE_REFUSED && !report.reason().empty()) {
        told_reasons_.push_back(report.reason());
      }
      break;
    default:
      break;
  }
  return absl::StrJoin(lines, "\n");
}

std::string LiveLines::Role(const std::string& alert) const {
  for (const std::string& name : spec_.expect().must_not_fire()) {
    if (name == alert) return " (must not fire)";
  }
  for (const v1::AlertExpectation& expected : spec_.expect().alerts()) {
    if (expected.alert() == alert) return " (expected)";
  }
  return "";
}

std::string LiveLines::Alert(const v1::AlertTransition& alert) {
  if (alert.labels().contains("firedrill_canary")) return "";
  const std::string who = absl::StrCat("alert ", alert.alert());
  const std::string role = Role(alert.alert());
  const Ink ink = role == " (must not fire)" ? Ink::kRed : Ink::kBold;
  const bool firing = alert.state() == v1::ALERT_STATE_FIRING;
  switch (alert.source()) {
    case v1::ALERT_SOURCE_PROMETHEUS:
      switch (alert.state()) {
        case v1::ALERT_STATE_PENDING:
          return absl::StrCat(who, " pending", Instance(alert), role);
        case v1::ALERT_STATE_FIRING:
          return absl::StrCat(Paint(style_, ink, absl::StrCat(who, " firing")), Instance(alert),
                              role);
        case v1::ALERT_STATE_UNKNOWN:
          return absl::StrCat(Paint(style_, Ink::kYellow, absl::StrCat(who, " went out of sight")),
                              Instance(alert), ": its series are gone");
        default:
          return absl::StrCat(who, " no longer active", Instance(alert));
      }
    case v1::ALERT_SOURCE_ALERTMANAGER: {
      const std::string key = absl::StrCat("suppressed/", alert.fingerprint(), "/", alert.alert());
      if (!firing || !alert.suppressed() || !First(key)) return "";
      return absl::StrCat(
          Paint(style_, Ink::kYellow, absl::StrCat(who, " is silenced or inhibited")), role);
    }
    case v1::ALERT_SOURCE_WEBHOOK: {
      const std::string key =
          absl::StrCat(alert.receiver(), "/", alert.alert(), "/", alert.fingerprint(), "/",
                       alert.active_at().seconds(), firing ? "/firing" : "/resolved");
      if (!First(key)) return "";
      return absl::StrCat(who, firing ? " delivered to " : " resolved, told to ", alert.receiver(),
                          role);
    }
    default:
      return "";
  }
}

std::string LiveLines::Gap(const v1::MonitorGap& gap, const std::string& source) {
  const std::string name = gap.source().empty() ? source : gap.source();
  if (!gap.has_to()) {
    return absl::StrCat(Paint(style_, Ink::kYellow, absl::StrCat(name, " tells nothing")),
                        Because(gap.reason()), gap.covered() ? ", and another one answers" : "");
  }
  return absl::StrCat(name, " is back, after ", Short(FromProto(gap.to()) - FromProto(gap.from())));
}

std::string LiveLines::Truths(const v1::Event& event) {
  std::vector<std::string> lines;
  for (Watched& check : checks_) {
    const std::optional<TruthPoint> point = check.tracker.Feed(event);
    if (!point.has_value()) continue;
    std::string line = OneTruth(check, *point);
    if (!line.empty()) lines.push_back(std::move(line));
  }
  return absl::StrJoin(lines, "\n");
}

std::string LiveLines::OneTruth(Watched& check, const TruthPoint& point) {
  check.unknown = point.truth == Truth::kUnknown ? check.unknown + 1 : 0;
  if (point.truth == Truth::kUnknown && check.unknown < kUnknownPoints) return "";
  if (check.said == point.truth) return "";
  check.said = point.truth;
  switch (point.truth) {
    case Truth::kTrue:
      return absl::StrCat(Paint(style_, Ink::kGreen, absl::StrCat(check.name, " holds")), ": ",
                          point.observed);
    case Truth::kFalse:
      return absl::StrCat(Paint(style_, Ink::kRed, absl::StrCat(check.name, " is broken")), ": ",
                          point.observed, ", must be ", check.is);
    case Truth::kUnknown:
      break;
  }
  return absl::StrCat(Paint(style_, Ink::kYellow, absl::StrCat(check.name, " is ")),
                      point.observed);
}

}  // namespace firedrill
