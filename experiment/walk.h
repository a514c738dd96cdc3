// Goes through a definition as it was written: with its paths, inline messages dissolved.
#pragma once

#include <string>

#include "absl/functional/function_ref.h"
#include "google/protobuf/message.h"

namespace firedrill {

// `owner` is the message that has the field. Of maps: each value, with the map's field.
using TextVisitor = absl::FunctionRef<void(const google::protobuf::FieldDescriptor* field,
                                           const google::protobuf::Message& owner,
                                           const std::string& path, const std::string& text)>;

// Each text that is set, in the order of the vocabulary.
void ForEachText(const google::protobuf::Message& definition, const std::string& path,
                 TextVisitor visit);

using ListVisitor =
    absl::FunctionRef<void(const google::protobuf::FieldDescriptor* field,
                           const google::protobuf::Message& owner, const std::string& path)>;

// Each list of mappings.
void ForEachList(const google::protobuf::Message& definition, const std::string& path,
                 ListVisitor visit);

}  // namespace firedrill
