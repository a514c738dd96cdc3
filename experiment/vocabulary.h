// The vocabulary as people write it: keys, values of enums, rules and comments, read from the
// protos.
#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "firedrill/v1/options.pb.h"
#include "google/protobuf/descriptor.h"

namespace firedrill {

// One key of a mapping, with the way to its field: keys of an inline message stand among those of
// the message that holds it.
struct Key {
  std::string name;
  // The inline fields from the mapping's own message down to the field; most often none.
  std::vector<const google::protobuf::FieldDescriptor*> inlines;
  const google::protobuf::FieldDescriptor* field = nullptr;
};

// Every key that may stand in a mapping of this message, in the order of the fields.
std::vector<Key> KeysOf(const google::protobuf::Descriptor* message);

// "holdConnections" for hold_connections.
std::string KeyName(const google::protobuf::FieldDescriptor* field);

const v1::FieldRule& RuleOf(const google::protobuf::FieldDescriptor* field);
const v1::KindRule& KindOf(const google::protobuf::Descriptor* message);
// All of them, the usual one first.
std::vector<std::string> ExamplesOf(const v1::KindRule& kind);

// The values of an enum as they are written: "idleInTransaction" for
// SESSION_STATE_IDLE_IN_TRANSACTION. The one for "unspecified" is left out.
struct EnumWord {
  std::string word;
  const google::protobuf::EnumValueDescriptor* value = nullptr;
};
std::vector<EnumWord> WordsOf(const google::protobuf::EnumDescriptor* type);
// Those that can stand in this field.
std::vector<EnumWord> WordsOf(const google::protobuf::FieldDescriptor* field);

bool IsDuration(const google::protobuf::FieldDescriptor* field);

// The oneofs of `message` and of its inline messages of which exactly one arm must be set.
struct Choice {
  const google::protobuf::OneofDescriptor* oneof = nullptr;
  // The keys that may stand there, given the message that holds them.
  std::vector<std::string> keys;
};
std::vector<Choice> ChoicesOf(const google::protobuf::Descriptor* message);

// Groups of keys of which at least one must be set.
std::vector<std::vector<std::string>> NeededGroupsOf(const google::protobuf::Descriptor* message);

// The type of a field in words: "a text", "a whole number", "a list".
std::string TypeWords(const google::protobuf::FieldDescriptor* field);
// Of one entry, where it is a list.
std::string ElementWords(const google::protobuf::FieldDescriptor* field);

// One field that can stand in `is`.
struct MeasuredField {
  enum class Scale { kPlain, kDuration, kShare };
  std::string name;
  std::string meaning;
  Scale scale = Scale::kPlain;
};
std::vector<MeasuredField> MeasuredFieldsOf(const google::protobuf::Descriptor* kind);

// The comment above a message, field, enum or enum value in the proto, as one paragraph.
std::string CommentOf(const google::protobuf::Descriptor* message);
std::string CommentOf(const google::protobuf::FieldDescriptor* field);
std::string CommentOf(const google::protobuf::EnumValueDescriptor* value);

}  // namespace firedrill
