// In plain words: which page a responder would have seen first, where it would have led them, and
// which alerts did not keep their contract.
#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "controller/report_teller.h"
#include "controller/words.h"

namespace firedrill::reporting {
namespace {

using Result = v1::ExpectationResult;

std::string Quoted(const std::string& text) { return absl::StrCat("“", text, "”"); }

const AlertSeen* Expected(const RunFacts& facts) {
  for (const AlertSeen& alert : facts.alerts) {
    if (alert.role == AlertRole::kExpected && alert.firing.has_value()) return &alert;
  }
  return nullptr;
}

// Whether the experiment sets this alert before symptoms, and so declares that it leads to the
// cause. Whether it does is for people to say.
bool LeadsToCause(const v1::ExperimentSpec& spec, const std::string& expectation) {
  return std::any_of(spec.expect().alerts().begin(), spec.expect().alerts().end(),
                     [&](const v1::AlertExpectation& expected) {
                       return expected.name() == expectation && expected.before_size() > 0;
                     });
}

// Of an expectation whose alert fired with labels that are not asked for: that, and which.
const Result* WithOtherLabels(const Teller& tell, const std::string& alert) {
  for (const v1::AlertExpectation& expected : tell.spec.expect().alerts()) {
    if (expected.alert() != alert) continue;
    for (const Result& result : tell.judgement.results()) {
      const bool it = result.kind() == Result::KIND_ALERT_FIRING &&
                      result.name() == expected.name() && result.code() == "other-labels";
      if (it) return &result;
    }
  }
  return nullptr;
}

std::string WhatItIs(const Teller& tell, const AlertSeen& alert) {
  switch (alert.role) {
    case AlertRole::kExpected:
      return LeadsToCause(tell.spec, alert.expectation)
                 ? "declared as the page that leads to the cause"
                 : "it is the one that is expected";
    case AlertRole::kMisleading:
      return "it misleads (mustNotFire)";
    case AlertRole::kSymptom:
      return "a symptom";
    case AlertRole::kKnown:
      return "it may fire (mayFire)";
    case AlertRole::kUnnamed:
      if (const Result* result = WithOtherLabels(tell, alert.alert)) return result->reason();
      return "the experiment does not name it";
  }
  return "";
}

std::string Says(const AlertSeen& alert) {
  std::string text;
  if (!alert.says.empty()) text = absl::StrCat("It says ", Quoted(alert.says));
  if (!alert.runbook.empty()) {
    absl::StrAppend(&text, text.empty() ? "It sends to " : ", and leads to ",
                    Quoted(alert.runbook));
  } else if (!text.empty()) {
    absl::StrAppend(&text, ", and has no runbook");
  }
  return text.empty() ? "" : absl::StrCat(text, ".");
}

std::string Told(const AlertSeen& alert) {
  return alert.delivered.has_value() ? absl::StrCat("delivered to ", alert.receiver) : "firing";
}

bool CalledSomebody(const Teller& tell, const AlertSeen& alert) {
  if (!alert.pages || !alert.firing.has_value()) return false;
  const bool any_told = std::any_of(
      tell.facts.alerts.begin(), tell.facts.alerts.end(),
      [](const AlertSeen& other) { return other.pages && other.delivered.has_value(); });
  return Called(tell.spec.expect(), alert.alert, alert.delivered.has_value(), any_told);
}

// Tickets that were there before the page: a person who looks would see them, nobody is called.
std::string TicketsBefore(const Teller& tell, const AlertSeen& page) {
  std::vector<std::string> parts;
  for (const AlertSeen& alert : tell.facts.alerts) {
    if (CalledSomebody(tell, alert) || !alert.firing.has_value() || alert.Known() >= page.Known())
      continue;
    // The same one with other labels.
    if (alert.alert == page.alert) continue;
    parts.push_back(absl::StrCat(alert.alert, " (", tell.At(alert.Known()), ")"));
  }
  return parts.empty()
             ? ""
             : absl::StrCat("Before it, without calling anybody: ", JoinWords(parts), ".");
}

std::string Sentences(std::vector<std::string> parts) {
  parts.erase(std::remove(parts.begin(), parts.end(), ""), parts.end());
  return absl::StrJoin(parts, " ");
}

// Of a page that did not come first: how it stands to the one that should have.
std::string AgainstExpected(const Teller& tell, const AlertSeen& alert) {
  const AlertSeen* expected = Expected(tell.facts);
  if (tell.spec.expect().alerts().empty()) return "";
  if (expected == nullptr) {
    const v1::AlertExpectation& wanted = tell.spec.expect().alerts(0);
    if (wanted.alert() == alert.alert) return "";
    const bool otherwise = WithOtherLabels(tell, wanted.alert()) != nullptr;
    return absl::StrCat(wanted.alert(), ", which ",
                        wanted.before_size() > 0 ? "should lead to the cause" : "is expected",
                        otherwise ? ", fired with labels that are not asked for" : ", never fired");
  }
  const absl::Duration later = expected->Known() - alert.Known();
  const char* what = LeadsToCause(tell.spec, expected->expectation)
                         ? "which should lead to the cause"
                         : "which is expected";
  if (absl::AbsDuration(later) < absl::Milliseconds(50)) {
    return absl::StrCat("at the same time as ", expected->alert, ", ", what);
  }
  return absl::StrCat(Short(absl::AbsDuration(later)),
                      later > absl::ZeroDuration() ? " before " : " after ", expected->alert, ", ",
                      what);
}

// Of the first expectation's anchor, so that all pages are told from one moment.
std::string SinceAnchor(const Teller& tell, absl::Time time) {
  const v1::Judgement& judgement = tell.judgement;
  if (judgement.alerts_size() == 0 || !judgement.alerts(0).has_anchor() ||
      tell.facts.breakdowns.empty()) {
    return SinceEdge(tell.facts, time);
  }
  return absl::StrCat(", ", After(time - FromProto(judgement.alerts(0).anchor()),
                                  tell.facts.breakdowns.front().since));
}

void TellFirstPage(const Teller& tell) {
  if (!tell.facts.injected) return;
  const AlertSeen* first = nullptr;
  const AlertSeen* second = nullptr;
  size_t fired = 0;
  for (const AlertSeen& alert : tell.facts.alerts) {
    if (!alert.firing.has_value()) continue;
    ++fired;
    if (!CalledSomebody(tell, alert)) continue;
    if (first == nullptr) {
      first = &alert;
    } else if (second == nullptr) {
      second = &alert;
    }
  }
  if (first == nullptr) {
    std::vector<std::string> tickets, untold;
    for (const AlertSeen& alert : tell.facts.alerts) {
      if (!alert.firing.has_value()) continue;
      std::vector<std::string>& where = alert.pages ? untold : tickets;
      const std::string what = absl::StrCat(alert.alert, " (", tell.At(alert.Known()), ")");
      if (std::find(where.begin(), where.end(), what) == where.end()) where.push_back(what);
    }
    std::string text = "Nobody was paged.";
    if (!untold.empty()) {
      absl::StrAppend(
          &text, " What should page fired, and was delivered to nobody: ", JoinWords(untold), ".");
    }
    if (!tickets.empty()) {
      absl::StrAppend(&text, " What", untold.empty() ? "" : " else",
                      " fired calls nobody: ", JoinWords(tickets), ".");
    }
    if (fired == 0) {
      std::vector<std::string> broke;
      for (const Fate& fate : tell.facts.fates) {
        if (fate.broke.has_value()) broke.push_back(fate.name);
      }
      text = absl::StrCat("No alert fired", broke.empty() ? "" : ": nobody was told that ",
                          JoinWords(broke), broke.empty() ? "" : " broke", ".");
    }
    tell.Add("no-page", text);
    return;
  }
  std::string text = absl::StrCat("First page: ", first->alert, ", ", Told(*first), " at ",
                                  tell.At(first->Known()), SinceAnchor(tell, first->Known()), "; ",
                                  WhatItIs(tell, *first), ".");
  if (first->role != AlertRole::kExpected) {
    const std::string against = AgainstExpected(tell, *first);
    if (!against.empty()) {
      text.back() = ';';
      absl::StrAppend(&text, " ", against, ".");
    }
  }
  std::string next;
  if (second != nullptr) {
    next = absl::StrCat("The next page, ", second->alert, ", came ",
                        Short(second->Known() - first->Known()), " later; ",
                        WhatItIs(tell, *second), ".");
  }
  // Where it misleads, where it leads is the point.
  const bool misleads = first->role == AlertRole::kMisleading;
  tell.Add("first-page", Sentences({text, misleads ? Says(*first) : ""}),
           Sentences({misleads ? "" : Says(*first), TicketsBefore(tell, *first), next}));
}

// All that came after the first page, in one sentence.
void TellMisleading(const Teller& tell) {
  const AlertSeen* first = nullptr;
  std::vector<std::string> named, said;
  for (const AlertSeen& alert : tell.facts.alerts) {
    if (!alert.firing.has_value()) continue;
    if (first == nullptr && CalledSomebody(tell, alert)) {
      first = &alert;
      continue;
    }
    if (alert.role != AlertRole::kMisleading) continue;
    named.push_back(absl::StrCat(alert.alert, alert.pages ? "" : " (a ticket)", " at ",
                                 tell.At(alert.Known())));
    const std::string against = AgainstExpected(tell, alert);
    if (!against.empty()) said.push_back(absl::StrCat(alert.alert, " came ", against, "."));
    said.push_back(Says(alert));
  }
  if (named.empty()) return;
  tell.Add("misleading-alert", absl::StrCat("Misleading (mustNotFire): ", JoinWords(named), "."),
           Sentences(said));
}

void TellFailedAlerts(const Teller& tell) {
  for (const Result& result : tell.judgement.results()) {
    if (result.verdict() != v1::VERDICT_FAILED) continue;
    const bool about_alert = result.kind() == Result::KIND_ALERT_FIRING ||
                             result.kind() == Result::KIND_ALERT_DELIVERED ||
                             result.kind() == Result::KIND_ALERT_RESOLVED ||
                             result.kind() == Result::KIND_ALERT_ORDER;
    if (!about_alert || !tell.facts.injected) continue;
    // Told already, of the page that it was.
    const bool told = std::any_of(tell.out.begin(), tell.out.end(), [&](const RunFinding& finding) {
      return finding.code == "first-page" && absl::StrContains(finding.text, result.reason());
    });
    if (told) continue;
    const std::string code = result.code() == "late"          ? "late-alert"
                             : result.code() == "never-fired" ? "alert-never-fired"
                                                              : result.code();
    std::string alert;
    for (const v1::AlertExpectation& expected : tell.spec.expect().alerts()) {
      if (result.name() == expected.name() ||
          absl::StartsWith(result.name(), absl::StrCat(expected.name(), "/"))) {
        alert = expected.alert();
      }
    }
    // Of an alert that fired with other labels the order says nothing more.
    if (result.kind() == Result::KIND_ALERT_ORDER && WithOtherLabels(tell, alert)) continue;
    tell.Add(code, absl::StrCat(result.name(), " (", alert, "): ", result.reason(), "."), "",
             false);
  }
}

}  // namespace

void TellPages(const Teller& tell) {
  TellFirstPage(tell);
  TellMisleading(tell);
  TellFailedAlerts(tell);
}

}  // namespace firedrill::reporting
