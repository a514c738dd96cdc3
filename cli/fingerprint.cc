// `firedrill fingerprint`: a statement's fingerprint, by the code that matches live traffic.
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "cli/commands.h"
#include "injector/wire/codec.h"
#include "injector/wire/sql_facts.h"

namespace firedrill {
namespace {

// Somewhat more than what can have a fingerprint.
constexpr size_t kMostRead = 2 * wire::kMaxText;

absl::StatusOr<std::string> ReadInput() {
  std::string text;
  char bytes[4096];
  while (text.size() < kMostRead) {
    const size_t count = std::fread(bytes, 1, sizeof(bytes), stdin);
    if (count == 0) break;
    text.append(bytes, count);
  }
  if (std::ferror(stdin) == 0) return text;
  return absl::UnavailableError(absl::StrCat("standard input: ", std::strerror(errno)));
}

}  // namespace

int FingerprintCommand(const std::optional<std::string>& statement) {
  const absl::StatusOr<std::string> text = statement.has_value() ? *statement : ReadInput();
  const absl::StatusOr<std::string> fingerprint =
      text.ok() ? wire::FingerprintOf(*text) : text.status();
  if (!fingerprint.ok()) {
    std::fprintf(stderr, "firedrill: fingerprint: %s\n",
                 std::string(fingerprint.status().message()).c_str());
    return kUsageError;
  }
  std::printf("%s\n", fingerprint->c_str());
  return 0;
}

}  // namespace firedrill
