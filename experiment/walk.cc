// One recursion over the keys of a message, used by both walks.
#include "experiment/walk.h"

#include "experiment/reporter.h"
#include "experiment/vocabulary.h"

namespace firedrill {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

bool IsText(const FieldDescriptor* field) {
  return field->cpp_type() == FieldDescriptor::CPPTYPE_STRING;
}

class Walk {
 public:
  Walk(const TextVisitor* text, const ListVisitor* list) : text_(text), list_(list) {}

  void Go(const Message& message, const std::string& path) {
    for (const Key& key : KeysOf(message.GetDescriptor())) {
      const Message* owner = &message;
      for (const FieldDescriptor* step : key.inlines) {
        owner = &owner->GetReflection()->GetMessage(*owner, step);
      }
      GoField(*owner, key.field, JoinPath(path, key.name));
    }
  }

 private:
  void GoField(const Message& owner, const FieldDescriptor* field, const std::string& path) {
    const Reflection* reflection = owner.GetReflection();
    if (field->is_map()) {
      GoMap(owner, field, path);
    } else if (field->is_repeated()) {
      const bool of_messages = field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
      if (of_messages && list_ != nullptr) (*list_)(field, owner, path);
      for (int i = 0; i < reflection->FieldSize(owner, field); ++i) {
        if (of_messages) {
          Go(reflection->GetRepeatedMessage(owner, field, i), ItemPath(path, i));
        } else if (IsText(field)) {
          Text(field, owner, ItemPath(path, i), reflection->GetRepeatedString(owner, field, i));
        }
      }
    } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      if (!IsDuration(field) && reflection->HasField(owner, field)) {
        Go(reflection->GetMessage(owner, field), path);
      }
    } else if (IsText(field) && reflection->HasField(owner, field)) {
      Text(field, owner, path, reflection->GetString(owner, field));
    }
  }

  void GoMap(const Message& owner, const FieldDescriptor* field, const std::string& path) {
    const FieldDescriptor* value = field->message_type()->map_value();
    if (!IsText(value)) return;
    const Reflection* reflection = owner.GetReflection();
    for (int i = 0; i < reflection->FieldSize(owner, field); ++i) {
      const Message& entry = reflection->GetRepeatedMessage(owner, field, i);
      const std::string key =
          entry.GetReflection()->GetString(entry, field->message_type()->map_key());
      Text(field, owner, JoinPath(path, key), entry.GetReflection()->GetString(entry, value));
    }
  }

  void Text(const FieldDescriptor* field, const Message& owner, const std::string& path,
            const std::string& text) {
    if (text_ != nullptr) (*text_)(field, owner, path, text);
  }

  const TextVisitor* text_;
  const ListVisitor* list_;
};

}  // namespace

void ForEachText(const Message& definition, const std::string& path, TextVisitor visit) {
  Walk(&visit, nullptr).Go(definition, path);
}

void ForEachList(const Message& definition, const std::string& path, ListVisitor visit) {
  Walk(nullptr, &visit).Go(definition, path);
}

}  // namespace firedrill
