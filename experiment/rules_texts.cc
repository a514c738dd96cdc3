// Unique names, and the small languages that some texts are written in.
#include <arpa/inet.h>

#include <map>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/civil_time.h"
#include "absl/time/time.h"
#include "base/text.h"
#include "experiment/address.h"
#include "experiment/cron.h"
#include "experiment/matcher.h"
#include "experiment/rules.h"
#include "experiment/verbs.h"
#include "experiment/vocabulary.h"
#include "experiment/walk.h"
#include "experiment/zone.h"
#include "re2/re2.h"

namespace firedrill {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

void CheckTimeZone(const std::string& name, const std::string& path, Reporter* reporter) {
  const absl::Status loads = LoadZone(name).status();
  if (loads.ok()) return;
  reporter->AtValue(path, std::string(loads.message()),
                    "write an IANA name such as Europe/Berlin or UTC; the zones are in the "
                    "package tzdata");
}

void CheckDate(const std::string& text, const std::string& path, Reporter* reporter) {
  absl::CivilDay day;
  if (absl::ParseCivilTime(text, &day)) return;
  reporter->AtValue(path, absl::StrCat("'", text, "' is no day of the calendar"));
}

std::string RegexAdvice(RE2::ErrorCode code) {
  switch (code) {
    case RE2::ErrorMissingParen:
    case RE2::ErrorUnexpectedParen:
      return "each ( needs its ); write \\( and \\) for the characters themselves";
    case RE2::ErrorMissingBracket:
      return "close it with ]; write \\[ for the character itself";
    case RE2::ErrorRepeatArgument:
    case RE2::ErrorRepeatOp:
      return "write something in front of it, or \\*, \\+, \\? for the character itself";
    case RE2::ErrorBadPerlOp:
      return "RE2 looks neither ahead nor behind; say it with less";
    case RE2::ErrorBadEscape:
      return "RE2 has neither back-references nor this escape; write \\\\ for a backslash itself";
    case RE2::ErrorRepeatSize:
    case RE2::ErrorPatternTooLarge:
      return "repeat less: at most 1000 times, all in all";
    default:
      return "write it as RE2 reads it: https://github.com/google/re2/wiki/Syntax";
  }
}

// As whoever matches by it compiles it.
void CheckRegex(const std::string& text, const std::string& path, Reporter* reporter) {
  RE2::Options options;
  options.set_log_errors(false);
  const RE2 regex(text, options);
  if (regex.ok()) return;
  const size_t at = text.find(regex.error_arg());
  reporter->Inside(path, text, at == std::string::npos ? 0 : at,
                   absl::StrCat("not a regular expression: ", regex.error()),
                   RegexAdvice(regex.error_code()));
}

// No name: where a fault listens must not hang on what a name means just then.
void CheckListenAddress(const std::string& text, const std::string& path, Reporter* reporter) {
  const absl::StatusOr<Address> address = ParseListenAddress(text);
  if (!address.ok()) return reporter->AtValue(path, std::string(address.status().message()));
  in6_addr any;
  if (inet_pton(AF_INET, address->host.c_str(), &any) == 1) return;
  if (inet_pton(AF_INET6, address->host.c_str(), &any) == 1) return;
  reporter->AtValue(path, absl::StrCat("'", address->host, "' is no address"),
                    "write one such as 127.0.0.1 or [::1]");
}

void CheckText(const FieldDescriptor* field, const std::string& path, const std::string& text,
               Reporter* reporter) {
  const std::string& language = RuleOf(field).refers_to();
  size_t offset = 0;
  if (language == "matcher") {
    absl::StatusOr<Matcher> matcher = ParseMatcher(text, &offset);
    if (matcher.ok()) return;
    reporter->Inside(path, text, offset,
                     absl::StrCat("not a matcher: ", matcher.status().message()),
                     "write 'severity=\"page\"', with =, !=, =~ or !~");
  } else if (language == "cron") {
    absl::StatusOr<Cron> cron = ParseCron(text, &offset);
    if (cron.ok()) return;
    reporter->Inside(path, text, offset, std::string(cron.status().message()),
                     "\"0 10 * * 2\" is every Tuesday at 10:00");
  } else if (language == "regex") {
    CheckRegex(text, path, reporter);
  } else if (language == "verb") {
    if (IsVerb(text)) return;
    reporter->AtValue(path,
                      absl::StrCat("no statement, command or request begins with '", text,
                                   "', as far as is known"),
                      VerbAdvice(text));
  } else if (language == "listenAddress") {
    CheckListenAddress(text, path, reporter);
  } else if (language == "timeZone") {
    CheckTimeZone(text, path, reporter);
  } else if (language == "date") {
    CheckDate(text, path, reporter);
  } else if (language == "url") {
    absl::StatusOr<Address> address = ParseUrl(text);
    if (address.ok()) return;
    const std::string message = absl::StrCat("'", path, "': ", address.status().message());
    // What stands in front of an @ may be a password.
    if (absl::StrContains(text, "@"))
      reporter->AtSecret(path, message);
    else
      reporter->AtValue(path, message);
  }
}

void CheckUniqueNames(const FieldDescriptor* list, const Message& owner, const std::string& path,
                      Reporter* reporter) {
  const FieldDescriptor* name = list->message_type()->FindFieldByName("name");
  if (name == nullptr) return;
  std::map<std::string, std::string> first;
  for (int i = 0; i < owner.GetReflection()->FieldSize(owner, list); ++i) {
    const Message& item = owner.GetReflection()->GetRepeatedMessage(owner, list, i);
    const std::string text = item.GetReflection()->GetString(item, name);
    const std::string name_path = JoinPath(ItemPath(path, i), "name");
    if (text.empty()) continue;
    auto [it, is_new] = first.emplace(text, name_path);
    if (is_new) continue;
    reporter->AtValue(name_path,
                      absl::StrCat("the name '", text, "' is used twice in '", path, "'"),
                      absl::StrCat("it stands in line ", reporter->LineOf(it->second), " already"));
  }
}

}  // namespace

void CheckTexts(const Message& definition, Reporter* reporter) {
  ForEachText(definition, "",
              [&](const FieldDescriptor* field, const Message&, const std::string& path,
                  const std::string& text) {
                if (!reporter->HasProblem(path)) CheckText(field, path, text, reporter);
              });
  ForEachList(definition, "",
              [&](const FieldDescriptor* field, const Message& owner, const std::string& path) {
                CheckUniqueNames(field, owner, path, reporter);
              });
}

std::string NamesAdvice(const std::string& name, const std::vector<std::string>& known) {
  if (known.empty()) return "there is none";
  const std::string nearest = NearestOf(name, known);
  if (!nearest.empty()) return absl::StrCat("did you mean '", nearest, "'?");
  return absl::StrCat(known.size() == 1 ? "there is only " : "there are ", JoinWords(known));
}

}  // namespace firedrill
