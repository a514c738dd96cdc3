// Walks the vocabulary along a path and writes down what stands there.
#include "experiment/explain.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/text.h"
#include "experiment/scalar.h"
#include "experiment/vocabulary.h"
#include "firedrill/v1/daemon.pb.h"
#include "firedrill/v1/experiment.pb.h"
#include "firedrill/v1/site.pb.h"

namespace firedrill {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;

constexpr size_t kWidth = 92;
constexpr size_t kMaxPathParts = 16;
// Suggestions to choose from.
constexpr size_t kMostMeant = 3;

const Descriptor* RootOf(absl::string_view name) {
  if (absl::EqualsIgnoreCase(name, "experiment")) return v1::Experiment::descriptor();
  if (absl::EqualsIgnoreCase(name, "site")) return v1::Site::descriptor();
  if (absl::EqualsIgnoreCase(name, "controller")) return v1::Controller::descriptor();
  if (absl::EqualsIgnoreCase(name, "injector")) return v1::Injector::descriptor();
  return nullptr;
}

// Words of `text` in lines of at most kWidth, each behind `indent` blanks.
std::string Wrap(absl::string_view text, size_t indent) {
  std::string out, line(indent, ' ');
  for (absl::string_view word : absl::StrSplit(text, ' ', absl::SkipEmpty())) {
    if (line.size() > indent && line.size() + 1 + word.size() > kWidth) {
      absl::StrAppend(&out, line, "\n");
      line.assign(indent, ' ');
    }
    absl::StrAppend(&line, line.size() > indent ? " " : "", word);
  }
  if (line.size() > indent) absl::StrAppend(&out, line, "\n");
  return out;
}

bool IsMapping(const FieldDescriptor* field) {
  return field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE && !field->is_map() &&
         !IsDuration(field);
}

std::string TypeOf(const FieldDescriptor* field) {
  if (field->is_map()) {
    return absl::StrCat("a mapping from text to ", TypeWords(field->message_type()->map_value()));
  }
  if (field->is_repeated()) {
    if (IsMapping(field)) return "a list of mappings";
    return field->cpp_type() == FieldDescriptor::CPPTYPE_STRING ? "a list of texts" : "a list";
  }
  if (field->cpp_type() == FieldDescriptor::CPPTYPE_ENUM) {
    std::vector<std::string> words;
    for (const EnumWord& word : WordsOf(field)) words.push_back(word.word);
    return words.size() == 1 ? words[0] : absl::StrCat("one of ", absl::StrJoin(words, ", "));
  }
  return TypeWords(field);
}

// What a text names or is written in.
std::string MeaningOf(const std::string& refers_to) {
  static const auto* const words = new std::vector<std::pair<std::string, std::string>>{
      {"target", "the name of a target"},
      {"load", "the name of a load"},
      {"request", "the name of a request of that load"},
      {"steadyState", "the name of a steady-state check"},
      {"anchor", "an anchor: <fault>.start, .reached or .end, <remedy>.done"},
      {"endpoint", "the name of an endpoint of the site"},
      {"profile", "the name of a profile of the node"},
      {"subject", "the name of a subject of the node"},
      {"program", "the name of a program of the node"},
      {"statement", "the name of a statement of the profile"},
      {"remedyStatement", "the name of a remedy statement of the profile"},
      {"values", "the name of a value file of the node"},
      {"receiver", "the name of a webhook receiver of the site"},
      {"condition", "comparisons: \"ok >= 99%, p95 < 250ms\"; a comma means and"},
      {"matcher", "a Prometheus matcher: 'severity=\"page\"', with =, !=, =~ or !~"},
      {"cron", "five fields: minute, hour, day of month, month, day of week"},
      {"timeZone", "an IANA name: Europe/Berlin"},
      {"regex", "a regular expression as RE2 reads it"},
      {"verb", "the first word of a statement, a command or a request: select, get, POST"},
      {"template", "{name} stands for a value"},
      {"faultKind", "a kind of fault: holdConnections"},
      {"remedyKind", "a kind of remedy: runProgram"},
      {"loadKind", "a kind of load: sendRequests"},
      {"magnitude", "a magnitude: holdConnections.count"},
  };
  for (const auto& [name, meaning] : *words) {
    if (name == refers_to) return meaning;
  }
  return "";
}

// "required", "5s when left out", bounds, patterns: one line each.
std::vector<std::string> RulesOf(const FieldDescriptor* field) {
  const v1::FieldRule& rule = RuleOf(field);
  std::vector<std::string> lines;
  if (rule.required()) lines.push_back("required");
  if (!rule.default_value().empty()) lines.push_back(rule.default_value() + " when left out");
  const std::string unit = rule.unit().empty() ? "" : " " + rule.unit();
  if (!rule.min().empty() && !rule.max().empty()) {
    lines.push_back(absl::StrCat("from ", rule.min(), " to ", rule.max(), unit));
  } else if (!rule.min().empty()) {
    lines.push_back(absl::StrCat("at least ", rule.min(), unit));
  } else if (!rule.max().empty()) {
    lines.push_back(absl::StrCat("at most ", rule.max(), unit));
  } else if (!unit.empty()) {
    lines.push_back("in" + unit);
  }
  if (!rule.pattern().empty()) lines.push_back(PatternWords(rule.pattern()));
  if (rule.max_size() > 0) {
    lines.push_back(absl::StrCat("at most ", rule.max_size(),
                                 field->is_repeated() ? " entries" : " characters"));
  }
  const std::string meaning = MeaningOf(rule.refers_to());
  if (!meaning.empty()) lines.push_back(meaning);
  if (rule.within_duration()) lines.push_back("not longer than the step's duration");
  if (rule.secret()) lines.push_back("says where a secret is found; never the secret itself");
  if (rule.magnitude()) lines.push_back("a node's policy may bound it");
  return lines;
}

std::string SummaryOf(const FieldDescriptor* field) {
  if (IsMapping(field) && !KindOf(field->message_type()).summary().empty()) {
    return KindOf(field->message_type()).summary();
  }
  return CommentOf(field);
}

void AddKeys(const Descriptor* message, std::string* out) {
  const std::vector<Key> keys = KeysOf(message);
  size_t width = 0;
  for (const Key& key : keys) width = std::max(width, key.name.size());
  absl::StrAppend(out, "\nkeys\n");
  for (const Key& key : keys) {
    std::string type = IsDuration(key.field) ? "a duration" : TypeOf(key.field);
    if (RuleOf(key.field).required()) absl::StrAppend(&type, ", required");
    if (!RuleOf(key.field).default_value().empty() && RuleOf(key.field).default_value() != type) {
      absl::StrAppend(&type, ", ", RuleOf(key.field).default_value(), " when left out");
    }
    absl::StrAppend(out, "  ", key.name, std::string(width - key.name.size() + 2, ' '), type, "\n",
                    Wrap(SummaryOf(key.field), width + 4));
  }
  for (const Choice& choice : ChoicesOf(message)) {
    if (choice.keys.size() == 1) continue;
    absl::StrAppend(out, Wrap("Exactly one of " + absl::StrJoin(choice.keys, ", ") + ".", 2));
  }
  for (const auto& group : NeededGroupsOf(message)) {
    absl::StrAppend(out, Wrap("At least one of " + absl::StrJoin(group, ", ") + ".", 2));
  }
  for (int i = 0; i < message->options().ExtensionSize(v1::unfit); ++i) {
    const v1::Unfit& unfit = message->options().GetExtension(v1::unfit, i);
    absl::StrAppend(out, Wrap(absl::StrCat("Not with '", unfit.when(),
                                           "': ", absl::StrJoin(unfit.never(), ", "), "."),
                              2));
  }
}

std::string EndingWords(v1::Ending ending) {
  switch (ending) {
    case v1::ENDING_ONE_SHOT:
      return "happens once";
    case v1::ENDING_DIES_WITH_PROCESS:
      return "dies with the process";
    case v1::ENDING_EXPIRES:
      return "expires by itself";
    case v1::ENDING_JOURNALLED:
      return "journalled";
    default:
      return "";
  }
}

void AddKind(const v1::KindRule& kind, const std::vector<MeasuredField>& fields, std::string* out) {
  if (!kind.ends().empty()) {
    absl::StrAppend(out, "\nhow it ends: ", EndingWords(kind.ending()), "\n", Wrap(kind.ends(), 2));
    absl::StrAppend(out, "\nseveral of them\n",
                    Wrap("One at a time on a node through one profile: each would measure the "
                         "other's work as its own, so `plan` refuses it. Faults of other kinds, "
                         "nodes or profiles may be on meanwhile.",
                         2));
  }
  if (!fields.empty()) {
    absl::StrAppend(out, "\nfields for 'is'\n");
    size_t width = 0;
    for (const MeasuredField& field : fields) width = std::max(width, field.name.size());
    for (const MeasuredField& field : fields) {
      absl::StrAppend(out, "  ", field.name, std::string(width - field.name.size() + 2, ' '),
                      field.meaning, "\n");
    }
  }
  for (const std::string& example : ExamplesOf(kind)) {
    absl::StrAppend(out, "\nexample\n");
    for (absl::string_view line : absl::StrSplit(example, '\n', absl::SkipEmpty())) {
      absl::StrAppend(out, "  ", line, "\n");
    }
  }
}

// What each probe, and each load, has for `is`.
void AddMeasuredFields(const Descriptor* kinds, absl::string_view prefix, std::string* out) {
  for (int i = 0; i < kinds->field_count(); ++i) {
    const FieldDescriptor* kind = kinds->field(i);
    if (!IsMapping(kind)) continue;
    for (const MeasuredField& field : MeasuredFieldsOf(kind->message_type())) {
      absl::StrAppend(
          out, Wrap(absl::StrCat(prefix, KeyName(kind), "  ", field.name, ": ", field.meaning), 2));
    }
  }
}

std::string ExplainField(const FieldDescriptor* field) {
  std::string out;
  const bool mapping = IsMapping(field);
  absl::StrAppend(&out, Wrap(SummaryOf(field), 2));
  if (mapping && KindOf(field->message_type()).summary().empty()) {
    absl::StrAppend(&out, Wrap(CommentOf(field->message_type()), 2));
  }
  absl::StrAppend(&out, "\ntype   ", TypeOf(field), "\n");
  const std::vector<std::string> rules = RulesOf(field);
  for (size_t i = 0; i < rules.size(); ++i) {
    absl::StrAppend(&out, i == 0 ? "rules  " : "       ", rules[i], "\n");
  }
  if (field->cpp_type() == FieldDescriptor::CPPTYPE_ENUM) {
    absl::StrAppend(&out, "\nvalues\n");
    for (const EnumWord& word : WordsOf(field)) {
      absl::StrAppend(&out, "  ", word.word, "\n", Wrap(CommentOf(word.value), 6));
    }
  }
  if (RuleOf(field).refers_to() == "condition") {
    absl::StrAppend(&out, "\nfields\n");
    AddMeasuredFields(v1::Probe::descriptor(), "", &out);
    AddMeasuredFields(v1::Load::descriptor(), "load of ", &out);
    absl::StrAppend(&out, "A comparison without a field is on 'value'.\n");
  }
  if (mapping) {
    AddKeys(field->message_type(), &out);
    AddKind(KindOf(field->message_type()), MeasuredFieldsOf(field->message_type()), &out);
  }
  return out;
}

void AddPaths(const Descriptor* message, const std::string& path, std::vector<std::string>* paths) {
  paths->push_back(path);
  for (const Key& key : KeysOf(message)) {
    const std::string below = absl::StrCat(path, ".", key.name);
    if (IsMapping(key.field))
      AddPaths(key.field->message_type(), below, paths);
    else
      paths->push_back(below);
  }
}

std::string LastPart(const std::string& path) { return path.substr(path.rfind('.') + 1); }

// Of the paths under `root` ("" for all of them) those that end with the key `last`, or else with
// the one that is nearest to it: what somebody means who has left out, or misspelt, the way there.
std::vector<std::string> PathsTo(const std::string& last, const std::string& root) {
  std::vector<std::string> below, keys;
  for (const std::string& path : ExplainablePaths()) {
    if (!root.empty() && !absl::StartsWith(path, root + ".")) continue;
    below.push_back(path);
    keys.push_back(LastPart(path));
  }
  const bool exact = std::find(keys.begin(), keys.end(), last) != keys.end();
  const std::string key = exact ? last : NearestOf(last, keys);
  std::vector<std::string> found;
  for (const std::string& path : below) {
    if (!key.empty() && LastPart(path) == key) found.push_back(path);
  }
  // What lies less deep is more often meant.
  std::stable_sort(found.begin(), found.end(), [](const std::string& a, const std::string& b) {
    return std::count(a.begin(), a.end(), '.') < std::count(b.begin(), b.end(), '.');
  });
  if (found.size() > kMostMeant) found.resize(kMostMeant);
  return found;
}

// `root`: the definition that the path begins with; empty where it begins with none.
absl::Status NotKnown(absl::string_view what, const std::string& where, const std::string& last,
                      const std::string& root) {
  const std::vector<std::string> meant = PathsTo(last, root);
  return absl::NotFoundError(
      absl::StrCat("there is no key '", what, "' in ", where,
                   meant.empty() ? "" : "; did you mean " + absl::StrJoin(meant, " or ") + "?"));
}

}  // namespace

absl::StatusOr<std::string> Explain(absl::string_view path) {
  std::vector<std::string> parts;
  for (absl::string_view part : absl::StrSplit(path, '.')) {
    parts.emplace_back(part.substr(0, part.find('[')));
  }
  if (parts.size() > kMaxPathParts) return absl::NotFoundError("no key lies so deep");
  const Descriptor* message = RootOf(parts[0]);
  if (message == nullptr) {
    return NotKnown(path,
                    "the vocabulary (a path begins with experiment, site, controller or injector)",
                    parts.back(), "");
  }
  const FieldDescriptor* field = nullptr;
  std::string where = absl::AsciiStrToLower(parts[0]);
  for (size_t i = 1; i < parts.size(); ++i) {
    std::vector<std::string> names;
    const FieldDescriptor* next = nullptr;
    if (message != nullptr) {
      for (const Key& key : KeysOf(message)) {
        names.push_back(key.name);
        if (key.name == parts[i]) next = key.field;
      }
    }
    if (next == nullptr) {
      const std::string nearest = NearestOf(parts[i], names);
      if (nearest.empty()) {
        return NotKnown(parts[i], where, parts.back(), absl::AsciiStrToLower(parts[0]));
      }
      return absl::NotFoundError(absl::StrCat("there is no key '", parts[i], "' in ", where,
                                              "; did you mean ", where, ".", nearest, "?"));
    }
    field = next;
    message = IsMapping(field) ? field->message_type() : nullptr;
    absl::StrAppend(&where, ".", parts[i]);
  }
  std::string out = absl::StrCat(where, "\n");
  if (field != nullptr) return out + ExplainField(field);
  absl::StrAppend(&out, Wrap(CommentOf(message), 2));
  AddKeys(message, &out);
  return out;
}

std::vector<std::string> ExplainablePaths() {
  std::vector<std::string> paths;
  AddPaths(v1::Experiment::descriptor(), "experiment", &paths);
  AddPaths(v1::Site::descriptor(), "site", &paths);
  AddPaths(v1::Controller::descriptor(), "controller", &paths);
  AddPaths(v1::Injector::descriptor(), "injector", &paths);
  return paths;
}

}  // namespace firedrill
