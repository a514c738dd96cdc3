// The folder of a private certificate authority.
#include "cli/authority.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"
#include "base/text.h"

namespace firedrill {
namespace {

using Json = nlohmann::json;

constexpr char kCertificate[] = "ca.crt";
constexpr char kKey[] = "ca.key";
constexpr char kRecord[] = "issued.jsonl";
constexpr char kRevoked[] = "revoked.pem";

absl::Status Failed(absl::string_view doing, const std::string& path) {
  return absl::UnavailableError(absl::StrCat(doing, " ", path, ": ", std::strerror(errno)));
}

// What is no secret can be read by whoever is to have it.
absl::Status WritePublic(FileDisk& disk, const std::string& name, const std::string& text) {
  RETURN_IF_ERROR(disk.Replace(name, text));
  const std::string path = absl::StrCat(disk.folder(), "/", name);
  return chmod(path.c_str(), 0644) == 0 ? absl::OkStatus() : Failed("opening to all", path);
}

absl::StatusOr<IssuedCertificate> FromRecord(const Json& line, const std::string& domain) {
  IssuedCertificate issued;
  issued.peer = {domain, line.at("role"), line.at("name"), line.at("serial")};
  issued.hosts = line.at("hosts").get<std::vector<std::string>>();
  std::string error;
  if (!absl::ParseTime(absl::RFC3339_full, line.at("until").get<std::string>(), &issued.until,
                       &error)) {
    return absl::DataLossError(error);
  }
  return issued;
}

// Lines of what was issued, and of what was revoked, in their order.
absl::StatusOr<std::vector<IssuedCertificate>> ParseRecord(const std::string& text,
                                                           const std::string& domain) {
  std::vector<IssuedCertificate> all;
  for (const absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    const Json read = Json::parse(line.begin(), line.end(), nullptr, false);
    try {
      if (!read.contains("revoked")) {
        ASSIGN_OR_RETURN(IssuedCertificate issued, FromRecord(read, domain));
        all.push_back(std::move(issued));
        continue;
      }
      absl::Time at;
      std::string error;
      if (!absl::ParseTime(absl::RFC3339_full, read.at("at").get<std::string>(), &at, &error)) {
        return absl::DataLossError(error);
      }
      for (IssuedCertificate& each : all) {
        if (each.peer.serial != read.at("revoked")) continue;
        each.revoked_at = at;
        each.revoked_because = read.at("reason");
      }
    } catch (const Json::exception&) {
      return absl::DataLossError(absl::StrCat("a line is damaged: ", line.substr(0, 80)));
    }
  }
  return all;
}

}  // namespace

absl::StatusOr<UniqueFd> Authority::Lock(const std::string& folder) {
  UniqueFd fd(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return Failed("opening the folder", folder);
  if (flock(fd.get(), LOCK_EX) != 0) return Failed("locking", folder);
  return fd;
}

absl::StatusOr<Authority> Authority::Init(const std::string& folder, const std::string& domain,
                                          absl::Time now, absl::Duration lifetime) {
  if (mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
    return Failed("making the folder", folder);
  }
  ASSIGN_OR_RETURN(UniqueFd lock, Lock(folder));
  Authority self(folder, std::move(lock));
  for (const char* name : {kKey, kCertificate, kRecord}) {
    if (!self.disk_.Exists(name)) continue;
    return absl::AlreadyExistsError(
        absl::StrCat(folder, "/", name,
                     " is there already: a new authority would make strangers of "
                     "all whom the old one knows; name another folder"));
  }
  ASSIGN_OR_RETURN(self.pair_, MakeAuthority(domain, now, lifetime));
  self.domain_ = domain;
  ASSIGN_OR_RETURN(const std::string revoked, MakeRevocations(self.pair_, {}, now));
  RETURN_IF_ERROR(self.disk_.Append(kRecord, ""));
  RETURN_IF_ERROR(WritePublic(self.disk_, kRevoked, revoked));
  RETURN_IF_ERROR(self.disk_.Replace(kKey, self.pair_.key));
  // The last: from now on it is one.
  RETURN_IF_ERROR(WritePublic(self.disk_, kCertificate, self.pair_.certificate));
  return self;
}

absl::StatusOr<Authority> Authority::Open(const std::string& folder) {
  ASSIGN_OR_RETURN(UniqueFd lock, Lock(folder));
  Authority self(folder, std::move(lock));
  if (!self.disk_.Exists(kCertificate)) {
    return absl::NotFoundError(absl::StrCat(
        folder, " has no ca.crt, so no authority is in it; make one with firedrill pki init ",
        folder));
  }
  ASSIGN_OR_RETURN(self.pair_.certificate, self.disk_.Read(kCertificate));
  ASSIGN_OR_RETURN(self.pair_.key, self.disk_.Read(kKey));
  RETURN_IF_ERROR(Annotate(CheckBelongTogether(self.pair_, self.pair_.certificate), folder));
  ASSIGN_OR_RETURN(self.domain_, ReadDomain(self.pair_.certificate));
  return self;
}

absl::StatusOr<KeyPair> Authority::Issue(const std::string& role, const std::string& name,
                                         const std::vector<std::string>& hosts, absl::Time now,
                                         absl::Duration lifetime) {
  ASSIGN_OR_RETURN(KeyPair pair,
                   MakeCertificate(pair_, {domain_, role, name, ""}, hosts, now, lifetime));
  ASSIGN_OR_RETURN(const Certificate made, ReadCertificate(pair.certificate));
  const Json line = {{"serial", made.peer.serial},
                     {"role", role},
                     {"name", name},
                     {"hosts", hosts},
                     {"until", firedrill::FormatTime(made.not_after)}};
  RETURN_IF_ERROR(disk_.Append(kRecord, absl::StrCat(line.dump(), "\n")));
  return pair;
}

absl::StatusOr<std::vector<IssuedCertificate>> Authority::Issued() const {
  ASSIGN_OR_RETURN(const std::string text, disk_.Read(kRecord));
  absl::StatusOr<std::vector<IssuedCertificate>> issued = ParseRecord(text, domain_);
  if (issued.ok()) return issued;
  return Annotate(issued.status(), absl::StrCat("reading ", folder(), "/", kRecord));
}

absl::StatusOr<std::vector<IssuedCertificate>> Authority::Revoke(const std::string& name_or_serial,
                                                                 const std::string& reason,
                                                                 absl::Time now) {
  ASSIGN_OR_RETURN(std::vector<IssuedCertificate> all, Issued());
  std::vector<IssuedCertificate> revoked;
  std::string record;
  for (IssuedCertificate& each : all) {
    const bool meant = each.peer.serial == name_or_serial || each.peer.name == name_or_serial;
    if (!meant || each.revoked_at.has_value() || each.until <= now) continue;
    each.revoked_at = now;
    each.revoked_because = reason;
    const Json line = {
        {"revoked", each.peer.serial}, {"at", firedrill::FormatTime(now)}, {"reason", reason}};
    absl::StrAppend(&record, line.dump(), "\n");
    revoked.push_back(each);
  }
  if (revoked.empty()) {
    return absl::NotFoundError(
        absl::StrCat("no certificate that is good has the name or the serial ", name_or_serial,
                     "; firedrill pki list ", folder(), " says what has been issued"));
  }
  // Expired ones are refused for that.
  std::vector<Revoked> list;
  for (const IssuedCertificate& each : all) {
    if (each.revoked_at.has_value() && each.until > now) {
      list.push_back({each.peer.serial, *each.revoked_at});
    }
  }
  ASSIGN_OR_RETURN(const std::string pem, MakeRevocations(pair_, list, now));
  RETURN_IF_ERROR(disk_.Append(kRecord, record));
  RETURN_IF_ERROR(WritePublic(disk_, kRevoked, pem));
  return revoked;
}

absl::Status HandOut(const std::string& folder, const std::string& stem, const KeyPair& pair,
                     const std::string& authority) {
  FileDisk disk(folder);
  RETURN_IF_ERROR(disk.Replace(absl::StrCat(stem, ".key"), pair.key));
  RETURN_IF_ERROR(WritePublic(disk, absl::StrCat(stem, ".crt"), pair.certificate));
  return WritePublic(disk, kCertificate, authority);
}

}  // namespace firedrill
