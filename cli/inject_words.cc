// Reads a command line, and checks what only all of it says.
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
#include "cli/inject_flags.h"
#include "cli/upstream.h"
#include "experiment/mapper.h"
#include "experiment/rules.h"
#include "experiment/vocabulary.h"
#include "experiment/writer.h"
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

absl::Status UnknownFlag(const std::string& name, const std::vector<Flag>& flags) {
  std::vector<std::string> known = kOwnFlags;
  known.push_back("--match");
  for (const Flag& flag : flags) known.push_back(flag.Name());
  const std::string near = NearestOf(name, known);
  return absl::InvalidArgumentError(absl::StrCat(
      "there is no flag ", name,
      near.empty() ? "; --help lists them" : absl::StrCat("; did you mean ", near, "?")));
}

// A flag that says nothing: as little as one that is left out.
absl::Status GivenEmpty(absl::string_view name) {
  if (name == "--match") {
    return absl::InvalidArgumentError(
        "--match is empty: write it as table=users,verb=select, or leave it out, and all requests "
        "are meant");
  }
  return absl::InvalidArgumentError(
      absl::StrCat(name, " is empty: give it a value, or leave it out"));
}

// Which server is meant, said in one of the two ways.
absl::Status CheckServer(const InjectOptions& options, const std::vector<Flag>& flags,
                         bool profile_said) {
  if (!HasFlag(flags, "--profile")) return absl::OkStatus();
  const std::string kind = KebabOf(options.kind);
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
        KebabOf(options->kind), ": which processes are meant? Add one of ", JoinWords(ways),
        ", or --subject NAME where a site file names it (--site FILE)"));
  }
  if (named || given.size() > 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(named ? "--subject" : given.rbegin()->first, " and ", given.begin()->first,
                     " both say which processes are meant: leave one out"));
  }
  const auto& [flag, word] = *given.begin();
  const std::string text = absl::StrCat("name: ", kGivenSubject, "\n", flag.substr(2), ": ",
                                        flag == "--port" ? word : QuotedYaml(word), "\n");
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
        absl::StrCat("--", KebabOf(KeyName(field)), " ", firedrill::FormatDuration(length),
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
  if (root.has_value()) {
    CheckTexts(fault, &reporter);
    CheckFault(fault, "", &reporter);
  }
  problems.insert(problems.end(), reporter.problems().begin(), reporter.problems().end());
  if (root.has_value() && problems.empty()) return fault;
  return absl::InvalidArgumentError(
      absl::StrCat("these flags make no fault:\n", RenderProblems("flags", text, problems)));
}

}  // namespace

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
    known.push_back(KebabOf(kinds->field(i)->json_name()));
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
    if (absl::StripAsciiWhitespace(value).empty()) return GivenEmpty(name);
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

}  // namespace firedrill
