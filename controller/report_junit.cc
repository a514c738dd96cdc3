// JUnit XML, as pipelines read it.
#include <pugixml.hpp>

#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "controller/report.h"
#include "controller/report_parts.h"
#include "controller/run_left.h"
#include "controller/words.h"

namespace firedrill {
namespace {

std::string Seconds(absl::Duration duration) {
  return absl::StrFormat("%.3f", absl::ToDoubleSeconds(duration));
}

// XML has no place for most control characters, and pugixml would write them.
std::string Clean(absl::string_view text) {
  std::string clean;
  for (char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    clean += byte < 0x20 && c != '\n' && c != '\t' ? ' ' : c;
  }
  return clean;
}

void Set(pugi::xml_node node, const char* name, absl::string_view value) {
  node.append_attribute(name).set_value(Clean(value).c_str());
}

void AddProperty(pugi::xml_node properties, const char* name, absl::string_view value) {
  pugi::xml_node property = properties.append_child("property");
  Set(property, "name", name);
  Set(property, "value", value);
}

void AddProperties(pugi::xml_node suite, const v1::RunCreated& created,
                   const v1::Judgement& judgement) {
  pugi::xml_node properties = suite.append_child("properties");
  AddProperty(properties, "run", judgement.run());
  AddProperty(properties, "seed", absl::StrCat(created.plan().seed()));
  AddProperty(properties, "verdict", VerdictWord(judgement.verdict()));
  AddProperty(properties, "outcome", OutcomeWord(judgement.outcome()));
  AddProperty(properties, "undo_confirmed", judgement.undo_confirmed() ? "true" : "false");
  const auto time = [&](const char* name, bool has, const google::protobuf::Duration& duration) {
    if (has) AddProperty(properties, name, Seconds(FromProto(duration)));
  };
  time("time_to_any_alert", judgement.has_time_to_any_alert(), judgement.time_to_any_alert());
  if (!judgement.any_alert().empty()) AddProperty(properties, "any_alert", judgement.any_alert());
  time("time_to_detect", judgement.has_time_to_detect(), judgement.time_to_detect());
  time("time_to_notify", judgement.has_time_to_notify(), judgement.time_to_notify());
  time("time_to_resolve", judgement.has_time_to_resolve(), judgement.time_to_resolve());
  time("time_to_recover", judgement.has_time_to_recover(), judgement.time_to_recover());
}

std::string Details(const v1::RunCreated& created, const v1::ExpectationResult& result) {
  std::string text = absl::StrCat(reporting::Place(created, result), "\n");
  const auto add = [&](absl::string_view label, absl::string_view value) {
    if (!value.empty()) absl::StrAppend(&text, label, ": ", value, "\n");
  };
  add("expected", result.expected());
  add("observed", result.observed());
  add("why", result.reason());
  add("mend", result.mend());
  return Clean(text);
}

void AddCase(pugi::xml_node suite, const v1::RunCreated& created, const std::string& experiment,
             const v1::ExpectationResult& result) {
  pugi::xml_node test = suite.append_child("testcase");
  Set(test, "classname",
      absl::StrCat(experiment, ".", absl::StrReplaceAll(KindWord(result.kind()), {{" ", "_"}})));
  Set(test, "name", result.name());
  if (!created.file().empty()) Set(test, "file", created.file());
  if (result.position().line() > 0) Set(test, "line", absl::StrCat(result.position().line()));
  // A negative time (healed before the fault's end) is no duration of a test.
  const absl::Duration measured = FromProto(result.measured());
  Set(test, "time", Seconds(std::max(measured, absl::ZeroDuration())));
  if (result.verdict() == v1::VERDICT_PASSED) {
    test.append_child("system-out").text().set(Details(created, result).c_str());
    return;
  }
  const bool failed = result.verdict() == v1::VERDICT_FAILED;
  pugi::xml_node why = test.append_child(failed ? "failure" : "skipped");
  Set(why, "message",
      absl::StrCat(failed ? "" : "inconclusive: ", result.reason(),
                   result.observed().empty() ? "" : "; observed: ", result.observed()));
  if (failed) Set(why, "type", result.code());
  why.text().set(Details(created, result).c_str());
}

}  // namespace

std::string ReportJUnit(const std::vector<v1::Event>& whole, const v1::Judgement& judgement) {
  const std::vector<v1::Event> history = UpToEnd(whole);
  static const v1::RunCreated none;
  const v1::RunCreated& created = history.empty() ? none : history.front().created();
  const std::string& experiment = created.experiment().metadata().name();
  pugi::xml_document document;
  pugi::xml_node declaration = document.append_child(pugi::node_declaration);
  Set(declaration, "version", "1.0");
  Set(declaration, "encoding", "UTF-8");
  pugi::xml_node suites = document.append_child("testsuites");
  pugi::xml_node suite = suites.append_child("testsuite");

  int failures = 0;
  int skipped = 0;
  for (const v1::ExpectationResult& result : judgement.results()) {
    failures += result.verdict() == v1::VERDICT_FAILED ? 1 : 0;
    skipped += result.verdict() == v1::VERDICT_INCONCLUSIVE ? 1 : 0;
  }
  const bool error = judgement.outcome() != v1::OUTCOME_COMPLETED || !judgement.undo_confirmed();
  Set(suite, "name", experiment);
  Set(suite, "tests", absl::StrCat(judgement.results_size() + (error ? 1 : 0)));
  Set(suite, "failures", absl::StrCat(failures));
  Set(suite, "errors", error ? "1" : "0");
  Set(suite, "skipped", absl::StrCat(skipped));
  if (!history.empty()) {
    const absl::Time begin = FromProto(history.front().at());
    Set(suite, "time", Seconds(FromProto(history.back().at()) - begin));
    Set(suite, "timestamp", absl::FormatTime("%Y-%m-%dT%H:%M:%S", begin, absl::UTCTimeZone()));
  }
  AddProperties(suite, created, judgement);
  if (error) {
    pugi::xml_node test = suite.append_child("testcase");
    Set(test, "classname", experiment);
    Set(test, "name", "run");
    Set(test, "time", "0.000");
    pugi::xml_node why = test.append_child("error");
    Set(why, "message",
        absl::StrCat(OutcomeWord(judgement.outcome()), judgement.reason().empty() ? "" : ": ",
                     judgement.reason(),
                     judgement.undo_confirmed() ? "" : "; undo NOT confirmed, a person must look"));
    Set(why, "type", judgement.undo_confirmed() ? OutcomeWord(judgement.outcome()) : "undo");
  }
  for (const v1::ExpectationResult& result : judgement.results()) {
    AddCase(suite, created, experiment, result);
  }
  std::ostringstream out;
  document.save(out, "  ", pugi::format_default, pugi::encoding_utf8);
  return out.str();
}

}  // namespace firedrill
