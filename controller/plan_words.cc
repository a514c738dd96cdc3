// Reads and prints the messages of a definition by what their own options say, so that no kind is
// named here.
#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "controller/plan_parts.h"
#include "google/protobuf/descriptor.h"

namespace firedrill::planning {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

constexpr char kDurationType[] = "google.protobuf.Duration";
constexpr size_t kLongestValue = 60;

const v1::FieldRule& Rule(const FieldDescriptor& field) {
  return field.options().GetExtension(v1::field);
}

bool IsDuration(const FieldDescriptor& field) {
  return field.message_type() != nullptr && field.message_type()->full_name() == kDurationType;
}

absl::Duration ReadDuration(const Message& message, const FieldDescriptor& field) {
  const Message& value = message.GetReflection()->GetMessage(message, &field);
  google::protobuf::Duration duration;
  duration.CopyFrom(value);
  return FromProto(duration);
}

// SESSION_STATE_IDLE_IN_TRANSACTION → idleInTransaction, as a definition says it.
std::string EnumText(const google::protobuf::EnumValueDescriptor& value) {
  std::string prefix;
  for (const char c : value.type()->name()) {
    if (absl::ascii_isupper(c) && !prefix.empty()) prefix += '_';
    prefix += absl::ascii_toupper(c);
  }
  prefix += '_';
  absl::string_view name = value.name();
  if (name.substr(0, prefix.size()) == prefix) name.remove_prefix(prefix.size());
  std::string text;
  bool upper = false;
  for (const char c : name) {
    if (c == '_') {
      upper = true;
      continue;
    }
    text += upper ? c : absl::ascii_tolower(c);
    upper = false;
  }
  return text;
}

std::string ScalarText(const Message& message, const FieldDescriptor& field, int index);

// A nested message is shown by its name, where it has one.
std::string NestedText(const Message& nested) {
  const FieldDescriptor* name = nested.GetDescriptor()->FindFieldByName("name");
  if (name != nullptr) return nested.GetReflection()->GetString(nested, name);
  const FieldDescriptor* key = nested.GetDescriptor()->FindFieldByName("key");
  const FieldDescriptor* value = nested.GetDescriptor()->FindFieldByName("value");
  if (key == nullptr || value == nullptr) return "{...}";
  return absl::StrCat(ScalarText(nested, *key, -1), ": ", ScalarText(nested, *value, -1));
}

std::string ScalarText(const Message& message, const FieldDescriptor& field, int index) {
  const google::protobuf::Reflection& reflection = *message.GetReflection();
  const bool one = index < 0;
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_STRING: {
      const std::string text = one ? reflection.GetString(message, &field)
                                   : reflection.GetRepeatedString(message, &field, index);
      if (text.size() <= kLongestValue) return text;
      return absl::StrCat(text.substr(0, kLongestValue - 3), "...");
    }
    case FieldDescriptor::CPPTYPE_UINT32:
      return absl::StrCat(one ? reflection.GetUInt32(message, &field)
                              : reflection.GetRepeatedUInt32(message, &field, index));
    case FieldDescriptor::CPPTYPE_UINT64:
      return absl::StrCat(one ? reflection.GetUInt64(message, &field)
                              : reflection.GetRepeatedUInt64(message, &field, index));
    case FieldDescriptor::CPPTYPE_INT32:
      return absl::StrCat(one ? reflection.GetInt32(message, &field)
                              : reflection.GetRepeatedInt32(message, &field, index));
    case FieldDescriptor::CPPTYPE_INT64:
      return absl::StrCat(one ? reflection.GetInt64(message, &field)
                              : reflection.GetRepeatedInt64(message, &field, index));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return absl::StrCat(one ? reflection.GetDouble(message, &field)
                              : reflection.GetRepeatedDouble(message, &field, index));
    case FieldDescriptor::CPPTYPE_FLOAT:
      return absl::StrCat(one ? reflection.GetFloat(message, &field)
                              : reflection.GetRepeatedFloat(message, &field, index));
    case FieldDescriptor::CPPTYPE_BOOL:
      return (one ? reflection.GetBool(message, &field)
                  : reflection.GetRepeatedBool(message, &field, index))
                 ? "true"
                 : "false";
    case FieldDescriptor::CPPTYPE_ENUM:
      return EnumText(*(one ? reflection.GetEnum(message, &field)
                            : reflection.GetRepeatedEnum(message, &field, index)));
    case FieldDescriptor::CPPTYPE_MESSAGE:
      if (one && IsDuration(field)) return firedrill::FormatDuration(ReadDuration(message, field));
      return NestedText(one ? reflection.GetMessage(message, &field)
                            : reflection.GetRepeatedMessage(message, &field, index));
  }
  return "";
}

std::string ValueText(const Message& message, const FieldDescriptor& field) {
  if (!field.is_repeated()) return ScalarText(message, field, -1);
  std::vector<std::string> parts;
  for (int i = 0; i < message.GetReflection()->FieldSize(message, &field); ++i) {
    parts.push_back(ScalarText(message, field, i));
  }
  // A map has no order of its own.
  if (field.is_map()) std::sort(parts.begin(), parts.end());
  const std::string joined = absl::StrJoin(parts, ", ");
  return field.is_map() ? absl::StrCat("{", joined, "}") : absl::StrCat("[", joined, "]");
}

std::vector<const FieldDescriptor*> SetFields(const Message& message) {
  std::vector<const FieldDescriptor*> fields;
  message.GetReflection()->ListFields(message, &fields);
  return fields;
}

}  // namespace

Kind KindOf(const Message& holder) {
  const google::protobuf::Descriptor& type = *holder.GetDescriptor();
  if (type.oneof_decl_count() == 0) return {};
  const google::protobuf::Reflection& reflection = *holder.GetReflection();
  const FieldDescriptor* set = reflection.GetOneofFieldDescriptor(holder, type.oneof_decl(0));
  if (set == nullptr) return {};
  Kind kind{set->json_name(), nullptr};
  if (set->message_type() != nullptr) kind.message = &reflection.GetMessage(holder, set);
  return kind;
}

v1::KindRule RuleOf(const Kind& kind) {
  if (kind.message == nullptr) return {};
  return kind.message->GetDescriptor()->options().GetExtension(v1::kind);
}

absl::Duration DurationOf(const Message& message, const std::string& name) {
  const FieldDescriptor* field = message.GetDescriptor()->FindFieldByName(name);
  if (field == nullptr || !IsDuration(*field)) return absl::ZeroDuration();
  if (message.GetReflection()->HasField(message, field)) return ReadDuration(message, *field);
  const auto fallback = ParseDuration(Rule(*field).default_value());
  return fallback.ok() ? *fallback : absl::ZeroDuration();
}

std::vector<std::string> NamesOf(const Message& message, absl::string_view what) {
  std::vector<std::string> names;
  for (const FieldDescriptor* field : SetFields(message)) {
    if (absl::string_view(Rule(*field).refers_to()) != what) continue;
    if (field->is_map()) {
      const FieldDescriptor* value = field->message_type()->map_value();
      for (int i = 0; i < message.GetReflection()->FieldSize(message, field); ++i) {
        const Message& entry = message.GetReflection()->GetRepeatedMessage(message, field, i);
        names.push_back(ScalarText(entry, *value, -1));
      }
    } else if (!field->is_repeated() && field->cpp_type() == FieldDescriptor::CPPTYPE_STRING) {
      names.push_back(message.GetReflection()->GetString(message, field));
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<std::pair<std::string, double>> MagnitudesOf(const Message& message) {
  std::vector<std::pair<std::string, double>> magnitudes;
  const google::protobuf::Reflection& reflection = *message.GetReflection();
  for (const FieldDescriptor* field : SetFields(message)) {
    if (!Rule(*field).magnitude() || field->is_repeated()) continue;
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_UINT32) {
      magnitudes.emplace_back(field->json_name(), reflection.GetUInt32(message, field));
    } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_DOUBLE) {
      magnitudes.emplace_back(field->json_name(), reflection.GetDouble(message, field));
    } else if (IsDuration(*field)) {
      magnitudes.emplace_back(field->json_name(),
                              absl::ToDoubleSeconds(ReadDuration(message, *field)));
    }
  }
  return magnitudes;
}

bool SaysYes(const Message& message, const std::string& name) {
  const FieldDescriptor* field = message.GetDescriptor()->FindFieldByName(name);
  return field != nullptr && field->cpp_type() == FieldDescriptor::CPPTYPE_BOOL &&
         !field->is_repeated() && message.GetReflection()->GetBool(message, field);
}

std::string KindText(const Kind& kind) {
  if (kind.message == nullptr) return kind.name;
  std::vector<std::string> parts;
  for (const FieldDescriptor* field : SetFields(*kind.message)) {
    if (Rule(*field).secret()) continue;
    parts.push_back(absl::StrCat(field->json_name(), ": ", ValueText(*kind.message, *field)));
  }
  return absl::StrCat(kind.name, " {", absl::StrJoin(parts, ", "), "}");
}

std::string Wrap(absl::string_view text, size_t first, size_t indent, size_t width) {
  std::string out;
  size_t column = first;
  bool fresh = true;
  for (const absl::string_view word : absl::StrSplit(text, ' ', absl::SkipWhitespace())) {
    if (!fresh && column + 1 + word.size() > width) {
      absl::StrAppend(&out, "\n", std::string(indent, ' '));
      column = indent;
      fresh = true;
    }
    if (!fresh) {
      out += ' ';
      ++column;
    }
    absl::StrAppend(&out, word);
    column += word.size();
    fresh = false;
  }
  return out;
}

void AddFinding(v1::Plan& plan, v1::Finding::Kind kind, absl::string_view code,
                absl::string_view subject, std::string message, std::string mend) {
  v1::Finding& finding = *plan.add_findings();
  finding.set_kind(kind);
  finding.set_code(std::string(code));
  finding.set_subject(std::string(subject));
  finding.set_message(std::move(message));
  finding.set_mend(std::move(mend));
}

}  // namespace firedrill::planning
