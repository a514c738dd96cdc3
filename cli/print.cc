// Prints messages by reflection.
#include "cli/print.h"

#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace firedrill {
namespace {

using nlohmann::ordered_json;

// What YAML reads as the same text without quotes.
bool IsPlain(const std::string& text) {
  if (text.empty() || !absl::ascii_isalpha(static_cast<unsigned char>(text[0]))) return false;
  const std::string lower = absl::AsciiStrToLower(text);
  for (const char* word : {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}) {
    if (lower == word) return false;
  }
  return absl::c_all_of(text, [](unsigned char c) {
    return absl::ascii_isalnum(c) || c == '_' || c == '-' || c == '.' || c == '/';
  });
}

std::string Scalar(const ordered_json& value, const std::string& indent) {
  if (!value.is_string()) return value.dump();
  const std::string& text = value.get_ref<const std::string&>();
  if (IsPlain(text)) return text;
  // A text of several lines as such, where YAML gives it back as it is.
  const bool block = absl::StrContains(text, "\n") && absl::EndsWith(text, "\n") &&
                     !absl::EndsWith(text, "\n\n") && text[0] != ' ' && text[0] != '\n' &&
                     absl::c_all_of(text, [](unsigned char c) { return c >= ' ' || c == '\n'; });
  if (!block) return value.dump();
  std::string lines = "|";
  for (absl::string_view line :
       absl::StrSplit(absl::string_view(text).substr(0, text.size() - 1), '\n'))
    absl::StrAppend(&lines, "\n", line.empty() ? "" : indent, line);
  return lines;
}

// `indent` is that of the lines of this value.
void AddYaml(const ordered_json& value, const std::string& indent, std::string& text);

// Behind "key:" or "-".
void AddBehind(const ordered_json& value, const std::string& indent, bool list, std::string& text) {
  if (value.is_structured() && !value.empty()) {
    std::string inner;
    AddYaml(value, indent, inner);
    // The first line of an entry stands behind its dash.
    text += list ? absl::StrCat(" ", absl::string_view(inner).substr(indent.size()))
                 : absl::StrCat("\n", inner);
  } else {
    absl::StrAppend(&text, " ", Scalar(value, indent), "\n");
  }
}

void AddYaml(const ordered_json& value, const std::string& indent, std::string& text) {
  const std::string inner = indent + "  ";
  if (value.is_array()) {
    for (const ordered_json& entry : value) {
      absl::StrAppend(&text, indent, "-");
      AddBehind(entry, inner, true, text);
    }
    return;
  }
  for (const auto& [key, entry] : value.items()) {
    absl::StrAppend(&text, indent, IsPlain(key) ? key : ordered_json(key).dump(), ":");
    AddBehind(entry, inner, false, text);
  }
}

ordered_json JsonOf(const google::protobuf::Message& message) {
  std::string text;
  google::protobuf::util::JsonPrintOptions options;
  options.always_print_primitive_fields = true;
  if (!google::protobuf::util::MessageToJsonString(message, &text, options).ok()) return {};
  return ordered_json::parse(text, nullptr, false);
}

}  // namespace

Form FormOf(const std::string& word) {
  return word == "json"   ? Form::kJson
         : word == "yaml" ? Form::kYaml
         : word == "name" ? Form::kName
                          : Form::kTable;
}

const std::vector<std::string>& FormWords() {
  static const auto* const words = new std::vector<std::string>{"table", "json", "yaml", "name"};
  return *words;
}

std::string JsonText(const google::protobuf::Message& message) {
  return JsonOf(message).dump(2) + "\n";
}

std::string JsonLine(const google::protobuf::Message& message) {
  return JsonOf(message).dump() + "\n";
}

std::string YamlOfJson(const std::string& json) {
  const ordered_json value = ordered_json::parse(json, nullptr, false);
  if (!value.is_structured() || value.empty()) return "{}\n";
  std::string text;
  AddYaml(value, "", text);
  return text;
}

std::string YamlText(const google::protobuf::Message& message) {
  return YamlOfJson(JsonText(message));
}

std::string TableText(const std::vector<std::string>& head,
                      const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths(head.size(), 0);
  const auto measure = [&widths](const std::vector<std::string>& row) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  };
  measure(head);
  for (const std::vector<std::string>& row : rows) measure(row);
  std::string text;
  const auto add = [&](const std::vector<std::string>& row) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      line += row[i];
      if (i + 1 < row.size()) line.append(widths[i] + 2 - row[i].size(), ' ');
    }
    absl::StripTrailingAsciiWhitespace(&line);
    absl::StrAppend(&text, line, "\n");
  };
  add(head);
  for (const std::vector<std::string>& row : rows) add(row);
  return text;
}

void PrintList(Form form, const google::protobuf::Message& message,
               const std::vector<std::string>& head,
               const std::vector<std::vector<std::string>>& rows, const std::string& nothing) {
  std::string text;
  switch (form) {
    case Form::kJson:
      text = JsonText(message);
      break;
    case Form::kYaml:
      text = YamlText(message);
      break;
    case Form::kName:
      for (const std::vector<std::string>& row : rows) absl::StrAppend(&text, row.front(), "\n");
      break;
    case Form::kTable:
      text = rows.empty() ? nothing + "\n" : TableText(head, rows);
      break;
  }
  std::fputs(text.c_str(), stdout);
}

}  // namespace firedrill
