// Walks tree and message together. A mapping is checked key by key, then as a whole.
#include "experiment/mapper.h"

#include <map>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/text.h"
#include "experiment/key_advice.h"
#include "experiment/scalar.h"
#include "experiment/vocabulary.h"
#include "firedrill/v1/fault.pb.h"

namespace firedrill {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::OneofDescriptor;
using google::protobuf::Reflection;

constexpr size_t kMaxEntries = 1024;

std::string WordsFor(YamlNode::Kind kind) {
  switch (kind) {
    case YamlNode::Kind::kList:
      return "a list";
    case YamlNode::Kind::kMap:
      return "a mapping";
    case YamlNode::Kind::kScalar:
      return "a single value";
    default:
      return "nothing";
  }
}

class Mapper {
 public:
  explicit Mapper(Reporter* reporter) : reporter_(*reporter) {}

  // `where`: the key of the mapping, or its begin where it has none.
  void MapMessage(const YamlNode& node, Message* message, const std::string& path, Place where,
                  const Mapping* parent) {
    if (!Expect(node, YamlNode::Kind::kMap, path, "")) return;
    const Mapping mapping{message->GetDescriptor(), path, parent};
    const std::vector<Key> keys = KeysOf(mapping.type);
    std::set<std::string> seen, meant;
    bool misplaced = false;
    // The arm of each oneof that was met first.
    std::map<const OneofDescriptor*, std::string> arms;
    for (const auto& [key_node, value] : node.entries) {
      const Key* key = nullptr;
      for (const Key& candidate : keys) {
        if (candidate.name == key_node.scalar) key = &candidate;
      }
      const std::string key_path = JoinPath(path, key_node.scalar);
      if (key == nullptr) {
        const Advice advice = AdviseOnKey(key_node.scalar, mapping);
        reporter_.At(key_node.place, key_path, advice.message, advice.suggestion);
        meant.insert(advice.meant);
        misplaced = misplaced || advice.misplaced;
        continue;
      }
      seen.insert(key->name);
      reporter_.locations().keys[key_path] = key_node.place;
      reporter_.locations().values[key_path] = value.place;
      if (const OneofDescriptor* oneof = key->field->real_containing_oneof()) {
        auto [it, first] = arms.emplace(oneof, key->name);
        if (!first) {
          reporter_.At(key_node.place, key_path,
                       absl::StrCat("'", it->second, "' and '", key->name, "' exclude each other"),
                       absl::StrCat("keep one of them; '", it->second, "' stands in line ",
                                    reporter_.LineOf(JoinPath(path, it->second))));
          continue;
        }
      }
      Message* holder = message;
      for (const FieldDescriptor* step : key->inlines) {
        holder = holder->GetReflection()->MutableMessage(holder, step);
      }
      MapField(value, holder, key->field, key_path, key_node.place, &mapping);
    }
    FillDefaults(keys, seen, message);
    // A misspelt key is not missing as well.
    seen.insert(meant.begin(), meant.end());
    for (const Key& key : keys) {
      const OneofDescriptor* oneof = key.field->real_containing_oneof();
      if (oneof != nullptr && meant.count(key.name) > 0) arms.emplace(oneof, key.name);
    }
    CheckWhole(mapping, keys, seen, where);
    CheckUnfit(mapping, keys, seen, *message);
    if (!misplaced) CheckChoices(mapping, arms, where);
  }

 private:
  // Reports where the node is of another kind, or empty.
  bool Expect(const YamlNode& node, YamlNode::Kind kind, const std::string& path,
              std::string suggestion) {
    if (node.kind == kind) return true;
    if (node.kind == YamlNode::Kind::kRefused) return false;
    const std::string what = path.empty() ? "the file" : absl::StrCat("'", path, "'");
    if (node.kind == YamlNode::Kind::kNull) {
      reporter_.At(node.place, path, absl::StrCat(what, " has no value"),
                   kind == YamlNode::Kind::kMap    ? "indent its keys below it"
                   : kind == YamlNode::Kind::kList ? "indent its entries below it, each after '- '"
                                                   : "write one, or leave the key out");
      return false;
    }
    reporter_.At(node.place, path,
                 absl::StrCat(what, " must be ", WordsFor(kind), ", not ", WordsFor(node.kind)),
                 std::move(suggestion));
    return false;
  }

  void MapField(const YamlNode& node, Message* message, const FieldDescriptor* field,
                const std::string& path, Place where, const Mapping* parent) {
    const Reflection* reflection = message->GetReflection();
    if (field->is_map()) {
      MapEntries(node, message, field, path);
    } else if (field->is_repeated()) {
      MapList(node, message, field, path, parent);
    } else if (RuleOf(field).secret() && node.kind == YamlNode::Kind::kScalar) {
      reporter_.AtSecret(path,
                         absl::StrCat("'", path,
                                      "' says where the secret is found, it is "
                                      "never the secret itself"),
                         "write {file: /absolute/path} or {credential: name}");
    } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE && !IsDuration(field)) {
      MapMessage(node, reflection->MutableMessage(message, field), path, where, parent);
    } else {
      MapScalar(node, message, field, path);
    }
  }

  void MapList(const YamlNode& node, Message* message, const FieldDescriptor* field,
               const std::string& path, const Mapping* parent) {
    const bool of_messages =
        field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE && !IsDuration(field);
    std::string suggestion;
    if (node.kind == YamlNode::Kind::kScalar) suggestion = "write [" + node.scalar + "]";
    if (node.kind == YamlNode::Kind::kMap) suggestion = "put '- ' in front of each entry";
    if (!Expect(node, YamlNode::Kind::kList, path, suggestion)) return;
    if (node.items.empty() && RuleOf(field).required()) {
      reporter_.At(node.place, path, absl::StrCat("'", path, "' needs at least one entry"));
    }
    CheckCount(node.items.size(), field, node.place, path);
    for (size_t i = 0; i < node.items.size(); ++i) {
      const YamlNode& item = node.items[i];
      const std::string item_path = ItemPath(path, i);
      reporter_.locations().keys[item_path] = item.place;
      reporter_.locations().values[item_path] = item.place;
      if (of_messages) {
        MapMessage(item, message->GetReflection()->AddMessage(message, field), item_path,
                   item.place, parent);
      } else {
        MapScalar(item, message, field, item_path);
      }
    }
  }

  void MapEntries(const YamlNode& node, Message* message, const FieldDescriptor* field,
                  const std::string& path) {
    if (!Expect(node, YamlNode::Kind::kMap, path, "")) return;
    CheckCount(node.entries.size(), field, node.place, path);
    const Descriptor* entry_type = field->message_type();
    for (const auto& [key, value] : node.entries) {
      const std::string entry_path = JoinPath(path, key.scalar);
      reporter_.locations().keys[entry_path] = key.place;
      reporter_.locations().values[entry_path] = value.place;
      if (key.scalar.empty()) {
        reporter_.At(key.place, entry_path, absl::StrCat("a key of '", path, "' is empty"));
        continue;
      }
      Message* entry = message->GetReflection()->AddMessage(message, field);
      entry->GetReflection()->SetString(entry, entry_type->map_key(), key.scalar);
      MapScalar(value, entry, entry_type->map_value(), entry_path);
    }
  }

  void MapScalar(const YamlNode& node, Message* message, const FieldDescriptor* field,
                 const std::string& path) {
    if (!Expect(node, YamlNode::Kind::kScalar, path, "write " + ElementWords(field))) return;
    const Advice advice = SetScalar(node.scalar, node.quoted, field, path, message);
    if (advice.secret) {
      reporter_.AtSecret(path, advice.message, advice.suggestion);
    } else if (!advice.message.empty()) {
      reporter_.At(node.place, path, advice.message, advice.suggestion);
    }
  }

  void CheckCount(size_t count, const FieldDescriptor* field, Place place,
                  const std::string& path) {
    const size_t most = RuleOf(field).max_size() > 0 ? RuleOf(field).max_size() : kMaxEntries;
    if (count <= most) return;
    reporter_.At(place, path, absl::StrCat("'", path, "' has ", count, " entries; at most ", most));
  }

  // What is missing from a mapping, now that all of it was seen.
  void CheckWhole(const Mapping& mapping, const std::vector<Key>& keys,
                  const std::set<std::string>& seen, Place where) {
    const std::string what = MappingWords(mapping);
    std::vector<std::string> missing;
    std::string help;
    for (const Key& key : keys) {
      if (!RuleOf(key.field).required() || seen.count(key.name) > 0) continue;
      missing.push_back(absl::StrCat("'", key.name, "'"));
      help = absl::StrCat(key.name, ": ", CommentOf(key.field));
    }
    if (!missing.empty()) {
      reporter_.At(where, mapping.path,
                   absl::StrCat(what, missing.size() == 1 ? " needs the key " : " needs the keys ",
                                JoinWords(missing)),
                   missing.size() == 1 ? help : "");
    }
    for (const std::vector<std::string>& group : NeededGroupsOf(mapping.type)) {
      bool found = false;
      for (const std::string& name : group) found = found || seen.count(name) > 0;
      if (found) continue;
      reporter_.At(where, mapping.path,
                   absl::StrCat(what, " needs at least one of ", absl::StrJoin(group, ", ")));
    }
  }

  // "state: active" holds in the message; a key alone, when it was written.
  static bool Holds(const std::string& condition, const std::vector<Key>& keys,
                    const std::set<std::string>& seen, const Message& message) {
    const std::pair<std::string, std::string> parts =
        absl::StrSplit(condition, absl::MaxSplits(": ", 1));
    if (parts.second.empty()) return seen.count(parts.first) > 0;
    for (const Key& key : keys) {
      if (key.name != parts.first || key.field->enum_type() == nullptr) continue;
      const int number = message.GetReflection()->GetEnumValue(message, key.field);
      for (const EnumWord& word : WordsOf(key.field->enum_type())) {
        if (word.value->number() == number) return word.word == parts.second;
      }
    }
    return false;
  }

  void CheckUnfit(const Mapping& mapping, const std::vector<Key>& keys,
                  const std::set<std::string>& seen, const Message& message) {
    for (int i = 0; i < mapping.type->options().ExtensionSize(v1::unfit); ++i) {
      const v1::Unfit& unfit = mapping.type->options().GetExtension(v1::unfit, i);
      if (!Holds(unfit.when(), keys, seen, message)) continue;
      for (const std::string& never : unfit.never()) {
        if (!Holds(never, keys, seen, message)) continue;
        const std::string key = never.substr(0, never.find(':'));
        reporter_.AtKey(JoinPath(mapping.path, key),
                        absl::StrCat("'", never, "' does not go with '", unfit.when(), "'"),
                        unfit.why());
      }
    }
  }

  void CheckChoices(const Mapping& mapping,
                    const std::map<const OneofDescriptor*, std::string>& arms, Place where) {
    for (const Choice& choice : ChoicesOf(mapping.type)) {
      if (arms.count(choice.oneof) > 0) continue;
      if (choice.oneof->containing_type() == v1::Fault::descriptor()) {
        reporter_.At(where, mapping.path,
                     absl::StrCat(MappingWords(mapping), " needs exactly one kind of fault"),
                     "'firedrill faults' lists them, with an example of each");
        continue;
      }
      reporter_.At(
          where, mapping.path,
          choice.keys.size() == 1
              ? absl::StrCat(MappingWords(mapping), " needs the key '", choice.keys[0], "'")
              : absl::StrCat(MappingWords(mapping), " needs exactly one of ",
                             absl::StrJoin(choice.keys, ", ")));
    }
  }

  void FillDefaults(const std::vector<Key>& keys, const std::set<std::string>& seen,
                    Message* message) {
    for (const Key& key : keys) {
      const std::string& value = RuleOf(key.field).default_value();
      if (value.empty() || seen.count(key.name) > 0 || !key.inlines.empty()) continue;
      SetScalar(value, key.field->cpp_type() == FieldDescriptor::CPPTYPE_STRING, key.field,
                key.name, message);
    }
  }

  Reporter& reporter_;
};

}  // namespace

void MapYaml(const YamlNode& root, Message* message, Reporter* reporter) {
  Mapper(reporter).MapMessage(root, message, "", root.place, nullptr);
}

}  // namespace firedrill
