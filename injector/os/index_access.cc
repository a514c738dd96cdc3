// As JSON, which people can read, too.
#include "injector/os/index_access.h"

#include <google/protobuf/util/json_util.h>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"

namespace firedrill {
namespace {

using Json = nlohmann::json;

}  // namespace

std::string WriteIndexAccess(
    const std::vector<std::pair<absl::string_view, absl::string_view>>& fields,
    const google::protobuf::Message& server) {
  std::string message;
  if (!google::protobuf::util::MessageToJsonString(server, &message).ok()) return "";
  Json json = {{"server", Json::parse(message, nullptr, /*allow_exceptions=*/false)}};
  for (const auto& [name, value] : fields) json[std::string(name)] = std::string(value);
  return json.dump();
}

absl::Status ReadIndexAccessInto(const std::string& text, const IndexAccessFields& fields,
                                 const IndexAccessFields& optional,
                                 google::protobuf::Message* server) {
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  const absl::Status unreadable =
      absl::InvalidArgumentError(absl::StrCat("the record does not say where it is: ", text));
  if (!json.is_object() || !json.contains("server")) return unreadable;
  const auto read = [&json](absl::string_view name, std::string* value) {
    const auto found = json.find(std::string(name));
    const bool there = found != json.end() && found->is_string();
    if (there) *value = found->get<std::string>();
    return there;
  };
  for (const auto& [name, value] : fields) {
    if (!read(name, value)) return unreadable;
  }
  for (const auto& [name, value] : optional) {
    value->clear();
    if (json.contains(std::string(name)) && !read(name, value)) return unreadable;
  }
  server->Clear();
  if (!google::protobuf::util::JsonStringToMessage(json["server"].dump(), server).ok()) {
    return unreadable;
  }
  return absl::OkStatus();
}

}  // namespace firedrill
