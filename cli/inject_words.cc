// The flags of `firedrill inject`, made from the protos.
#include "cli/inject_words.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "cli/upstream.h"
#include "experiment/mapper.h"
#include "experiment/rules.h"
#include "experiment/vocabulary.h"
#include "experiment/yaml_tree.h"
#include "firedrill/v1/wire.pb.h"

namespace firedrill {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

const std::vector<std::string> kOwnFlags = {"--duration", "--site",      "--node",
                                            "--seed",     "--state-dir", "--no-color",
                                            "--upstream", "--protocol",  "--help"};
// What a subject is called that is given on the command line.
constexpr char kGivenSubject[] = "given";
constexpr char kProtocols[] = "postgresql|mysql|redis|http|tcp";

std::string Kebab(const std::string& camel) {
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

// One flag: the key's path, and what it says.
struct Flag {
  std::vector<std::string> path;
  const FieldDescriptor* field = nullptr;
  std::string Name() const {
    std::vector<std::string> parts;
    for (const std::string& key : path) parts.push_back(Kebab(key));
    return absl::StrCat("--", absl::StrJoin(parts, "."));
  }
};

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

std::vector<Flag> FlagsOf(const Descriptor* message) {
  std::vector<Flag> flags;
  AddFlags(message, {}, &flags);
  return flags;
}

std::string Quoted(absl::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out.push_back('\\');
    if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else {
      out.push_back(c);
    }
  }
  return out + "\"";
}

// As it stands in a definition: texts in quotes, numbers and the like as they are.
std::string Scalar(const FieldDescriptor* field, const std::string& word) {
  const bool plain = field->cpp_type() != FieldDescriptor::CPPTYPE_STRING && !word.empty() &&
                     std::all_of(word.begin(), word.end(), [](char c) {
                       return absl::ascii_isalnum(c) || c == '.' || c == '-' || c == '+';
                     });
  return plain ? word : Quoted(word);
}

// What was said, as a tree of keys.
struct Said {
  const FieldDescriptor* field = nullptr;
  std::vector<std::string> words;
  std::map<std::string, Said> keys;
};

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
    for (absl::string_view part : absl::StrSplit(word, ',', absl::SkipEmpty())) {
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

// "table=users,verb=select" says what --match.tables and --match.verbs say. `given`: the flags so
// far that hold one value.
absl::Status SayMatch(const std::string& text, const std::vector<Flag>& flags,
                      std::set<std::string>* given, Said* root) {
  std::set<std::string> keys;
  for (const absl::string_view part : absl::StrSplit(text, ',', absl::SkipEmpty())) {
    const std::vector<std::string> sides = absl::StrSplit(part, absl::MaxSplits('=', 1));
    if (sides.size() != 2) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--match ", text, ": ", part,
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
    Say(*flag, sides[1], root);
  }
  return absl::OkStatus();
}

absl::Status UnknownFlag(const std::string& name, const std::vector<Flag>& flags) {
  std::vector<std::string> known = kOwnFlags;
  known.push_back("--match");
  for (const Flag& flag : flags) known.push_back(flag.Name());
  const std::string near = NearestOf(name, known);
  return absl::InvalidArgumentError(absl::StrCat(
      "there is no flag ", name,
      near.empty() ? "; --help lists them" : absl::StrCat("; did you mean ", near, "?")));
}

bool HasFlag(const std::vector<Flag>& flags, absl::string_view name) {
  return std::any_of(flags.begin(), flags.end(),
                     [&](const Flag& flag) { return flag.Name() == name; });
}

// "--unit", "--cgroup" and their like: the ways to say a subject.
std::vector<std::string> SubjectFlags() {
  std::vector<std::string> names;
  const auto* ways = v1::HostSubject::descriptor()->FindOneofByName("what");
  for (int i = 0; i < ways->field_count(); ++i) {
    names.push_back(absl::StrCat("--", Kebab(KeyName(ways->field(i)))));
  }
  return names;
}

bool HasMatch(const std::vector<Flag>& flags) {
  return std::any_of(flags.begin(), flags.end(),
                     [](const Flag& flag) { return flag.path.front() == "match"; });
}

// Which server is meant, said in one of the two ways.
absl::Status CheckServer(const InjectOptions& options, const std::vector<Flag>& flags,
                         bool profile_said) {
  if (!HasFlag(flags, "--profile")) return absl::OkStatus();
  const std::string kind = Kebab(options.kind);
  const bool wire = HasFlag(flags, "--listen");
  const bool logs_in = !wire && (options.protocol.empty() || options.protocol == "postgresql" ||
                                 options.protocol == "mysql");
  if (profile_said && !options.upstream.empty()) {
    return absl::InvalidArgumentError(
        "--profile and --upstream both say which server is meant: leave one out");
  }
  if (!options.upstream.empty() && logs_in) {
    return absl::InvalidArgumentError(
        absl::StrCat(kind, " logs in at the server, and --upstream has no account: name a profile ",
                     "of a site file instead, as in --site site.yaml --profile NAME"));
  }
  if (profile_said || !options.upstream.empty()) return absl::OkStatus();
  if (logs_in) {
    return absl::InvalidArgumentError(
        absl::StrCat(kind, ": at which server? Add --profile NAME, a connection that the site ",
                     "file names (--site FILE)"));
  }
  return absl::InvalidArgumentError(
      absl::StrCat(kind, ": which server is meant? Add --upstream HOST:PORT --protocol ",
                   kProtocols, ", or --profile NAME where a site file names it (--site FILE)"));
}

// Which processes are meant, said in one of the two ways: --subject NAME, or --pidfile and its
// like.
absl::Status CheckSubject(const std::map<std::string, std::string>& given, InjectOptions* options,
                          Said* said) {
  const bool named = said->keys.count("subject") > 0;
  const std::vector<std::string> ways = SubjectFlags();
  if (given.empty()) {
    if (named) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(
        Kebab(options->kind), ": which processes are meant? Add one of ", JoinWords(ways),
        ", or --subject NAME where a site file names it (--site FILE)"));
  }
  if (named || given.size() > 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(named ? "--subject" : given.rbegin()->first, " and ", given.begin()->first,
                     " both say which processes are meant: leave one out"));
  }
  const auto& [flag, word] = *given.begin();
  const std::string text = absl::StrCat("name: ", kGivenSubject, "\n", flag.substr(2), ": ",
                                        flag == "--port" ? word : Quoted(word), "\n");
  std::vector<Problem> problems;
  const auto root = ReadYaml(text, &problems);
  Reporter reporter(text);
  if (root.has_value()) MapYaml(*root, &options->subject.emplace(), &reporter);
  problems.insert(problems.end(), reporter.problems().begin(), reporter.problems().end());
  if (!problems.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(flag, " ", word, " names no processes:\n",
                                                   RenderProblems("flags", text, problems)));
  }
  const Descriptor* kind = KindMessage(options->kind);
  Say({{"subject"}, kind->FindFieldByName("subject")}, kGivenSubject, said);
  return absl::OkStatus();
}

// A ramp that is longer than the fault would never end.
absl::Status CheckWithinDuration(const v1::Fault& fault, absl::Duration duration) {
  const auto* arm = fault.GetReflection()->GetOneofFieldDescriptor(
      fault, fault.GetDescriptor()->FindOneofByName("kind"));
  const Message& kind = fault.GetReflection()->GetMessage(fault, arm);
  for (int i = 0; i < kind.GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor* field = kind.GetDescriptor()->field(i);
    if (!RuleOf(field).within_duration() || !kind.GetReflection()->HasField(kind, field)) continue;
    const absl::Duration length = FromProto(static_cast<const google::protobuf::Duration&>(
        kind.GetReflection()->GetMessage(kind, field)));
    if (length <= duration) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("--", Kebab(KeyName(field)), " ", firedrill::FormatDuration(length),
                     " is longer than the fault itself, which ends after ",
                     firedrill::FormatDuration(duration), " (--duration)"));
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::Fault> ReadFault(const std::string& text) {
  std::vector<Problem> problems;
  const auto root = ReadYaml(text, &problems);
  Reporter reporter(text);
  v1::Fault fault;
  if (root.has_value()) MapYaml(*root, &fault, &reporter);
  if (root.has_value()) CheckTexts(fault, &reporter);
  problems.insert(problems.end(), reporter.problems().begin(), reporter.problems().end());
  if (root.has_value() && problems.empty()) return fault;
  return absl::InvalidArgumentError(
      absl::StrCat("these flags make no fault:\n", RenderProblems("flags", text, problems)));
}

}  // namespace

std::string KebabOf(const std::string& kind) { return Kebab(kind); }

bool IsOnTheWire(const std::string& kind) {
  return HasFlag(FlagsOf(KindMessage(kind)), "--listen");
}

bool IsOnProcesses(const std::string& kind) {
  return HasFlag(FlagsOf(KindMessage(kind)), "--subject");
}

absl::StatusOr<InjectOptions> ParseInject(const std::vector<std::string>& words) {
  InjectOptions options;
  if (words.empty() || words[0] == "--help" || words[0] == "-h") {
    options.help = true;
    return options;
  }
  if (absl::StartsWith(words[0], "-")) {
    return absl::InvalidArgumentError(
        absl::StrCat("inject ", words[0], ": name the fault first, as in: firedrill inject ",
                     "delay-queries; firedrill faults lists all"));
  }
  const auto* kinds = v1::Fault::descriptor()->FindOneofByName("kind");
  std::vector<std::string> known;
  for (int i = 0; i < kinds->field_count(); ++i) {
    known.push_back(Kebab(kinds->field(i)->json_name()));
    if (known.back() == words[0] || kinds->field(i)->json_name() == words[0]) {
      options.kind = kinds->field(i)->json_name();
    }
  }
  if (options.kind.empty()) {
    const std::string near = NearestOf(words[0], known);
    return absl::InvalidArgumentError(
        absl::StrCat("there is no fault ", words[0],
                     near.empty() ? "." : absl::StrCat("; did you mean ", near, "?"),
                     " There are: ", absl::StrJoin(known, ", ")));
  }
  const std::vector<Flag> flags = FlagsOf(KindMessage(options.kind));
  std::string seed;
  // To other kinds --cgroup may mean something else.
  const bool on_processes = HasFlag(flags, "--subject");
  std::map<std::string, std::string*> own = {{"--duration", &options.duration},
                                             {"--site", &options.site},
                                             {"--node", &options.node},
                                             {"--state-dir", &options.state_dir},
                                             {"--upstream", &options.upstream},
                                             {"--protocol", &options.protocol},
                                             {"--seed", &seed}};
  std::map<std::string, std::string> ways;
  if (on_processes) {
    for (const std::string& flag : SubjectFlags()) own[flag] = &ways[flag];
  }
  Said said;
  std::set<std::string> given;
  for (size_t i = 1; i < words.size(); ++i) {
    const std::vector<std::string> sides = absl::StrSplit(words[i], absl::MaxSplits('=', 1));
    const std::string& name = sides[0];
    if (name == "--help" || name == "-h") {
      options.help = true;
      return options;
    }
    if (name == "--no-color") {
      options.no_color = true;
      continue;
    }
    const auto flag = std::find_if(flags.begin(), flags.end(),
                                   [&](const Flag& one) { return one.Name() == name; });
    const auto ours = own.find(name);
    // A kind's own key goes before a flag of ours of the same name.
    const bool is_own = ours != own.end() && (flag == flags.end() || name == "--protocol");
    const bool is_match = name == "--match";
    if (flag == flags.end() && !is_own && !is_match) return UnknownFlag(name, flags);
    std::string value;
    if (sides.size() == 2) {
      value = sides[1];
    } else if (flag != flags.end() && flag->field->cpp_type() == FieldDescriptor::CPPTYPE_BOOL) {
      value = "true";
    } else if (i + 1 < words.size()) {
      value = words[++i];
    } else {
      return absl::InvalidArgumentError(absl::StrCat(name, " needs a value"));
    }
    // Of two values one would be dropped; lists grow, and each --match may say another key.
    const bool grows = is_match || (!is_own && flag->field->is_repeated());
    if (!grows && !given.insert(name).second) {
      return GivenTwice(name, value);
    }
    if (is_own) {
      *ours->second = value;
    } else if (is_match) {
      RETURN_IF_ERROR(SayMatch(value, flags, &given, &said));
    } else {
      Say(*flag, value, &said);
    }
  }
  if (options.protocol.empty()) {
    options.protocol = UsualProtocol(options.upstream);
    options.protocol_by_port = !options.protocol.empty();
  }
  const bool profile_said = said.keys.count("profile") > 0;
  // Where a kind has a protocol of its own it is both.
  for (const Flag& flag : flags) {
    if (flag.Name() == "--protocol" && !options.protocol.empty()) {
      Say(flag, options.protocol, &said);
    }
    if (flag.Name() == "--profile" && !options.upstream.empty()) Say(flag, "upstream", &said);
  }
  RETURN_IF_ERROR(CheckServer(options, flags, profile_said));
  std::erase_if(ways, [](const auto& way) { return way.second.empty(); });
  if (on_processes) RETURN_IF_ERROR(CheckSubject(ways, &options, &said));
  const std::string body = Render(said, 2);
  ASSIGN_OR_RETURN(options.fault, ReadFault(absl::StrCat(options.kind, ":",
                                                         body.empty() ? " {}\n" : "\n" + body)));
  const absl::StatusOr<absl::Duration> duration = ParseDuration(options.duration);
  if (!duration.ok() || *duration < absl::Seconds(1) || *duration > absl::Hours(1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--duration ", options.duration, ": a time from 1s to 1h, like 10m"));
  }
  RETURN_IF_ERROR(CheckWithinDuration(options.fault, *duration));
  if (!seed.empty() && (!absl::SimpleAtoi(seed, &options.seed) || options.seed == 0)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--seed ", seed, ": a whole number from 1 to ", UINT64_MAX));
  }
  return options;
}

std::string InjectHelp(const std::string& kind) {
  std::string text =
      "Runs one fault on this machine until Ctrl-C or --duration, and proves that it is gone.\n"
      "All that holds for a run holds here: lease, journal, reaper, the node's policy.\n\n";
  if (kind.empty()) {
    absl::StrAppend(&text,
                    "Usage: firedrill inject KIND [FLAGS]; firedrill inject KIND --help\n\n");
    const auto* kinds = v1::Fault::descriptor()->FindOneofByName("kind");
    for (int i = 0; i < kinds->field_count(); ++i) {
      absl::StrAppend(&text, "  ", Kebab(kinds->field(i)->json_name()), "\n      ",
                      KindOf(kinds->field(i)->message_type()).summary(), "\n");
    }
    return text;
  }
  const Descriptor* message = KindMessage(kind);
  absl::StrAppend(&text, Kebab(kind), ": ", KindOf(message).summary(),
                  "\n  ends: ", KindOf(message).ends(), "\n\nFlags:\n");
  const std::vector<Flag> flags = FlagsOf(message);
  for (const Flag& flag : flags) {
    const v1::FieldRule& rule = RuleOf(flag.field);
    absl::StrAppend(&text, "  ", flag.Name(), "\n      ", CommentOf(flag.field));
    if (flag.field->type() == FieldDescriptor::TYPE_ENUM) {
      std::vector<std::string> words;
      for (const EnumWord& word : WordsOf(flag.field)) words.push_back(word.word);
      absl::StrAppend(&text, " One of ", absl::StrJoin(words, ", "), ".");
    }
    if (!rule.unit().empty()) absl::StrAppend(&text, " In ", rule.unit(), ".");
    if (!rule.min().empty() && !rule.max().empty()) {
      absl::StrAppend(&text, " From ", rule.min(), " to ", rule.max(), ".");
    }
    if (!rule.default_value().empty()) {
      absl::StrAppend(&text, " Left out: ", rule.default_value(), ".");
    }
    absl::StrAppend(&text, "\n");
  }
  if (HasMatch(flags)) {
    absl::StrAppend(&text,
                    "  --match table=users,verb=select\n      Short for --match.tables and its "
                    "like.\n");
  }
  if (HasFlag(flags, "--listen")) {
    absl::StrAppend(&text, "  --upstream HOST:PORT --protocol ", kProtocols,
                    "\n      The server, where no profile names it. A usual port tells the "
                    "protocol: ",
                    UsualPorts(), ".\n");
  } else if (kind == "holdConnections") {
    absl::StrAppend(&text, "  --upstream HOST:PORT --protocol redis|http|tcp\n      The server, ",
                    "where no profile names it and nobody needs to log in. A usual port tells "
                    "the protocol.\n");
  }
  if (HasFlag(flags, "--subject")) {
    absl::StrAppend(&text, "  ", absl::StrJoin(SubjectFlags(), ", "),
                    "\n      The processes, where no subject of a site file names them.\n");
  }
  absl::StrAppend(
      &text,
      "  --duration 1h\n      At most so long; an hour at the most.\n"
      "  --seed NUMBER\n      Every choice by chance is drawn from it; else a new one, which is "
      "printed.\n"
      "  --site FILE --node NAME\n      The node's own file, with its profiles and its policy; "
      "which "
      "of its nodes.\n"
      "  --state-dir FOLDER --no-color\n      As in firedrill run.\n");
  return text;
}

namespace {

std::string YamlValue(const Message& message, const FieldDescriptor* field, int index) {
  const auto* reflection = message.GetReflection();
  const bool list = index >= 0;
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_STRING:
      return Quoted(list ? reflection->GetRepeatedString(message, field, index)
                         : reflection->GetString(message, field));
    case FieldDescriptor::CPPTYPE_BOOL:
      return (list ? reflection->GetRepeatedBool(message, field, index)
                   : reflection->GetBool(message, field))
                 ? "true"
                 : "false";
    case FieldDescriptor::CPPTYPE_UINT32:
      return absl::StrCat(list ? reflection->GetRepeatedUInt32(message, field, index)
                               : reflection->GetUInt32(message, field));
    case FieldDescriptor::CPPTYPE_UINT64:
      return absl::StrCat(reflection->GetUInt64(message, field));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return absl::StrCat(list ? reflection->GetRepeatedDouble(message, field, index)
                               : reflection->GetDouble(message, field));
    case FieldDescriptor::CPPTYPE_ENUM: {
      const int number = list ? reflection->GetRepeatedEnumValue(message, field, index)
                              : reflection->GetEnumValue(message, field);
      for (const EnumWord& word : WordsOf(field)) {
        if (word.value->number() == number) return word.word;
      }
      return "";
    }
    default:
      return "";
  }
}

}  // namespace

std::string ToYaml(const Message& message, int indent) {
  std::string text;
  const std::string space(static_cast<size_t>(indent), ' ');
  const auto* reflection = message.GetReflection();
  std::vector<const FieldDescriptor*> fields;
  reflection->ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    if (RuleOf(field).inline_()) {
      absl::StrAppend(&text, ToYaml(reflection->GetMessage(message, field), indent));
      continue;
    }
    absl::StrAppend(&text, space, KeyName(field), ":");
    if (field->is_map()) {
      absl::StrAppend(&text, "\n");
      for (int i = 0; i < reflection->FieldSize(message, field); ++i) {
        const Message& entry = reflection->GetRepeatedMessage(message, field, i);
        const Descriptor* type = entry.GetDescriptor();
        absl::StrAppend(&text, space, "  ", YamlValue(entry, type->map_key(), -1), ": ",
                        YamlValue(entry, type->map_value(), -1), "\n");
      }
    } else if (field->is_repeated()) {
      absl::StrAppend(&text, "\n");
      for (int i = 0; i < reflection->FieldSize(message, field); ++i) {
        if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) {
          absl::StrAppend(&text, space, "  - ", YamlValue(message, field, i), "\n");
          continue;
        }
        std::string entry = ToYaml(reflection->GetRepeatedMessage(message, field, i), indent + 4);
        // The first line takes the dash in front of it.
        if (!entry.empty()) entry[static_cast<size_t>(indent) + 2] = '-';
        absl::StrAppend(&text, entry);
      }
    } else if (IsDuration(field)) {
      const auto& duration =
          static_cast<const google::protobuf::Duration&>(reflection->GetMessage(message, field));
      absl::StrAppend(&text, " ", firedrill::FormatDuration(FromProto(duration)), "\n");
    } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      const std::string inner = ToYaml(reflection->GetMessage(message, field), indent + 2);
      absl::StrAppend(&text, inner.empty() ? " {}\n" : "\n", inner);
    } else {
      absl::StrAppend(&text, " ", YamlValue(message, field, -1), "\n");
    }
  }
  return text;
}

}  // namespace firedrill
