// Compares two definitions key by key.
#include "experiment/difference.h"

#include <map>

#include "absl/strings/str_cat.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "experiment/reporter.h"
#include "experiment/vocabulary.h"

namespace firedrill {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

std::string EnumText(const google::protobuf::EnumValueDescriptor* value) {
  for (const EnumWord& word : WordsOf(value->type())) {
    if (word.value == value) return word.word;
  }
  return value->name();
}

// Every value that is set, by its path.
class Values {
 public:
  void Add(const Message& message, const std::string& path) {
    for (const Key& key : KeysOf(message.GetDescriptor())) {
      const Message* owner = &message;
      for (const FieldDescriptor* step : key.inlines) {
        owner = &owner->GetReflection()->GetMessage(*owner, step);
      }
      AddField(*owner, key.field, JoinPath(path, key.name));
    }
  }
  const std::map<std::string, std::string>& all() const { return values_; }

 private:
  void AddField(const Message& owner, const FieldDescriptor* field, const std::string& path) {
    const Reflection* reflection = owner.GetReflection();
    if (!field->is_repeated()) {
      if (reflection->HasField(owner, field)) AddValue(owner, field, -1, path);
      return;
    }
    for (int i = 0; i < reflection->FieldSize(owner, field); ++i) {
      if (field->is_map()) {
        const Message& entry = reflection->GetRepeatedMessage(owner, field, i);
        const std::string key =
            entry.GetReflection()->GetString(entry, field->message_type()->map_key());
        AddValue(entry, field->message_type()->map_value(), -1, JoinPath(path, key));
      } else {
        AddValue(owner, field, i, EntryPath(owner, field, i, path));
      }
    }
  }

  static std::string EntryPath(const Message& owner, const FieldDescriptor* field, int index,
                               const std::string& path) {
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      const Message& entry = owner.GetReflection()->GetRepeatedMessage(owner, field, index);
      const FieldDescriptor* name = entry.GetDescriptor()->FindFieldByName("name");
      if (name != nullptr && name->cpp_type() == FieldDescriptor::CPPTYPE_STRING)
        return absl::StrCat(path, "[", entry.GetReflection()->GetString(entry, name), "]");
    }
    return ItemPath(path, static_cast<size_t>(index));
  }

  // `index`: of an entry of a list; -1 where it is none.
  void AddValue(const Message& owner, const FieldDescriptor* field, int index,
                const std::string& path) {
    const Reflection* reflection = owner.GetReflection();
    const auto get = [&](auto single, auto repeated) {
      return index < 0 ? (reflection->*single)(owner, field)
                       : (reflection->*repeated)(owner, field, index);
    };
    using R = Reflection;
    switch (field->cpp_type()) {
      case FieldDescriptor::CPPTYPE_MESSAGE: {
        const Message& value = index < 0 ? reflection->GetMessage(owner, field)
                                         : reflection->GetRepeatedMessage(owner, field, index);
        if (!IsDuration(field)) return AddMessage(value, path);
        google::protobuf::Duration duration;
        duration.CopyFrom(value);
        values_[path] = firedrill::FormatDuration(FromProto(duration));
        return;
      }
      case FieldDescriptor::CPPTYPE_STRING:
        values_[path] = get(&R::GetString, &R::GetRepeatedString);
        return;
      case FieldDescriptor::CPPTYPE_BOOL:
        values_[path] = get(&R::GetBool, &R::GetRepeatedBool) ? "true" : "false";
        return;
      case FieldDescriptor::CPPTYPE_ENUM:
        values_[path] = EnumText(get(&R::GetEnum, &R::GetRepeatedEnum));
        return;
      case FieldDescriptor::CPPTYPE_INT32:
        values_[path] = absl::StrCat(get(&R::GetInt32, &R::GetRepeatedInt32));
        return;
      case FieldDescriptor::CPPTYPE_INT64:
        values_[path] = absl::StrCat(get(&R::GetInt64, &R::GetRepeatedInt64));
        return;
      case FieldDescriptor::CPPTYPE_UINT32:
        values_[path] = absl::StrCat(get(&R::GetUInt32, &R::GetRepeatedUInt32));
        return;
      case FieldDescriptor::CPPTYPE_UINT64:
        values_[path] = absl::StrCat(get(&R::GetUInt64, &R::GetRepeatedUInt64));
        return;
      case FieldDescriptor::CPPTYPE_DOUBLE:
        values_[path] = absl::StrCat(get(&R::GetDouble, &R::GetRepeatedDouble));
        return;
      case FieldDescriptor::CPPTYPE_FLOAT:
        values_[path] = absl::StrCat(get(&R::GetFloat, &R::GetRepeatedFloat));
        return;
    }
  }

  // One without any key of its own is a value, too: `dropConnections: {}`.
  void AddMessage(const Message& message, const std::string& path) {
    const size_t before = values_.size();
    Add(message, path);
    if (values_.size() == before) values_[path] = "{}";
  }

  std::map<std::string, std::string> values_;
};

}  // namespace

std::vector<std::string> Differences(const Message& before, const Message& after) {
  Values old_values, new_values;
  old_values.Add(before, "");
  new_values.Add(after, "");
  std::map<std::string, std::string> lines;
  for (const auto& [path, text] : old_values.all()) {
    const auto found = new_values.all().find(path);
    if (found == new_values.all().end()) {
      lines[path] = absl::StrCat(path, ": ", text, " -> nothing");
    } else if (found->second != text) {
      lines[path] = absl::StrCat(path, ": ", text, " -> ", found->second);
    }
  }
  for (const auto& [path, text] : new_values.all()) {
    if (old_values.all().count(path) == 0) lines[path] = absl::StrCat(path, ": now ", text);
  }
  std::vector<std::string> in_order;
  for (auto& [path, line] : lines) in_order.push_back(std::move(line));
  return in_order;
}

}  // namespace firedrill
