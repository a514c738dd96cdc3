// JSON, for programs.
#include <google/protobuf/util/json_util.h>

#include <nlohmann/json.hpp>

#include "base/time_proto.h"
#include "controller/report.h"

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

}  // namespace

std::string ReportJson(const std::vector<v1::Event>& history, const v1::Judgement& judgement) {
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
  }
  report["judgement"] = ToJson(judgement);
  if (!history.empty()) report["plan"] = ToJson(history.front().created().plan());
  return report.dump(2) + "\n";
}

}  // namespace firedrill
