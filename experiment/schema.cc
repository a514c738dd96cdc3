// Made from the protos: names, types, rules and comments. What a schema cannot say (references,
// conditions, times that must fit) is left to `firedrill lint`.
#include "experiment/schema.h"

#include <set>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "experiment/scalar.h"
#include "experiment/vocabulary.h"
#include "experiment/yaml_tree.h"
#include "firedrill/v1/daemon.pb.h"
#include "firedrill/v1/experiment.pb.h"
#include "firedrill/v1/site.pb.h"
#include "nlohmann/json.hpp"

namespace firedrill {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using Json = nlohmann::ordered_json;

constexpr char kDurationPattern[] = R"(^([0-9]+(\.[0-9]*)?(ms|s|m|h|d))+$)";

// An example from the protos as JSON, with YAML's own reading of plain words.
Json ToJson(const YamlNode& node) {
  switch (node.kind) {
    case YamlNode::Kind::kMap: {
      Json object = Json::object();
      for (const auto& [key, value] : node.entries) object[key.scalar] = ToJson(value);
      return object;
    }
    case YamlNode::Kind::kList: {
      Json list = Json::array();
      for (const YamlNode& item : node.items) list.push_back(ToJson(item));
      return list;
    }
    case YamlNode::Kind::kScalar: {
      if (node.quoted) return node.scalar;
      if (IsBoolWord(node.scalar)) return node.scalar[0] == 't' || node.scalar[0] == 'T';
      int64_t whole = 0;
      double number = 0;
      if (absl::SimpleAtoi(node.scalar, &whole)) return whole;
      if (IsNumberWord(node.scalar) && absl::SimpleAtod(node.scalar, &number)) return number;
      return node.scalar;
    }
    default:
      return nullptr;
  }
}

// The value of `key` in an example fragment; null where it is not there.
Json ExampleOf(const std::string& example, const std::string& key) {
  std::vector<Problem> ignored;
  std::optional<YamlNode> root = ReadYaml(example, &ignored);
  if (!root) return nullptr;
  const Json json = ToJson(*root);
  return json.contains(key) ? Json(json[key]) : Json(nullptr);
}

class Schema {
 public:
  Json Make(const Descriptor* root) {
    Json schema;
    schema["$schema"] = "http://json-schema.org/draft-07/schema#";
    schema["title"] = absl::StrCat("Firedrill ", root->name());
    Json body = OfMessage(root);
    for (auto& [name, value] : body.items()) schema[name] = value;
    schema["definitions"] = definitions_;
    return schema;
  }

 private:
  Json OfMessage(const Descriptor* message) {
    Json schema;
    schema["type"] = "object";
    std::string comment = CommentOf(message);
    if (!comment.empty()) schema["description"] = comment;
    schema["additionalProperties"] = false;
    Json properties = Json::object();
    Json required = Json::array();
    for (const Key& key : KeysOf(message)) {
      properties[key.name] = OfField(key);
      if (RuleOf(key.field).required()) required.push_back(key.name);
    }
    schema["properties"] = properties;
    Json all = Json::array();
    for (const Choice& choice : ChoicesOf(message)) {
      if (choice.keys.size() == 1) {
        required.push_back(choice.keys[0]);
      } else {
        all.push_back({{"oneOf", RequiredEach(choice.keys)}});
      }
    }
    for (const auto& group : NeededGroupsOf(message))
      all.push_back({{"anyOf", RequiredEach(group)}});
    if (!required.empty()) schema["required"] = required;
    if (all.size() == 1) {
      for (auto& [name, value] : all[0].items()) schema[name] = value;
    } else if (!all.empty()) {
      schema["allOf"] = all;
    }
    return schema;
  }

  static Json RequiredEach(const std::vector<std::string>& keys) {
    Json list = Json::array();
    for (const std::string& key : keys) list.push_back({{"required", Json::array({key})}});
    return list;
  }

  Json OfField(const Key& key) {
    const FieldDescriptor* field = key.field;
    const v1::FieldRule& rule = RuleOf(field);
    Json schema;
    if (field->is_map()) {
      schema["type"] = "object";
      schema["additionalProperties"] = OfValue(field->message_type()->map_value());
    } else if (field->is_repeated()) {
      schema["type"] = "array";
      schema["items"] = OfValue(field);
      if (rule.required()) schema["minItems"] = 1;
      if (rule.max_size() > 0) schema["maxItems"] = rule.max_size();
    } else {
      schema = OfValue(field);
    }
    Describe(key, &schema);
    return schema;
  }

  // Beside `$ref` draft 7 ignores everything; editors show the description all the same.
  void Describe(const Key& key, Json* schema) {
    const FieldDescriptor* field = key.field;
    const v1::FieldRule& rule = RuleOf(field);
    std::string text = CommentOf(field);
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE && !field->is_repeated()) {
      const v1::KindRule& kind = KindOf(field->message_type());
      if (!kind.summary().empty()) text = kind.summary();
      if (!kind.ends().empty()) absl::StrAppend(&text, " ", kind.ends());
      for (const std::string& text : ExamplesOf(kind)) {
        Json example = ExampleOf(text, key.name);
        if (!example.is_null()) (*schema)["examples"].push_back(example);
      }
    }
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_ENUM) {
      for (const EnumWord& word : WordsOf(field)) {
        const std::string comment = CommentOf(word.value);
        if (!comment.empty()) absl::StrAppend(&text, "\n", word.word, ": ", comment);
      }
    }
    if (!rule.unit().empty()) absl::StrAppend(&text, " Unit: ", rule.unit(), ".");
    if (IsDuration(field)) absl::StrAppend(&text, BoundsWords(rule));
    if (!text.empty()) (*schema)["description"] = text;
    if (!rule.default_value().empty()) (*schema)["default"] = DefaultOf(field);
  }

  static std::string BoundsWords(const v1::FieldRule& rule) {
    if (rule.min().empty() && rule.max().empty()) return "";
    return absl::StrCat(" From ", rule.min().empty() ? "0s" : rule.min(), " to ",
                        rule.max().empty() ? "any length" : rule.max(), ".");
  }

  static Json DefaultOf(const FieldDescriptor* field) {
    const std::string& text = RuleOf(field).default_value();
    YamlNode node;
    node.kind = YamlNode::Kind::kScalar;
    node.scalar = text;
    node.quoted = IsDuration(field) || field->cpp_type() == FieldDescriptor::CPPTYPE_STRING;
    return ToJson(node);
  }

  // One value: of the field, of an entry of its list or of its map.
  Json OfValue(const FieldDescriptor* field) {
    const v1::FieldRule& rule = RuleOf(field);
    Json schema;
    if (IsDuration(field)) {
      schema["type"] = "string";
      schema["pattern"] = kDurationPattern;
      return schema;
    }
    switch (field->cpp_type()) {
      case FieldDescriptor::CPPTYPE_MESSAGE:
        return Reference(field->message_type());
      case FieldDescriptor::CPPTYPE_ENUM:
        for (const EnumWord& word : WordsOf(field)) schema["enum"].push_back(word.word);
        return schema;
      case FieldDescriptor::CPPTYPE_BOOL:
        schema["type"] = "boolean";
        return schema;
      case FieldDescriptor::CPPTYPE_STRING:
        OfText(field, &schema);
        return schema;
      case FieldDescriptor::CPPTYPE_FLOAT:
      case FieldDescriptor::CPPTYPE_DOUBLE:
        schema["type"] = "number";
        break;
      default:
        schema["type"] = "integer";
        break;
    }
    const bool is_unsigned = field->cpp_type() == FieldDescriptor::CPPTYPE_UINT32 ||
                             field->cpp_type() == FieldDescriptor::CPPTYPE_UINT64;
    double bound = 0;
    if (absl::SimpleAtod(rule.min(), &bound))
      schema["minimum"] = bound;
    else if (is_unsigned)
      schema["minimum"] = 0;
    if (absl::SimpleAtod(rule.max(), &bound)) schema["maximum"] = bound;
    return schema;
  }

  static void OfText(const FieldDescriptor* field, Json* schema) {
    const v1::FieldRule& rule = RuleOf(field);
    (*schema)["type"] = "string";
    const std::string& pattern = rule.pattern();
    const bool fixed =
        !pattern.empty() && pattern.find_first_of("\\[](){}.*+?^$") == std::string::npos;
    if (fixed) {
      size_t start = 0;
      while (start <= pattern.size()) {
        const size_t end = std::min(pattern.find('|', start), pattern.size());
        (*schema)["enum"].push_back(pattern.substr(start, end - start));
        start = end + 1;
      }
    } else if (!pattern.empty()) {
      (*schema)["pattern"] = absl::StrCat("^(?:", pattern, ")$");
    }
    const bool map_value = field->containing_type()->options().map_entry();
    if (!field->is_repeated() && !map_value) (*schema)["minLength"] = 1;
    if (!field->is_repeated() && rule.max_size() > 0) (*schema)["maxLength"] = rule.max_size();
  }

  Json Reference(const Descriptor* message) {
    if (known_.insert(message->name()).second) {
      Json body = OfMessage(message);
      definitions_[message->name()] = std::move(body);
    }
    return {{"$ref", absl::StrCat("#/definitions/", message->name())}};
  }

  Json definitions_ = Json::object();
  std::set<std::string> known_;
};

}  // namespace

std::string JsonSchema(absl::string_view root) {
  const Descriptor* message = root == "Site"         ? v1::Site::descriptor()
                              : root == "Controller" ? v1::Controller::descriptor()
                              : root == "Injector"   ? v1::Injector::descriptor()
                                                     : v1::Experiment::descriptor();
  return Schema().Make(message).dump(2) + "\n";
}

}  // namespace firedrill
