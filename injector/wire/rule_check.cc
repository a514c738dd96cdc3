// What each protocol has.
#include "injector/wire/rule_check.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/server_error.h"

namespace firedrill::wire {
namespace {

absl::Status Wrong(absl::string_view key, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat("`", key, "` ", why));
}

absl::Status CheckMatch(v1::Protocol protocol, const v1::QueryMatch& match) {
  if (protocol != v1::PROTOCOL_POSTGRESQL && !match.fingerprint().empty()) {
    return Wrong("fingerprint", "is known of PostgreSQL's statements only; match by `regex`");
  }
  if (!match.fingerprint().empty() &&
      (match.fingerprint().size() != 16 ||
       match.fingerprint().find_first_not_of("0123456789abcdef") != std::string::npos)) {
    return Wrong("fingerprint",
                 "is not 16 hexadecimal digits; `firedrill fingerprint` prints them");
  }
  if (protocol == v1::PROTOCOL_HTTP && !(match.user().empty() && match.database().empty())) {
    return Wrong(match.user().empty() ? "database" : "user",
                 "is not known of an HTTP request; leave it out");
  }
  if (protocol == v1::PROTOCOL_HTTP || protocol == v1::PROTOCOL_REDIS) {
    for (const std::string& verb : match.verbs()) {
      if (!absl::EqualsIgnoreCase(verb, "connect")) continue;
      return Wrong("verbs", "has `connect`, which this protocol does not ask for");
    }
  }
  for (const std::string& table : match.tables()) {
    if (table.empty()) return Wrong("tables", "has an empty name; leave it out");
  }
  // Also false for what is no number.
  if (!(match.share() >= 0 && match.share() <= 1)) {
    return Wrong("share", absl::StrCat("of ", match.share(), " is not between 0 and 1"));
  }
  return absl::OkStatus();
}

absl::Status CheckError(v1::Protocol protocol, const std::string& error) {
  const std::string why = WhyNoError(protocol, error);
  if (why.empty()) return absl::OkStatus();
  return Wrong("error", absl::StrCat(error, " ", why, "; write ", ErrorAdvice(protocol, error)));
}

}  // namespace

absl::Status CheckRule(v1::Protocol protocol, const Rule& rule) {
  if (protocol == v1::PROTOCOL_UNSPECIFIED || protocol == v1::PROTOCOL_TCP) {
    return absl::InvalidArgumentError(
        "there are no requests in bytes that nobody looks into; name the protocol, or delay bytes");
  }
  if (!rule.delay.has_value() && !rule.failure.has_value()) {
    return absl::InvalidArgumentError("has neither a delay nor a failure");
  }
  if (absl::Status status = CheckMatch(protocol, rule.match); !status.ok()) return status;
  if (!rule.failure.has_value()) return absl::OkStatus();
  if (rule.failure->how_case() == v1::QueryFailure::HOW_NOT_SET) {
    return absl::InvalidArgumentError("fails in no way: give one of `error`, `cutAfter`");
  }
  if (rule.failure->how_case() == v1::QueryFailure::kCutAfter) return absl::OkStatus();
  return CheckError(protocol, rule.failure->error());
}

}  // namespace firedrill::wire
