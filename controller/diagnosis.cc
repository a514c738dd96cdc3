// Judges a controller and its surroundings.
#include "controller/diagnosis.h"

#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "controller/alerts/alertmanager.h"
#include "controller/alerts/prometheus.h"

namespace firedrill {
namespace {

// A person's certificate is good for a day.
constexpr absl::Duration kExpiresSoon = absl::Hours(4);
// Comparisons of times inside the error are inconclusive; an offset alone is reckoned with, and
// still a clock that somebody should set.
constexpr absl::Duration kClockIsWrong = absl::Seconds(1);
constexpr absl::Duration kAnswerWithin = absl::Seconds(3);
constexpr size_t kMostLeftTold = 20;
constexpr uint64_t kLowSpace = 500ull << 20, kNoSpace = 50ull << 20;

v1::Diagnosis Make(v1::Diagnosis::Level level, absl::string_view subject, absl::string_view found,
                   absl::string_view next = "") {
  v1::Diagnosis diagnosis;
  diagnosis.set_level(level);
  diagnosis.set_subject(std::string(subject));
  diagnosis.set_found(std::string(found));
  diagnosis.set_next(std::string(next));
  return diagnosis;
}

v1::Diagnosis DiagnoseClock(absl::string_view subject, absl::Duration offset) {
  const std::string found = absl::StrCat(firedrill::FormatDuration(absl::AbsDuration(offset)),
                                         offset < absl::ZeroDuration() ? " behind" : " ahead of",
                                         " the controller's clock");
  if (absl::AbsDuration(offset) <= kClockIsWrong) return Fine(subject, found);
  return Warning(subject, found, "let both be set by the same NTP servers (chrony, timesyncd)");
}

std::vector<v1::Diagnosis> LookAtPrometheus(const v1::MonitoringServer& server,
                                            const Clock& clock) {
  const std::string subject = "prometheus";
  const auto client = PrometheusClient::Make(server, kAnswerWithin);
  const absl::StatusOr<std::vector<AlertingRule>> rules =
      client.ok() ? client->Rules() : absl::StatusOr<std::vector<AlertingRule>>(client.status());
  if (!rules.ok()) {
    return {Failure(subject, rules.status().message(),
                    absl::StrCat("see whether ", server.url(),
                                 " is up and lets the controller in; correct the site file"))};
  }
  std::vector<v1::Diagnosis> all = {Fine(subject, absl::StrCat(server.url(), " answers"))};
  const auto ill = std::find_if(rules->begin(), rules->end(),
                                [](const AlertingRule& rule) { return rule.health == "err"; });
  if (rules->empty()) {
    all.push_back(Warning("rules", "no alerting rule is loaded",
                          "an experiment that expects an alert cannot pass: load the rules"));
  } else if (ill != rules->end()) {
    all.push_back(Warning("rules",
                          absl::StrCat(ill->name, " cannot be evaluated: ", ill->last_error),
                          "correct the rule; promtool check rules finds most of it"));
  } else {
    all.push_back(Fine("rules", absl::StrCat(rules->size(), " alerting rules are loaded")));
  }
  if (const auto offset = client->MeasureClock(clock); offset.ok())
    all.push_back(DiagnoseClock("prometheus' clock", offset->offset));
  return all;
}

v1::Diagnosis LookAtAlertmanager(const v1::MonitoringServer& server) {
  const auto client = AlertmanagerClient::Make(server, kAnswerWithin);
  const absl::StatusOr<AlertmanagerStatus> status =
      client.ok() ? client->Status() : absl::StatusOr<AlertmanagerStatus>(client.status());
  if (status.ok())
    return Fine("alertmanager", absl::StrCat(server.url(), " answers, version ", status->version));
  return Failure("alertmanager", status.status().message(),
                 absl::StrCat("see whether ", server.url(),
                              " is up and lets the controller in; correct the site file"));
}

}  // namespace

v1::Diagnosis Fine(absl::string_view subject, absl::string_view found) {
  return Make(v1::Diagnosis::LEVEL_OK, subject, found);
}

v1::Diagnosis Warning(absl::string_view subject, absl::string_view found, absl::string_view next) {
  return Make(v1::Diagnosis::LEVEL_WARN, subject, found, next);
}

v1::Diagnosis Failure(absl::string_view subject, absl::string_view found, absl::string_view next) {
  return Make(v1::Diagnosis::LEVEL_FAIL, subject, found, next);
}

v1::Diagnosis DiagnoseExpiry(absl::string_view subject, absl::Time not_before, absl::Time not_after,
                             absl::Time now, absl::string_view reissue) {
  if (now < not_before) {
    return Failure(subject,
                   absl::StrCat("is good from ", firedrill::FormatTime(not_before), " only"),
                   "set the clock of this machine, or of the one that has issued it");
  }
  if (now >= not_after)
    return Failure(subject, absl::StrCat("expired on ", firedrill::FormatTime(not_after)), reissue);
  const absl::Duration left = absl::Trunc(not_after - now, absl::Minutes(1));
  const std::string found = absl::StrCat("is good for ", firedrill::FormatDuration(left),
                                         ", until ", firedrill::FormatTime(not_after));
  // A short one that is new is no reason to worry.
  if (left < std::min(kExpiresSoon, (not_after - not_before) / 4))
    return Warning(subject, found, reissue);
  return Fine(subject, found);
}

v1::Diagnosis DiagnoseStateFolder(const std::string& folder) {
  struct statvfs disk {};
  const bool known = statvfs(folder.c_str(), &disk) == 0;
  const uint64_t free = known ? static_cast<uint64_t>(disk.f_bavail) * disk.f_frsize : 0;
  const std::string found = absl::StrCat(folder, ", ", free >> 20, " MiB free");
  if (access(folder.c_str(), W_OK | X_OK) != 0) {
    return Failure("state", absl::StrCat(folder, " is not writable"),
                   "use its owner's account, or another folder with --state-dir");
  }
  if (free < kNoSpace) {
    return Failure("state", found, "make space: what cannot be written down is not begun");
  }
  if (free < kLowSpace)
    return Warning("state", found, "make space before a history cannot be written");
  return Fine("state", found);
}

std::vector<v1::Diagnosis> DiagnoseUnwritten(
    const std::map<std::string, UnwrittenEvents>& unwritten) {
  std::vector<v1::Diagnosis> all;
  for (const auto& [run, its] : unwritten) {
    all.push_back(Failure(absl::StrCat("run ", run),
                          absl::StrCat("its end is not in the history yet: ", its.why.message()),
                          "nothing starts before it is, which is tried each second"));
  }
  return all;
}

v1::Diagnosis DiagnoseLever(const std::optional<std::string>& pulled) {
  if (!pulled.has_value()) return Fine("lever", "is released: runs may start");
  return Failure("lever", absl::StrCat("is pulled, nothing starts (", *pulled, ")"),
                 "when nothing may go wrong any more: firedrill unlock --reason ...");
}

std::vector<v1::Diagnosis> DiagnoseInjectors(const std::vector<v1::InjectorSummary>& injectors) {
  if (injectors.empty()) {
    return {Warning("injectors", "none has dialled this controller since it was started",
                    "start firedrill-injector --config FILE on a node; its log says what fails")};
  }
  std::vector<v1::Diagnosis> all;
  for (const v1::InjectorSummary& each : injectors) {
    const std::string subject = absl::StrCat("injector ", each.registration().node());
    if (!each.connected()) {
      all.push_back(Warning(
          subject,
          absl::StrCat("is away since ", firedrill::FormatTime(FromProto(each.last_seen()))),
          "look at its log on the node: it dials again by itself while it runs"));
    } else if (!each.registration().leftovers().empty()) {
      const v1::Leftover& left = each.registration().leftovers(0);
      all.push_back(Failure(
          subject, absl::StrCat("carries what could not be undone: ", left.resource()),
          absl::StrCat("on the node: ",
                       left.undo_by_hand().empty() ? "firedrill leftovers" : left.undo_by_hand())));
    } else {
      all.push_back(Fine(subject, "is connected"));
    }
    const absl::Duration offset = FromProto(each.clock_offset());
    if (each.connected() && absl::AbsDuration(offset) > kClockIsWrong)
      all.push_back(DiagnoseClock(absl::StrCat("clock of ", each.registration().node()), offset));
  }
  return all;
}

std::vector<v1::Diagnosis> DiagnoseLeft(const std::map<std::string, LeftRunFaults>& left) {
  std::vector<v1::Diagnosis> all;
  for (const auto& [run, its] : left) {
    if (all.size() == kMostLeftTold) {
      all.push_back(Warning("runs", absl::StrCat(left.size() - all.size(), " more are NOT UNDONE"),
                            "firedrill get runs lists them"));
      break;
    }
    std::string found = absl::StrCat("of ", its.experiment, " is NOT UNDONE");
    std::string next = "firedrill leftovers on its node says how to undo it";
    bool taken = false;
    for (const auto& [key, fault] : its.faults) {
      absl::StrAppend(&found, "; ", fault.Words());
      if (!fault.undo_by_hand.empty()) next = absl::StrCat("undo it: ", fault.undo_by_hand);
      if (!fault.MayBeOn() || its.is_private) continue;
      taken = true;
      if (!fault.planned.subject().words().empty())
        absl::StrAppend(&found, "; no other run may hit ", fault.planned.subject().words());
    }
    absl::StrAppend(&next, "; where it is gone, or its node is: firedrill settle ", run,
                    " --reason WHY");
    const std::string subject = absl::StrCat("run ", run);
    all.push_back(taken ? Failure(subject, found, next) : Warning(subject, found, next));
  }
  return all;
}

std::vector<v1::Diagnosis> DiagnoseSchedules(const v1::ListExperimentsResponse& experiments) {
  std::vector<v1::Diagnosis> all;
  for (const v1::ExperimentSummary& each : experiments.experiments()) {
    const std::string subject = absl::StrCat("experiment ", each.name());
    if (!each.problem().empty()) {
      all.push_back(Failure(subject,
                            absl::StrCat("is not started by its schedule: ", each.problem()),
                            "correct the file, and firedrill apply it again"));
    } else if (!each.slots().empty() && !each.slots(0).missed().empty()) {
      all.push_back(Warning(
          subject,
          absl::StrCat("its last slot, ", firedrill::FormatTime(FromProto(each.slots(0).due())),
                       ", was missed: ", each.slots(0).reason()),
          absl::StrCat("firedrill describe experiment ", each.name())));
    }
  }
  return all;
}

std::vector<v1::Diagnosis> LookAtMonitoring(const v1::SiteSpec& site, const Clock& clock) {
  std::vector<v1::Diagnosis> all;
  if (site.has_prometheus()) {
    all = LookAtPrometheus(site.prometheus(), clock);
    for (const v1::MonitoringServer& replica : site.prometheus_replicas()) {
      for (v1::Diagnosis& diagnosis : LookAtPrometheus(replica, clock))
        all.push_back(std::move(diagnosis));
    }
  } else {
    all.push_back(Warning("prometheus", "the site file names none",
                          "no experiment can expect an alert: add spec.prometheus"));
  }
  for (const v1::MonitoringServer& server : site.alertmanagers())
    all.push_back(LookAtAlertmanager(server));
  return all;
}

}  // namespace firedrill
