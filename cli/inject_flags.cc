// Flags made from the protos, and a definition made from flags.
#include "cli/inject_flags.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/text.h"
#include "experiment/vocabulary.h"
#include "experiment/writer.h"
#include "firedrill/v1/fault.pb.h"
#include "firedrill/v1/site.pb.h"

namespace firedrill {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;

void AddFlags(const Descriptor* message, const std::vector<std::string>& path,
              std::vector<Flag>* flags) {
  for (const Key& key : KeysOf(message)) {
    Flag flag{path, key.field};
    flag.path.push_back(key.name);
    const bool group = key.field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE &&
                       !IsDuration(key.field) && !key.field->is_repeated();
    if (group) {
      AddFlags(key.field->message_type(), flag.path, flags);
    } else {
      flags->push_back(std::move(flag));
    }
  }
}

// As it stands in a definition: texts in quotes, numbers and the like as they are.
std::string Scalar(const FieldDescriptor* field, const std::string& word) {
  const bool plain = field->cpp_type() != FieldDescriptor::CPPTYPE_STRING && !word.empty() &&
                     std::all_of(word.begin(), word.end(), [](char c) {
                       return absl::ascii_isalnum(c) || c == '.' || c == '-' || c == '+';
                     });
  return plain ? word : QuotedYaml(word);
}

}  // namespace

std::string KebabOf(const std::string& camel) {
  std::string out;
  for (const char c : camel) {
    if (absl::ascii_isupper(c)) out.push_back('-');
    out.push_back(absl::ascii_tolower(c));
  }
  return out;
}

const Descriptor* KindMessage(const std::string& camel) {
  const auto* kinds = v1::Fault::descriptor()->FindOneofByName("kind");
  for (int i = 0; i < kinds->field_count(); ++i) {
    if (kinds->field(i)->json_name() == camel) return kinds->field(i)->message_type();
  }
  return nullptr;
}

std::string Flag::Name() const {
  std::vector<std::string> parts;
  for (const std::string& key : path) parts.push_back(KebabOf(key));
  return absl::StrCat("--", absl::StrJoin(parts, "."));
}

std::vector<Flag> FlagsOf(const Descriptor* message) {
  std::vector<Flag> flags;
  AddFlags(message, {}, &flags);
  return flags;
}

bool HasFlag(const std::vector<Flag>& flags, absl::string_view name) {
  return std::any_of(flags.begin(), flags.end(),
                     [&](const Flag& flag) { return flag.Name() == name; });
}

bool HasMatch(const std::vector<Flag>& flags) {
  return std::any_of(flags.begin(), flags.end(),
                     [](const Flag& flag) { return flag.path.front() == "match"; });
}

std::vector<std::string> SubjectFlags() {
  std::vector<std::string> names;
  const auto* ways = v1::HostSubject::descriptor()->FindOneofByName("what");
  for (int i = 0; i < ways->field_count(); ++i) {
    names.push_back(absl::StrCat("--", KebabOf(KeyName(ways->field(i)))));
  }
  return names;
}

std::string Render(const Said& said, int indent) {
  std::string text;
  for (const auto& [key, value] : said.keys) {
    absl::StrAppend(&text, std::string(indent, ' '), key, ":");
    if (value.field == nullptr) {
      absl::StrAppend(&text, "\n", Render(value, indent + 2));
    } else if (value.field->is_repeated()) {
      std::vector<std::string> words;
      for (const std::string& word : value.words) words.push_back(Scalar(value.field, word));
      absl::StrAppend(&text, " [", absl::StrJoin(words, ", "), "]\n");
    } else {
      absl::StrAppend(&text, " ", Scalar(value.field, value.words.back()), "\n");
    }
  }
  return text;
}

void Say(const Flag& flag, const std::string& word, Said* root) {
  Said* at = root;
  for (const std::string& key : flag.path) at = &at->keys[key];
  at->field = flag.field;
  if (flag.field->is_repeated()) {
    for (absl::string_view part : absl::StrSplit(word, ',')) {
      at->words.emplace_back(absl::StripAsciiWhitespace(part));
    }
  } else {
    at->words = {word};
  }
}

absl::Status GivenTwice(const std::string& name, const std::string& value) {
  return absl::InvalidArgumentError(
      absl::StrCat(name, " is given twice, the second time as ", value, ": leave one out"));
}

absl::Status SayMatch(const std::string& text, const std::vector<Flag>& flags,
                      std::set<std::string>* given, Said* root) {
  std::set<std::string> keys;
  for (const absl::string_view part : absl::StrSplit(text, ',')) {
    const std::vector<std::string> sides = absl::StrSplit(part, absl::MaxSplits('=', 1));
    if (sides.size() != 2) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--match ", text, ": ", part.empty() ? "''" : part,
          " is no key=value; write it as table=users,verb=select. A comma divides: a value that "
          "has "
          "one goes into a flag of its own, as in --match.regex 'a,b' or --match.tables a,b"));
    }
    const auto flag = std::find_if(flags.begin(), flags.end(), [&](const Flag& one) {
      return one.path.size() == 2 && one.path[0] == "match" &&
             (one.path[1] == sides[0] || one.path[1] == sides[0] + "s");
    });
    if (flag == flags.end()) {
      std::vector<std::string> known;
      for (const Flag& one : flags) {
        if (one.path.size() == 2 && one.path[0] == "match") known.push_back(one.path[1]);
      }
      if (known.empty()) return absl::InvalidArgumentError("this fault has no --match");
      std::vector<std::string> near_to = known;
      for (const char* short_of : {"table", "verb"}) near_to.push_back(short_of);
      const std::string near = NearestOf(sides[0], near_to);
      return absl::InvalidArgumentError(
          absl::StrCat("--match ", text, ": ", sides[0], " is none of ", absl::StrJoin(known, ", "),
                       near.empty() ? "; each is a flag too, such as --match.tables users"
                                    : absl::StrCat("; did you mean ", near, "=", sides[1], "?")));
    }
    const std::string name = flag->Name();
    if (flag->field->is_repeated() && !keys.insert(name).second) {
      return absl::InvalidArgumentError(absl::StrCat("--match ", text, ": ", sides[0],
                                                     " is said twice; several go into a flag of ",
                                                     "their own, as in ", name, " a,b"));
    }
    if (!flag->field->is_repeated() && !given->insert(name).second) {
      return GivenTwice(name, sides[1]);
    }
    if (absl::StripAsciiWhitespace(sides[1]).empty()) {
      return absl::InvalidArgumentError(absl::StrCat("--match ", text, ": ", sides[0],
                                                     " is empty; give it a value, as in ",
                                                     "table=users, or leave it out"));
    }
    Say(*flag, sides[1], root);
  }
  return absl::OkStatus();
}

}  // namespace firedrill
