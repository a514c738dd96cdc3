// The flags of a kind of fault: one for each of its keys, and what a command line says by them.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/descriptor.h"

namespace firedrill {

// "delay-queries" for "delayQueries", as the command line names a kind or a key.
std::string KebabOf(const std::string& camel);
// The message of a kind, "delayQueries"; null where there is none.
const google::protobuf::Descriptor* KindMessage(const std::string& camel);

// One flag: the key's path, and what it says.
struct Flag {
  std::vector<std::string> path;
  const google::protobuf::FieldDescriptor* field = nullptr;
  std::string Name() const;
};
std::vector<Flag> FlagsOf(const google::protobuf::Descriptor* message);
bool HasFlag(const std::vector<Flag>& flags, absl::string_view name);
bool HasMatch(const std::vector<Flag>& flags);
// "--unit", "--cgroup" and their like: the ways to say a subject.
std::vector<std::string> SubjectFlags();

// What was said, as a tree of keys.
struct Said {
  const google::protobuf::FieldDescriptor* field = nullptr;
  std::vector<std::string> words;
  std::map<std::string, Said> keys;
};
void Say(const Flag& flag, const std::string& word, Said* root);
// "table=users,verb=select" says what --match.tables and --match.verbs say. `given`: the flags so
// far that hold one value.
absl::Status SayMatch(const std::string& text, const std::vector<Flag>& flags,
                      std::set<std::string>* given, Said* root);
absl::Status GivenTwice(const std::string& name, const std::string& value);
// In the language of definitions.
std::string Render(const Said& said, int indent);

}  // namespace firedrill
