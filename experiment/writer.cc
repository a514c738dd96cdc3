// Writes definitions as YAML, and checks those that came in another way.
#include "experiment/writer.h"

#include <google/protobuf/unknown_field_set.h>

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "experiment/problem.h"
#include "experiment/reader.h"
#include "experiment/reporter.h"
#include "experiment/scalar.h"
#include "experiment/vocabulary.h"

namespace firedrill {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

// Of what is wrong; the rest is counted.
constexpr size_t kMostProblems = 10;

std::string DurationText(const Message& message) {
  google::protobuf::Duration duration;
  duration.CopyFrom(message);
  const absl::Duration length = FromProto(duration);
  const std::string usual = firedrill::FormatDuration(length);
  const absl::StatusOr<absl::Duration> again = ParseDuration(usual);
  if (again.ok() && *again == length) return usual;
  return absl::StrFormat("%d.%09ds", duration.seconds(), duration.nanos());
}

std::string EnumText(const FieldDescriptor* field, int number) {
  for (const EnumWord& word : WordsOf(field->enum_type())) {
    if (word.value->number() == number) return word.word;
  }
  return absl::StrCat(number);
}

// One value; of a list the one at `index`.
std::string ScalarText(const Message& message, const FieldDescriptor* field, int index) {
  const Reflection& get = *message.GetReflection();
  const auto one = [&](auto single, auto repeated) {
    return field->is_repeated() ? (get.*repeated)(message, field, index)
                                : (get.*single)(message, field);
  };
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_STRING:
      return QuotedYaml(one(&Reflection::GetString, &Reflection::GetRepeatedString));
    case FieldDescriptor::CPPTYPE_ENUM:
      return EnumText(field, one(&Reflection::GetEnumValue, &Reflection::GetRepeatedEnumValue));
    case FieldDescriptor::CPPTYPE_BOOL:
      return one(&Reflection::GetBool, &Reflection::GetRepeatedBool) ? "true" : "false";
    case FieldDescriptor::CPPTYPE_FLOAT:
      return absl::StrFormat("%.9g", one(&Reflection::GetFloat, &Reflection::GetRepeatedFloat));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return absl::StrFormat("%.17g", one(&Reflection::GetDouble, &Reflection::GetRepeatedDouble));
    case FieldDescriptor::CPPTYPE_INT32:
      return absl::StrCat(one(&Reflection::GetInt32, &Reflection::GetRepeatedInt32));
    case FieldDescriptor::CPPTYPE_INT64:
      return absl::StrCat(one(&Reflection::GetInt64, &Reflection::GetRepeatedInt64));
    case FieldDescriptor::CPPTYPE_UINT32:
      return absl::StrCat(one(&Reflection::GetUInt32, &Reflection::GetRepeatedUInt32));
    case FieldDescriptor::CPPTYPE_UINT64:
      return absl::StrCat(one(&Reflection::GetUInt64, &Reflection::GetRepeatedUInt64));
    default:
      return DurationText(field->is_repeated() ? get.GetRepeatedMessage(message, field, index)
                                               : get.GetMessage(message, field));
  }
}

class Writer {
 public:
  // The mapping's lines; "{}" where it has none.
  static std::string Mapping(const Message& message, size_t indent) {
    std::string lines;
    for (const Key& key : KeysOf(message.GetDescriptor())) {
      const Message* holder = &message;
      for (const FieldDescriptor* step : key.inlines) {
        holder = &holder->GetReflection()->GetMessage(*holder, step);
      }
      // What was left out is filled in when a definition is read, also where it has no effect.
      if (key.inlines.empty() && IsDefault(*holder, key.field)) continue;
      const std::string value = Value(*holder, key.field, indent);
      if (!value.empty()) {
        absl::StrAppend(&lines, "\n", std::string(indent, ' '), key.name, ":", value);
      }
    }
    return lines.empty() ? " {}" : lines;
  }

 private:
  static bool IsMapping(const FieldDescriptor* field) {
    return field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE && !IsDuration(field);
  }

  static bool IsDefault(const Message& holder, const FieldDescriptor* field) {
    const std::string& usual = RuleOf(field).default_value();
    if (usual.empty() || field->is_repeated()) return false;
    const std::unique_ptr<Message> left_out(holder.New());
    const bool quoted = field->cpp_type() == FieldDescriptor::CPPTYPE_STRING;
    (void)SetScalar(usual, quoted, field, field->name(), left_out.get());
    return ScalarText(holder, field, 0) == ScalarText(*left_out, field, 0);
  }

  // What follows the colon; empty where it is not set.
  static std::string Value(const Message& holder, const FieldDescriptor* field, size_t indent) {
    const Reflection& get = *holder.GetReflection();
    if (!field->is_repeated()) {
      if (!get.HasField(holder, field)) return "";
      if (IsMapping(field)) return Mapping(get.GetMessage(holder, field), indent + 2);
      return absl::StrCat(" ", ScalarText(holder, field, 0));
    }
    std::vector<std::string> entries;
    for (int i = 0; i < get.FieldSize(holder, field); ++i) {
      if (field->is_map()) {
        const Message& entry = get.GetRepeatedMessage(holder, field, i);
        entries.push_back(absl::StrCat(ScalarText(entry, field->message_type()->map_key(), 0), ": ",
                                       ScalarText(entry, field->message_type()->map_value(), 0)));
      } else if (IsMapping(field)) {
        entries.push_back(
            absl::StrCat("-", Mapping(get.GetRepeatedMessage(holder, field, i), indent + 4)));
      } else {
        entries.push_back(absl::StrCat("- ", ScalarText(holder, field, i)));
      }
    }
    // A map has no order of its own.
    if (field->is_map()) absl::c_sort(entries);
    std::string lines;
    for (const std::string& entry : entries) {
      absl::StrAppend(&lines, "\n", std::string(indent + 2, ' '), entry);
    }
    return lines;
  }
};

// Something in it that this version has no name for.
bool HasUnknown(const Message& message) {
  const Reflection& get = *message.GetReflection();
  if (!get.GetUnknownFields(message).empty()) return true;
  std::vector<const FieldDescriptor*> set;
  get.ListFields(message, &set);
  return absl::c_any_of(set, [&](const FieldDescriptor* field) {
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) return false;
    if (!field->is_repeated()) return HasUnknown(get.GetMessage(message, field));
    for (int i = 0; i < get.FieldSize(message, field); ++i) {
      if (HasUnknown(get.GetRepeatedMessage(message, field, i))) return true;
    }
    return false;
  });
}

// "held.yaml:7:3: error: 'faults[0].duration' is ...; help"
std::string Line(const Problem& problem, const std::string& file,
                 const std::map<std::string, v1::Position>& positions) {
  std::string line = file.empty() ? "the experiment" : file;
  // What was left out has no place of its own.
  for (std::string path = problem.path; !path.empty(); path = ParentPath(path)) {
    const auto found = positions.find(path);
    if (found == positions.end()) continue;
    absl::StrAppend(&line, ":", found->second.line(), ":", found->second.column());
    break;
  }
  absl::StrAppend(&line, ": error: ", problem.message);
  if (!problem.suggestion.empty()) absl::StrAppend(&line, "; ", problem.suggestion);
  return Printable(line);
}

}  // namespace

std::string QuotedYaml(absl::string_view text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      absl::StrAppend(&quoted, "\\", std::string(1, c));
    } else if (c == '\n') {
      quoted += "\\n";
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      absl::StrAppendFormat(&quoted, "\\x%02x", static_cast<unsigned char>(c));
    } else {
      quoted += c;
    }
  }
  return quoted + "\"";
}

std::string WriteYaml(const Message& definition) {
  return absl::StrCat(Writer::Mapping(definition, 0).substr(1), "\n");
}

absl::StatusOr<v1::Experiment> CheckExperiment(
    const v1::Experiment& experiment, const v1::SiteSpec& site, const std::string& file,
    const std::map<std::string, v1::Position>& positions) {
  if (HasUnknown(experiment)) {
    return absl::InvalidArgumentError(
        "the experiment says something that this controller does not know: bring it to the version "
        "of whoever sent this");
  }
  ExperimentFile read = ReadExperiment(WriteYaml(experiment), file);
  if (read.ok()) read.problems = CheckAgainstSite(read, site);
  if (read.ok()) return std::move(read.experiment);
  std::vector<std::string> lines;
  for (const Problem& problem : read.problems) {
    if (lines.size() < kMostProblems) lines.push_back(Line(problem, file, positions));
  }
  if (read.problems.size() > lines.size()) {
    lines.push_back(absl::StrCat("and ", read.problems.size() - lines.size(), " more"));
  }
  return absl::InvalidArgumentError(
      absl::StrCat("the controller refuses this experiment:\n", absl::StrJoin(lines, "\n")));
}

}  // namespace firedrill
