// What `firedrill inject --help` says.
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "cli/inject_flags.h"
#include "cli/inject_words.h"
#include "cli/upstream.h"
#include "experiment/vocabulary.h"
#include "firedrill/v1/fault.pb.h"

namespace firedrill {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;

std::string InjectHelp(const std::string& kind) {
  std::string text =
      "Runs one fault on this machine until Ctrl-C or --duration, and proves that it is gone.\n"
      "All that holds for a run holds here: lease, journal, reaper, the node's policy.\n\n";
  if (kind.empty()) {
    absl::StrAppend(&text,
                    "Usage: firedrill inject KIND [FLAGS]; firedrill inject KIND --help\n\n");
    const auto* kinds = v1::Fault::descriptor()->FindOneofByName("kind");
    for (int i = 0; i < kinds->field_count(); ++i) {
      absl::StrAppend(&text, "  ", KebabOf(kinds->field(i)->json_name()), "\n      ",
                      KindOf(kinds->field(i)->message_type()).summary(), "\n");
    }
    return text;
  }
  const Descriptor* message = KindMessage(kind);
  absl::StrAppend(&text, KebabOf(kind), ": ", KindOf(message).summary(),
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

}  // namespace firedrill
