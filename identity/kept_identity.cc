// Copies what is good into files that only this process has.
#include "identity/kept_identity.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "base/text.h"

namespace firedrill {
namespace {

absl::StatusOr<UniqueFd> InMemory(const std::string& text) {
  UniqueFd fd(memfd_create("identity", MFD_CLOEXEC));
  size_t done = 0;
  while (fd.valid() && done < text.size()) {
    const ssize_t wrote = write(fd.get(), text.data() + done, text.size() - done);
    if (wrote < 0 && errno != EINTR) break;
    if (wrote > 0) done += static_cast<size_t>(wrote);
  }
  if (fd.valid() && done == text.size()) return fd;
  return absl::UnavailableError(
      absl::StrCat("keeping the certificate in memory: ", std::strerror(errno)));
}

// Whoever opens it from now on gets the new one, and its number stays.
absl::Status Replace(UniqueFd& old, UniqueFd with) {
  if (!old.valid()) {
    old = std::move(with);
  } else if (dup3(with.get(), old.get(), O_CLOEXEC) < 0) {
    return absl::UnavailableError(
        absl::StrCat("keeping the certificate in memory: ", std::strerror(errno)));
  }
  return absl::OkStatus();
}

std::string PathOf(const UniqueFd& fd) { return absl::StrCat("/proc/self/fd/", fd.get()); }

}  // namespace

absl::StatusOr<KeptIdentity> KeptIdentity::Open(const IdentityFiles& files,
                                                const std::vector<std::string>& roles) {
  KeptIdentity kept(files, roles);
  RETURN_IF_ERROR(kept.Take());
  return kept;
}

IdentityFiles KeptIdentity::files() const {
  return {PathOf(authority_), PathOf(pair_), PathOf(pair_)};
}

absl::Status KeptIdentity::Take() {
  // Before they are read: what comes meanwhile is seen the next time.
  const std::string version = VersionOf(files_);
  if (version == version_) return absl::OkStatus();
  ASSIGN_OR_RETURN(const Identity read, ReadIdentity(files_, roles_, absl::Now()));
  const std::string pair = absl::StrCat(read.pair.certificate, "\n", read.pair.key);
  std::string text = absl::StrCat(read.authority, pair);
  if (text != text_) {
    ASSIGN_OR_RETURN(UniqueFd authority, InMemory(read.authority));
    ASSIGN_OR_RETURN(UniqueFd both, InMemory(pair));
    RETURN_IF_ERROR(Replace(authority_, std::move(authority)));
    RETURN_IF_ERROR(Replace(pair_, std::move(both)));
    if (!text_.empty()) {
      spdlog::info("{} was replaced: the new one is used, until {}", files_.certificate,
                   firedrill::FormatTime(read.holder.not_after));
    }
    text_ = std::move(text);
    expires_ = read.holder.not_after;
  }
  version_ = version;
  return absl::OkStatus();
}

absl::Status KeptIdentity::Look() {
  absl::Status taken = Take();
  if (taken.ok() && !told_.empty()) {
    spdlog::info("{} and what belongs to it are good again", files_.certificate);
  } else if (!taken.ok() && taken.message() != told_) {
    spdlog::error(
        "{}; what was read before is used on, until {}. Put certificate and key there together: "
        "they are read as soon as they are good",
        taken.message(), firedrill::FormatTime(expires_));
  }
  told_ = std::string(taken.message());
  return taken;
}

}  // namespace firedrill
