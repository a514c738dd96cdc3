// Reads keys, words, rules and comments out of the descriptors.
#include "experiment/vocabulary.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "google/protobuf/descriptor.pb.h"

namespace firedrill {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::EnumValueDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::OneofDescriptor;

constexpr unsigned char kDescriptors[] = {
#include "descriptors.inc"
};

// The compiled-in descriptors have no comments; these, made by protoc at build time, have.
const google::protobuf::DescriptorPool& CommentedPool() {
  static const auto* const pool = [] {
    auto* built = new google::protobuf::DescriptorPool();
    google::protobuf::FileDescriptorSet files;
    files.ParseFromArray(kDescriptors, sizeof(kDescriptors));
    for (const auto& file : files.file()) built->BuildFile(file);
    return built;
  }();
  return *pool;
}

template <typename D>
std::string LeadingComment(const D* descriptor) {
  google::protobuf::SourceLocation location;
  if (descriptor == nullptr || !descriptor->GetSourceLocation(&location)) return "";
  std::vector<std::string> lines;
  for (absl::string_view line : absl::StrSplit(location.leading_comments, '\n')) {
    line = absl::StripAsciiWhitespace(line);
    if (!line.empty()) lines.emplace_back(line);
  }
  std::string text;
  for (const std::string& line : lines) absl::StrAppend(&text, text.empty() ? "" : " ", line);
  return text;
}

std::string LowerCamel(absl::string_view snake) {
  std::string out;
  bool upper = false;
  for (char c : snake) {
    if (c == '_') {
      upper = true;
      continue;
    }
    out.push_back(upper ? absl::ascii_toupper(c) : absl::ascii_tolower(c));
    upper = false;
  }
  return out;
}

// SESSION_STATE_ for SessionState.
std::string PrefixOf(const EnumDescriptor* type) {
  std::string prefix;
  for (char c : type->name()) {
    if (absl::ascii_isupper(c) && !prefix.empty()) prefix.push_back('_');
    prefix.push_back(absl::ascii_toupper(c));
  }
  return prefix + "_";
}

void AddKeys(const Descriptor* root, const Descriptor* message,
             std::vector<const FieldDescriptor*> inlines, std::vector<Key>* keys) {
  for (int i = 0; i < message->field_count(); ++i) {
    const FieldDescriptor* field = message->field(i);
    const v1::FieldRule& rule = RuleOf(field);
    if (rule.inline_()) {
      std::vector<const FieldDescriptor*> deeper = inlines;
      deeper.push_back(field);
      AddKeys(root, field->message_type(), std::move(deeper), keys);
      continue;
    }
    bool permitted = rule.only_in().empty() ||
                     std::find(rule.only_in().begin(), rule.only_in().end(), root->name()) !=
                         rule.only_in().end();
    if (permitted) keys->push_back({KeyName(field), inlines, field});
  }
}

}  // namespace

std::vector<Key> KeysOf(const Descriptor* message) {
  std::vector<Key> keys;
  AddKeys(message, message, {}, &keys);
  return keys;
}

std::string KeyName(const FieldDescriptor* field) { return field->json_name(); }

const v1::FieldRule& RuleOf(const FieldDescriptor* field) {
  return field->options().GetExtension(v1::field);
}

const v1::KindRule& KindOf(const Descriptor* message) {
  return message->options().GetExtension(v1::kind);
}

std::vector<std::string> ExamplesOf(const v1::KindRule& kind) {
  std::vector<std::string> examples;
  if (!kind.example().empty()) examples.push_back(kind.example());
  examples.insert(examples.end(), kind.more_examples().begin(), kind.more_examples().end());
  return examples;
}

std::vector<EnumWord> WordsOf(const EnumDescriptor* type) {
  std::vector<EnumWord> words;
  std::string prefix = PrefixOf(type);
  for (int i = 0; i < type->value_count(); ++i) {
    const EnumValueDescriptor* value = type->value(i);
    if (value->number() == 0) continue;
    words.push_back({LowerCamel(absl::StripPrefix(value->name(), prefix)), value});
  }
  return words;
}

std::vector<EnumWord> WordsOf(const FieldDescriptor* field) {
  std::vector<EnumWord> words = WordsOf(field->enum_type());
  const auto& values = RuleOf(field).values();
  if (values.empty()) return words;
  words.erase(std::remove_if(words.begin(), words.end(),
                             [&](const EnumWord& word) {
                               return std::find(values.begin(), values.end(), word.word) ==
                                      values.end();
                             }),
              words.end());
  return words;
}

bool IsDuration(const FieldDescriptor* field) {
  return field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE &&
         field->message_type()->full_name() == "google.protobuf.Duration";
}

std::vector<Choice> ChoicesOf(const Descriptor* message) {
  std::vector<Choice> choices;
  auto needed = [](const OneofDescriptor* oneof) {
    const auto& options = oneof->containing_type()->options();
    for (int i = 0; i < options.ExtensionSize(v1::exactly_one); ++i) {
      if (options.GetExtension(v1::exactly_one, i) == oneof->name()) return true;
    }
    return false;
  };
  for (const Key& key : KeysOf(message)) {
    const OneofDescriptor* oneof = key.field->real_containing_oneof();
    if (oneof == nullptr || !needed(oneof)) continue;
    auto it = std::find_if(choices.begin(), choices.end(),
                           [&](const Choice& choice) { return choice.oneof == oneof; });
    if (it == choices.end()) it = choices.insert(choices.end(), Choice{oneof, {}});
    it->keys.push_back(key.name);
  }
  return choices;
}

std::vector<std::vector<std::string>> NeededGroupsOf(const Descriptor* message) {
  std::vector<std::vector<std::string>> groups;
  const auto& options = message->options();
  for (int i = 0; i < options.ExtensionSize(v1::at_least_one); ++i) {
    std::vector<std::string> names;
    for (absl::string_view field : absl::StrSplit(options.GetExtension(v1::at_least_one, i), ' ')) {
      names.push_back(LowerCamel(field));
    }
    groups.push_back(std::move(names));
  }
  return groups;
}

std::string TypeWords(const FieldDescriptor* field) {
  if (field->is_map()) return "a mapping";
  if (field->is_repeated()) return "a list";
  return ElementWords(field);
}

std::string ElementWords(const FieldDescriptor* field) {
  if (IsDuration(field)) return "a duration such as 250ms, 5s or 1m30s";
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL:
      return "true or false";
    case FieldDescriptor::CPPTYPE_INT32:
    case FieldDescriptor::CPPTYPE_INT64:
    case FieldDescriptor::CPPTYPE_UINT32:
    case FieldDescriptor::CPPTYPE_UINT64:
      return "a whole number";
    case FieldDescriptor::CPPTYPE_FLOAT:
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return "a number";
    case FieldDescriptor::CPPTYPE_ENUM:
      return "one word";
    case FieldDescriptor::CPPTYPE_STRING:
      return "a text";
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return "a mapping";
  }
  return "a value";
}

std::vector<MeasuredField> MeasuredFieldsOf(const Descriptor* kind) {
  std::vector<MeasuredField> fields;
  for (const std::string& text : KindOf(kind).fields()) {
    std::vector<std::string> parts = absl::StrSplit(text, absl::MaxSplits(": ", 1));
    MeasuredField field;
    field.name = parts[0];
    if (parts.size() > 1) field.meaning = parts[1];
    if (absl::StartsWith(field.meaning, "a duration"))
      field.scale = MeasuredField::Scale::kDuration;
    if (absl::StartsWith(field.meaning, "a share")) field.scale = MeasuredField::Scale::kShare;
    fields.push_back(std::move(field));
  }
  return fields;
}

std::string CommentOf(const Descriptor* message) {
  return LeadingComment(CommentedPool().FindMessageTypeByName(message->full_name()));
}
std::string CommentOf(const FieldDescriptor* field) {
  return LeadingComment(CommentedPool().FindFieldByName(field->full_name()));
}
std::string CommentOf(const EnumValueDescriptor* value) {
  return LeadingComment(CommentedPool().FindEnumValueByName(value->full_name()));
}

}  // namespace firedrill
