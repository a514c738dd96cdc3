// Reads and writes the URI by which a certificate names its holder.
#include "identity/peer.h"

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"
#include "base/text.h"

namespace firedrill {
namespace {

constexpr size_t kLongestWord = 63;

bool IsPlain(char c) {
  return absl::ascii_islower(c) || absl::ascii_isdigit(c) || c == '-' || c == '.' || c == '_';
}

}  // namespace

std::string Peer::Uri() const { return absl::StrCat("spiffe://", domain, "/", role, "/", name); }

const std::vector<std::string>& RoleWords() {
  static const auto* words = new std::vector<std::string>{
      "viewer", "author", "operator", "admin", "injector", std::string(kControllerRole)};
  return *words;
}

v1::Role RoleOf(const Peer& peer) {
  v1::Role role = v1::ROLE_UNSPECIFIED;
  (void)v1::Role_Parse(absl::StrCat("ROLE_", absl::AsciiStrToUpper(peer.role)), &role);
  return role;
}

bool May(v1::Role role, v1::Role asked) {
  if (role == v1::ROLE_UNSPECIFIED || asked == v1::ROLE_UNSPECIFIED) return false;
  if (role == v1::ROLE_INJECTOR || asked == v1::ROLE_INJECTOR) return role == asked;
  return role >= asked;
}

absl::Status CheckPlainWord(absl::string_view what, absl::string_view word) {
  if (word.empty() || word.size() > kLongestWord || !absl::c_all_of(word, IsPlain)) {
    return absl::InvalidArgumentError(absl::StrCat("the ", what, " '", word.substr(0, kLongestWord),
                                                   "' must have 1 to ", kLongestWord,
                                                   " of a-z, 0-9, '-', '.' and '_'"));
  }
  return absl::OkStatus();
}

absl::StatusOr<Peer> ParsePeer(absl::string_view uri) {
  absl::string_view rest = uri;
  const std::vector<std::string> words = absl::ConsumePrefix(&rest, "spiffe://")
                                             ? std::vector<std::string>(absl::StrSplit(rest, '/'))
                                             : std::vector<std::string>();
  if (words.size() != 3) {
    return absl::InvalidArgumentError(absl::StrCat("the certificate's URI '", uri.substr(0, 200),
                                                   "' is not spiffe://DOMAIN/ROLE/NAME"));
  }
  Peer peer{words[0], words[1], words[2], ""};
  RETURN_IF_ERROR(CheckPlainWord("domain", peer.domain));
  RETURN_IF_ERROR(CheckPlainWord("name", peer.name));
  if (!absl::c_linear_search(RoleWords(), peer.role)) {
    return absl::InvalidArgumentError(absl::StrCat("the certificate's role '", peer.role,
                                                   "' is none of ", JoinWords(RoleWords())));
  }
  return peer;
}

}  // namespace firedrill
