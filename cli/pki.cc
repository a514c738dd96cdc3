// `firedrill pki init | issue | revoke | list`.
#include "cli/pki.h"

#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "cli/authority.h"
#include "cli/commands.h"

namespace firedrill {
namespace {

// People ask for theirs on the day; daemons are given new ones while they run.
constexpr absl::Duration kForPeople = absl::Hours(24), kForDaemons = absl::Hours(30 * 24);
constexpr absl::Duration kShortest = absl::Minutes(1), kLongest = absl::Hours(90 * 24);
constexpr absl::Duration kAuthority = absl::Hours(10 * 365 * 24),
                         kLongestAuthority = absl::Hours(20 * 365 * 24);

int Complain(const absl::Status& status) {
  std::fprintf(stderr, "firedrill: pki: %s\n", std::string(status.message()).c_str());
  return kUsageError;
}

absl::StatusOr<absl::Duration> Lasts(const std::string& text, absl::Duration if_empty,
                                     absl::Duration most) {
  if (text.empty()) return if_empty;
  absl::StatusOr<absl::Duration> lasts = ParseDuration(text);
  if (!lasts.ok()) return Annotate(lasts.status(), "--for");
  if (*lasts < kShortest || *lasts > most) {
    return absl::InvalidArgumentError(absl::StrCat("--for ", text, ": from ",
                                                   absl::ToInt64Minutes(kShortest), "m to ",
                                                   absl::ToInt64Hours(most) / 24, "d"));
  }
  return lasts;
}

std::string Day(absl::Time time) {
  return absl::FormatTime("%Y-%m-%d %H:%M UTC", time, absl::UTCTimeZone());
}

}  // namespace

int PkiInitCommand(const std::string& folder, const std::string& domain, const std::string& lasts) {
  const absl::StatusOr<absl::Duration> lifetime = Lasts(lasts, kAuthority, kLongestAuthority);
  if (!lifetime.ok()) return Complain(lifetime.status());
  const absl::Time now = absl::Now();
  const absl::StatusOr<Authority> made = Authority::Init(folder, domain, now, *lifetime);
  if (!made.ok()) return Complain(made.status());
  std::printf(
      "made the authority of %s, good until %s\n"
      "  %s/ca.crt       goes to every controller, injector and person\n"
      "  %s/revoked.pem  goes to every controller, anew after each pki revoke\n"
      "  %s/ca.key       goes nowhere: who has it can make an admin\n",
      domain.c_str(), Day(now + *lifetime).c_str(), folder.c_str(), folder.c_str(), folder.c_str());
  return 0;
}

int PkiIssueCommand(const std::string& folder, const std::string& role, const std::string& name,
                    const std::vector<std::string>& hosts, const std::string& lasts,
                    const std::string& out) {
  const bool daemon = role == kControllerRole || role == "injector";
  const absl::StatusOr<absl::Duration> lifetime =
      Lasts(lasts, daemon ? kForDaemons : kForPeople, kLongest);
  if (!lifetime.ok()) return Complain(lifetime.status());
  absl::StatusOr<Authority> authority = Authority::Open(folder);
  if (!authority.ok()) return Complain(authority.status());
  const absl::StatusOr<KeyPair> pair = authority->Issue(role, name, hosts, absl::Now(), *lifetime);
  if (!pair.ok()) return Complain(pair.status());
  const std::string stem = absl::StrCat(role, "-", name);
  const absl::Status handed = HandOut(out, stem, *pair, authority->certificate());
  if (!handed.ok()) return Complain(handed);
  const absl::StatusOr<Certificate> made = ReadCertificate(pair->certificate);
  if (!made.ok()) return Complain(made.status());
  std::printf("issued %s, good until %s, serial %s\n  %s/%s.crt\n  %s/%s.key\n  %s/ca.crt\n",
              made->peer.Uri().c_str(), Day(made->not_after).c_str(), made->peer.serial.c_str(),
              out.c_str(), stem.c_str(), out.c_str(), stem.c_str(), out.c_str());
  return 0;
}

int PkiRevokeCommand(const std::string& folder, const std::string& name_or_serial,
                     const std::string& reason) {
  absl::StatusOr<Authority> authority = Authority::Open(folder);
  if (!authority.ok()) return Complain(authority.status());
  const absl::StatusOr<std::vector<IssuedCertificate>> revoked =
      authority->Revoke(name_or_serial, reason, absl::Now());
  if (!revoked.ok()) return Complain(revoked.status());
  for (const IssuedCertificate& each : *revoked) {
    std::printf("revoked %s, serial %s\n", each.peer.Uri().c_str(), each.peer.serial.c_str());
  }
  std::printf("copy %s/revoked.pem to every controller: it takes effect within seconds there\n",
              folder.c_str());
  return 0;
}

int PkiListCommand(const std::string& folder) {
  const absl::StatusOr<Authority> authority = Authority::Open(folder);
  if (!authority.ok()) return Complain(authority.status());
  const absl::StatusOr<std::vector<IssuedCertificate>> issued = authority->Issued();
  if (!issued.ok()) return Complain(issued.status());
  if (issued->empty()) std::printf("nothing has been issued yet\n");
  const absl::Time now = absl::Now();
  for (const IssuedCertificate& each : *issued) {
    const std::string state =
        each.revoked_at.has_value()
            ? absl::StrCat("revoked ", Day(*each.revoked_at), ": ", each.revoked_because)
        : each.until <= now ? absl::StrCat("expired ", Day(each.until))
                            : absl::StrCat("good until ", Day(each.until));
    std::printf("%s\n",
                absl::StrFormat(
                    "%-10s %-20s %s  %s%s", each.peer.role, each.peer.name, each.peer.serial, state,
                    each.hosts.empty() ? "" : absl::StrCat("  ", absl::StrJoin(each.hosts, ",")))
                    .c_str());
  }
  return 0;
}

}  // namespace firedrill
