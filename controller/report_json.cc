// JSON, for programs.
#include <google/protobuf/util/json_util.h>

#include <nlohmann/json.hpp>

#include "base/time_proto.h"
#include "controller/report.h"
#include "controller/report_facts.h"
#include "controller/run_left.h"

namespace firedrill {
namespace {

// Through text, because only protobuf knows how its own types are written.
nlohmann::ordered_json ToJson(const google::protobuf::Message& message) {
  std::string text;
  google::protobuf::util::JsonPrintOptions options;
  options.always_print_primitive_fields = true;
  const auto status = google::protobuf::util::MessageToJsonString(message, &text, options);
  auto json =
      status.ok() ? nlohmann::ordered_json::parse(text, nullptr, false) : nlohmann::ordered_json();
  if (json.is_discarded() || json.is_null()) json = nlohmann::ordered_json::object();
  return json;
}

using nlohmann::ordered_json;

ordered_json FindingsJson(const std::vector<reporting::RunFinding>& findings) {
  ordered_json all = ordered_json::array();
  for (const reporting::RunFinding& finding : findings) {
    all.push_back({{"code", finding.code}, {"text", finding.text}, {"more", finding.more}});
  }
  return all;
}

// Seconds; parts with "within" lie inside the part before them that has none.
ordered_json BreakdownsJson(const std::vector<reporting::AlertBreakdown>& breakdowns) {
  ordered_json all = ordered_json::array();
  const auto part_of = [](const reporting::AlertPart& part) {
    ordered_json json = {{"part", part.name}, {"source", part.source}};
    if (part.took.has_value()) json["seconds"] = absl::ToDoubleSeconds(*part.took);
    if (!part.amount.empty()) json["amount"] = part.amount;
    if (part.within) json["within"] = true;
    return json;
  };
  for (const reporting::AlertBreakdown& breakdown : breakdowns) {
    ordered_json json = {{"expectation", breakdown.expectation},
                         {"alert", breakdown.alert},
                         {"since", breakdown.since}};
    ordered_json parts = ordered_json::array();
    for (const reporting::AlertPart& part : breakdown.parts) parts.push_back(part_of(part));
    json["parts"] = std::move(parts);
    if (breakdown.total.has_value()) json["total"] = part_of(*breakdown.total);
    all.push_back(std::move(json));
  }
  return all;
}

}  // namespace

std::string ReportJson(const std::vector<v1::Event>& whole, const v1::Judgement& judgement) {
  const std::vector<v1::Event> history = UpToEnd(whole);
  nlohmann::ordered_json report;
  if (!history.empty()) {
    const v1::RunCreated& created = history.front().created();
    report["experiment"] = created.experiment().metadata().name();
    report["file"] = created.file();
    report["begin"] =
        absl::FormatTime(absl::RFC3339_full, FromProto(history.front().at()), absl::UTCTimeZone());
    report["end"] =
        absl::FormatTime(absl::RFC3339_full, FromProto(history.back().at()), absl::UTCTimeZone());
    report["version"] = created.version();
    if (const std::string settled = SettledWords(whole); !settled.empty())
      report["settled"] = settled;
  }
  report["judgement"] = ToJson(judgement);
  if (!history.empty()) {
    const reporting::RunFacts facts = reporting::FactsOf(history, judgement);
    report["findings"] = FindingsJson(reporting::FindingsOf(facts, history, judgement));
    report["alertTimes"] = BreakdownsJson(facts.breakdowns);
    report["plan"] = ToJson(history.front().created().plan());
  }
  return report.dump(2) + "\n";
}

}  // namespace firedrill
