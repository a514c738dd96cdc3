// How lists and single things are printed: as a table for people, as JSON or YAML with the names of
// the protos for programs, or as names alone.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "google/protobuf/message.h"

namespace firedrill {

// "table", "json", "yaml" or "name", as `-o` says.
enum class Form { kTable, kJson, kYaml, kName };
Form FormOf(const std::string& word);
// The words that `-o` may have.
const std::vector<std::string>& FormWords();

// The whole message, with its defaults.
std::string JsonText(const google::protobuf::Message& message);
// The same on one line, for streams.
std::string JsonLine(const google::protobuf::Message& message);
std::string YamlText(const google::protobuf::Message& message);
// The same, of JSON that is there already.
std::string YamlOfJson(const std::string& json);

// Columns as wide as they must be; the last one ends where its text does.
std::string TableText(const std::vector<std::string>& head,
                      const std::vector<std::vector<std::string>>& rows);

// A list that was asked for: `message` is what the controller has answered, `rows` begin with the
// name of each. `nothing` is said where a table would be empty.
void PrintList(Form form, const google::protobuf::Message& message,
               const std::vector<std::string>& head,
               const std::vector<std::vector<std::string>>& rows, const std::string& nothing);

}  // namespace firedrill
