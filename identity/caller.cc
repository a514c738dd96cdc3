// Decides from a certificate and a role.
#include "identity/caller.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"
#include "base/text.h"

namespace firedrill {
namespace {

std::string RoleWord(v1::Role role) {
  return absl::AsciiStrToLower(absl::StripPrefix(v1::Role_Name(role), "ROLE_"));
}

}  // namespace

absl::Status CheckStillGood(const Certificate& caller, const Revocations& revocations,
                            absl::Time now) {
  const Peer& peer = caller.peer;
  if (revocations.Has(peer.serial)) {
    return absl::UnauthenticatedError(absl::StrCat("the certificate of ", peer.Uri(), ", serial ",
                                                   peer.serial,
                                                   ", was revoked: ask for a new one"));
  }
  if (caller.not_after <= now) {
    return absl::UnauthenticatedError(
        absl::StrCat("the certificate of ", peer.Uri(), " expired on ",
                     firedrill::FormatTime(caller.not_after), ": issue a new one"));
  }
  return absl::OkStatus();
}

absl::Status CheckCaller(const Certificate& caller, const std::string& domain,
                         const Revocations& revocations, absl::string_view what, v1::Role asked,
                         absl::Time now) {
  const Peer& peer = caller.peer;
  if (peer.domain != domain) {
    return absl::UnauthenticatedError(absl::StrCat(
        peer.Uri(), " is of another domain than this controller, which is of ", domain));
  }
  RETURN_IF_ERROR(CheckStillGood(caller, revocations, now));
  if (asked == v1::ROLE_UNSPECIFIED) {
    return absl::PermissionDeniedError(absl::StrCat(what, " is nothing that anybody may call"));
  }
  if (!May(RoleOf(peer), asked)) {
    return absl::PermissionDeniedError(
        absl::StrCat(peer.Uri(), " may not call ", what, ", which takes the role ", RoleWord(asked),
                     ": ask whoever may, or for a certificate of that role"));
  }
  return absl::OkStatus();
}

}  // namespace firedrill
