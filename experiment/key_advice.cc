// An unknown key is most often misspelt, one level too high or too deep, or of a sibling kind.
#include "experiment/key_advice.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/text.h"
#include "experiment/vocabulary.h"

namespace firedrill {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;

std::vector<std::string> NamesOf(const Descriptor* type) {
  std::vector<std::string> names;
  for (const Key& key : KeysOf(type)) names.push_back(key.name);
  return names;
}

bool HasKey(const Descriptor* type, const std::string& name) {
  for (const Key& key : KeysOf(type)) {
    if (key.name == name) return true;
  }
  return false;
}

// The keys whose values are mappings or lists of mappings of a message: "guardrails" for Guardrail.
std::vector<std::string> KeysHolding(const Descriptor* near, const std::string& message) {
  std::vector<std::string> holders;
  for (int i = 0; i < near->file()->message_type_count(); ++i) {
    const Descriptor* type = near->file()->message_type(i);
    for (int j = 0; j < type->field_count(); ++j) {
      const FieldDescriptor* field = type->field(j);
      if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE &&
          field->message_type()->name() == message) {
        holders.push_back(KeyName(field));
      }
    }
  }
  return holders;
}

// Where an inline message knows the key but this mapping may not have it.
std::string OnlyElsewhere(const std::string& name, const Descriptor* root, const Descriptor* type) {
  for (int i = 0; i < type->field_count(); ++i) {
    const FieldDescriptor* field = type->field(i);
    if (RuleOf(field).inline_()) {
      std::string found = OnlyElsewhere(name, root, field->message_type());
      if (!found.empty()) return found;
    } else if (KeyName(field) == name && RuleOf(field).only_in_size() > 0) {
      std::vector<std::string> places;
      for (const std::string& message : RuleOf(field).only_in()) {
        for (std::string& key : KeysHolding(root, message)) places.push_back(std::move(key));
      }
      return absl::StrCat("it may stand only in ", JoinWords(places));
    }
  }
  return "";
}

// One level down, up, or in a kind that could stand in this place instead.
std::string ElsewhereAround(const std::string& name, const Mapping& mapping) {
  for (const Key& key : KeysOf(mapping.type)) {
    if (key.field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE || key.field->is_repeated() ||
        IsDuration(key.field)) {
      continue;
    }
    if (HasKey(key.field->message_type(), name)) {
      return absl::StrCat("it is a key of '", key.name, "'; indent it below that");
    }
  }
  if (mapping.parent == nullptr) return "";
  for (const Key& key : KeysOf(mapping.parent->type)) {
    if (key.field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE || IsDuration(key.field) ||
        key.field->is_repeated() || key.field->message_type() == mapping.type) {
      continue;
    }
    if (key.field->containing_oneof() != nullptr && HasKey(key.field->message_type(), name)) {
      return absl::StrCat("it is a key of '", key.name, "'");
    }
  }
  for (const Mapping* around = mapping.parent; around != nullptr; around = around->parent) {
    if (HasKey(around->type, name)) {
      return absl::StrCat("it is a key of ", MappingWords(*around), "; it stands too deep here");
    }
  }
  return "";
}

}  // namespace

std::string MappingWords(const Mapping& mapping) {
  return mapping.path.empty() ? "the file" : absl::StrCat("'", mapping.path, "'");
}

Advice AdviseOnKey(const std::string& key, const Mapping& mapping) {
  Advice advice;
  advice.message = absl::StrCat("unknown key '", key, "' in ", MappingWords(mapping));
  advice.suggestion = OnlyElsewhere(key, mapping.type, mapping.type);
  advice.misplaced = !advice.suggestion.empty();
  if (advice.suggestion.empty()) advice.suggestion = ElsewhereAround(key, mapping);
  if (!advice.suggestion.empty()) return advice;
  const std::vector<std::string> names = NamesOf(mapping.type);
  const std::string nearest = NearestOf(key, names);
  advice.meant = nearest;
  advice.suggestion = nearest.empty() ? "the keys here are " + absl::StrJoin(names, ", ")
                                      : absl::StrCat("did you mean '", nearest, "'?");
  return advice;
}

}  // namespace firedrill
