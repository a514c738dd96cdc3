// How the servers of each protocol number their errors.
#include "base/server_error.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace firedrill {
namespace {

// The same misfortune, as each protocol calls it; "" where it has none. In the order of kKinds.
constexpr const char* kSame[][4] = {
    {"53300", "1040", "", "503"},          // Too many connections.
    {"55P03", "1205", "", ""},             // A lock was waited for in vain.
    {"40P01", "1213", "", ""},             // Deadlock.
    {"57014", "1317", "", ""},             // Cancelled.
    {"57P01", "1053", "", ""},             // The server is shutting down.
    {"57P03", "", "LOADING", "503"},       // It is starting.
    {"25006", "1290", "READONLY", ""},     // Read-only.
    {"53200", "1041", "OOM", ""},          // Out of memory.
    {"28P01", "1045", "WRONGPASS", "401"}  // The wrong password.
};

struct Kind {
  v1::Protocol protocol;
  const char* name;
  const char* none;
  const char* advice;
};
constexpr Kind kKinds[] = {
    {v1::PROTOCOL_POSTGRESQL, "PostgreSQL", "is no SQLSTATE of an error",
     "one of five digits and letters, such as 57014"},
    {v1::PROTOCOL_MYSQL, "MySQL", "is no number of a MySQL error", "one such as 1205"},
    {v1::PROTOCOL_REDIS, "Redis", "is not the first word of a Redis error", "one such as LOADING"},
    {v1::PROTOCOL_HTTP, "HTTP", "is no HTTP status of a failure", "one between 400 and 599"}};

const Kind* KindOf(v1::Protocol protocol) {
  const auto* const found =
      std::find_if(std::begin(kKinds), std::end(kKinds),
                   [&](const Kind& kind) { return kind.protocol == protocol; });
  return found == std::end(kKinds) ? nullptr : found;
}

bool Fits(v1::Protocol protocol, absl::string_view error) {
  const auto all = [&](auto fits) { return std::all_of(error.begin(), error.end(), fits); };
  const bool digits = all([](char c) { return absl::ascii_isdigit(c); });
  int number = 0;
  switch (protocol) {
    case v1::PROTOCOL_POSTGRESQL:
      return error.size() == 5 && !absl::StartsWith(error, "00") &&
             !absl::StartsWith(error, "01") && !absl::StartsWith(error, "02") &&
             all([](char c) { return absl::ascii_isdigit(c) || absl::ascii_isupper(c); });
    case v1::PROTOCOL_MYSQL:
      // No server has any with five digits of its own; PostgreSQL has.
      return digits && absl::SimpleAtoi(error, &number) && number >= 1000 && number <= 9999;
    case v1::PROTOCOL_REDIS:
      return !error.empty() && all([](char c) { return absl::ascii_isupper(c); });
    default:
      return digits && absl::SimpleAtoi(error, &number) && number >= 400 && number <= 599;
  }
}

}  // namespace

std::string WhyNoError(v1::Protocol protocol, absl::string_view error) {
  const Kind* const kind = KindOf(protocol);
  return kind == nullptr || Fits(protocol, error) ? "" : kind->none;
}

std::string ErrorAdvice(v1::Protocol protocol, absl::string_view error) {
  const Kind* const kind = KindOf(protocol);
  if (kind == nullptr) return "";
  for (const auto& same : kSame) {
    for (size_t i = 0; i < std::size(kKinds); ++i) {
      const absl::string_view ours = same[kind - kKinds];
      if (error.empty() || error != same[i] || ours.empty()) continue;
      return absl::StrCat(ours, ", as ", error, " is of ", kKinds[i].name);
    }
  }
  return kind->advice;
}

}  // namespace firedrill
