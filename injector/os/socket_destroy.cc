// Ends established connections through sock_diag.
#include "injector/os/socket_destroy.h"

#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <tuple>

#include "absl/algorithm/container.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"

#ifndef INET_DIAG_CGROUP_ID
#define INET_DIAG_CGROUP_ID 21
#endif

namespace firedrill {
namespace {

// Of the kernel's own states: TCP_ESTABLISHED and TCP_CLOSE_WAIT.
constexpr uint32_t kAlive = (1u << 1) | (1u << 8);

struct Request {
  nlmsghdr header;
  inet_diag_req_v2 body;
};

absl::Status Error(absl::string_view doing, int error) {
  const std::string text = absl::StrCat(doing, ": ", std::strerror(error));
  if (error == EPERM || error == EACCES) {
    return absl::PermissionDeniedError(
        absl::StrCat(text,
                     "; run the injector as root, with CAP_NET_ADMIN, or leave `reconnect` out; "
                     "with `listen` no rights are needed"));
  }
  return absl::UnavailableError(text);
}

absl::StatusOr<UniqueFd> OpenDiag() {
  UniqueFd fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
  if (!fd.valid()) return Error("opening sock_diag", errno);
  const timeval patience{.tv_sec = 2, .tv_usec = 0};
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  return fd;
}

bool IsMeant(const inet_diag_sockid& id, uint8_t family,
             const std::vector<sockaddr_storage>& destinations) {
  static constexpr uint8_t kMapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  const auto* bytes = reinterpret_cast<const uint8_t*>(id.idiag_dst);
  for (const sockaddr_storage& one : destinations) {
    if (one.ss_family == AF_INET) {
      const auto& four = reinterpret_cast<const sockaddr_in&>(one);
      if (id.idiag_dport != four.sin_port) continue;
      if (family == AF_INET && id.idiag_dst[0] == four.sin_addr.s_addr) return true;
      if (family == AF_INET6 && std::memcmp(bytes, kMapped, sizeof(kMapped)) == 0 &&
          id.idiag_dst[3] == four.sin_addr.s_addr) {
        return true;
      }
    } else {
      const auto& six = reinterpret_cast<const sockaddr_in6&>(one);
      if (family == AF_INET6 && id.idiag_dport == six.sin6_port &&
          std::memcmp(bytes, six.sin6_addr.s6_addr, 16) == 0) {
        return true;
      }
    }
  }
  return false;
}

// The folder's own number, and those of all beneath it.
std::set<uint64_t> CgroupIds(const std::string& folder) {
  std::set<uint64_t> ids;
  struct stat about {};
  if (stat(folder.c_str(), &about) == 0) ids.insert(about.st_ino);
  std::error_code error;
  for (std::filesystem::recursive_directory_iterator it(folder, error), end; it != end;
       it.increment(error)) {
    if (error) break;
    if (it->is_directory(error) && stat(it->path().c_str(), &about) == 0) ids.insert(about.st_ino);
  }
  return ids;
}

uint64_t CgroupOf(const nlmsghdr* header) {
  const auto* message = static_cast<const inet_diag_msg*>(NLMSG_DATA(header));
  const auto* at = reinterpret_cast<const uint8_t*>(message + 1);
  size_t left = header->nlmsg_len - NLMSG_LENGTH(sizeof(inet_diag_msg));
  while (left >= NLA_HDRLEN) {
    nlattr attribute;
    std::memcpy(&attribute, at, sizeof(attribute));
    if (attribute.nla_len < NLA_HDRLEN || attribute.nla_len > left) break;
    if (attribute.nla_type == INET_DIAG_CGROUP_ID && attribute.nla_len >= NLA_HDRLEN + 8) {
      uint64_t id = 0;
      std::memcpy(&id, at + NLA_HDRLEN, sizeof(id));
      return id;
    }
    const size_t step = std::min<size_t>(left, NLA_ALIGN(attribute.nla_len));
    at += step;
    left -= step;
  }
  return 0;
}

struct Found {
  uint8_t family;
  inet_diag_sockid id;
};

absl::Status Collect(int diag, uint8_t family, const SocketSelection& selection,
                     const std::set<uint64_t>& cgroups, std::vector<Found>* found) {
  Request request{};
  request.header.nlmsg_len = sizeof(request);
  request.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  request.body.sdiag_family = family;
  request.body.sdiag_protocol = IPPROTO_TCP;
  request.body.idiag_states = kAlive;
  if (send(diag, &request, sizeof(request), 0) < 0) return Error("asking for connections", errno);
  std::vector<char> buffer(64 * 1024);
  while (true) {
    const ssize_t got = recv(diag, buffer.data(), buffer.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return Error("reading the list of connections", got == 0 ? EPIPE : errno);
    auto left = static_cast<unsigned int>(got);
    for (auto* header = reinterpret_cast<nlmsghdr*>(buffer.data()); NLMSG_OK(header, left);
         header = NLMSG_NEXT(header, left)) {
      if (header->nlmsg_type == NLMSG_DONE) return absl::OkStatus();
      if (header->nlmsg_type == NLMSG_ERROR) {
        return Error("listing connections", -static_cast<nlmsgerr*>(NLMSG_DATA(header))->error);
      }
      const auto* message = static_cast<const inet_diag_msg*>(NLMSG_DATA(header));
      if (!IsMeant(message->id, message->idiag_family, selection.destinations)) continue;
      if (selection.uid.has_value() && message->idiag_uid != *selection.uid) continue;
      if (selection.only.has_value() && selection.only->count(message->idiag_inode) == 0) continue;
      if (selection.spared.count(message->idiag_inode) > 0) continue;
      if (!selection.cgroup.empty() && cgroups.count(CgroupOf(header)) == 0) continue;
      found->push_back({message->idiag_family, message->id});
    }
  }
}

absl::StatusOr<std::vector<Found>> Find(int diag, const SocketSelection& selection) {
  std::set<uint64_t> cgroups;
  if (!selection.cgroup.empty()) cgroups = CgroupIds(selection.cgroup);
  std::vector<Found> found;
  for (const uint8_t family : {AF_INET, AF_INET6}) {
    RETURN_IF_ERROR(Collect(diag, family, selection, cgroups, &found));
  }
  return found;
}

// Whoever draws by a seed needs an order: the kernel lists them in one that differs each time.
void SortByPorts(std::vector<Found>* found) {
  const auto key = [](const Found& one) {
    const auto bytes = [](const auto& address) {
      return absl::string_view(reinterpret_cast<const char*>(address), sizeof(address));
    };
    const inet_diag_sockid& id = one.id;
    return std::tuple(one.family, bytes(id.idiag_src), ntohs(id.idiag_sport), bytes(id.idiag_dst),
                      ntohs(id.idiag_dport));
  };
  absl::c_sort(*found, [&](const Found& a, const Found& b) { return key(a) < key(b); });
}

// 0, or the kernel's error.
absl::StatusOr<int> DestroyOne(int diag, const Found& one) {
  Request request{};
  request.header.nlmsg_len = sizeof(request);
  request.header.nlmsg_type = SOCK_DESTROY;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
  request.body.sdiag_family = one.family;
  request.body.sdiag_protocol = IPPROTO_TCP;
  request.body.idiag_states = kAlive;
  request.body.id = one.id;
  if (send(diag, &request, sizeof(request), 0) < 0) return Error("ending a connection", errno);
  alignas(nlmsghdr) char answer[4096];
  const ssize_t got = recv(diag, answer, sizeof(answer), 0);
  const auto* header = reinterpret_cast<const nlmsghdr*>(answer);
  if (got < static_cast<ssize_t>(NLMSG_LENGTH(sizeof(nlmsgerr))) ||
      header->nlmsg_type != NLMSG_ERROR) {
    return Error("ending a connection", got < 0 ? errno : EPROTO);
  }
  return -static_cast<const nlmsgerr*>(NLMSG_DATA(header))->error;
}

// A worker whose injector is gone only carries on what clients had open: those connections are
// theirs, not ours.
bool IsOrphanedWorker(int pid, const std::filesystem::path& program) {
  if (program.filename() != "firedrill-wire" || pid == getpid()) return false;
  std::ifstream stat(absl::StrCat("/proc/", pid, "/stat"));
  std::string words;
  std::getline(stat, words);
  // "pid (name) state parent ..."
  const size_t behind = words.rfind(") ");
  if (behind == std::string::npos || behind + 4 > words.size()) return false;
  const int parent = std::atoi(words.c_str() + behind + 4);
  std::error_code gone;
  const auto its = std::filesystem::read_symlink(absl::StrCat("/proc/", parent, "/exe"), gone);
  return gone || !absl::StartsWith(its.filename().string(), "firedrill");
}

}  // namespace

absl::StatusOr<DestroyedSockets> DestroySockets(const SocketSelection& selection) {
  ASSIGN_OR_RETURN(const UniqueFd diag, OpenDiag());
  ASSIGN_OR_RETURN(std::vector<Found> found, Find(diag.get(), selection));
  SortByPorts(&found);
  std::mt19937_64 chance(selection.seed);
  std::uniform_real_distribution<double> draw(0, 1);
  DestroyedSockets result;
  for (const Found& one : found) {
    if (selection.share < 1 && draw(chance) >= selection.share) continue;
    ++result.matched;
    ASSIGN_OR_RETURN(const int error, DestroyOne(diag.get(), one));
    if (error == 0) ++result.destroyed;
    // It has ended by itself.
    if (error == 0 || error == ENOENT) continue;
    return Error("ending a connection", error);
  }
  return result;
}

absl::Status CheckDestroySockets() {
  const UniqueFd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const UniqueFd client(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_storage address{};
  auto& four = reinterpret_cast<sockaddr_in&>(address);
  four.sin_family = AF_INET;
  four.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  auto* const its = reinterpret_cast<sockaddr*>(&address);
  socklen_t length = sizeof(four);
  struct stat about {};
  if (bind(listener.get(), its, length) != 0 || listen(listener.get(), 1) != 0 ||
      getsockname(listener.get(), its, &length) != 0 || connect(client.get(), its, length) != 0 ||
      fstat(client.get(), &about) != 0) {
    return Error("making a connection of our own, to see whether it can be ended", errno);
  }
  SocketSelection selection;
  selection.destinations.push_back(address);
  selection.only = {static_cast<uint32_t>(about.st_ino)};
  ASSIGN_OR_RETURN(const DestroyedSockets done, DestroySockets(selection));
  if (done.destroyed == 1) return absl::OkStatus();
  return absl::UnavailableError("ending a connection of our own: the kernel does not list it");
}

absl::StatusOr<int> CountSockets(const SocketSelection& selection) {
  ASSIGN_OR_RETURN(const UniqueFd diag, OpenDiag());
  ASSIGN_OR_RETURN(const std::vector<Found> found, Find(diag.get(), selection));
  return static_cast<int>(found.size());
}

std::set<uint32_t> OwnSockets() {
  namespace fs = std::filesystem;
  std::set<uint32_t> inodes;
  std::error_code error;
  const fs::path ours = fs::read_symlink("/proc/self/exe", error);
  for (const auto& process : fs::directory_iterator("/proc", error)) {
    const std::string name = process.path().filename().string();
    int pid = 0;
    if (!absl::SimpleAtoi(name, &pid)) continue;
    std::error_code gone;
    const fs::path program = fs::read_symlink(process.path() / "exe", gone);
    if (gone) continue;
    const bool kin = program.parent_path() == ours.parent_path() &&
                     absl::StartsWith(program.filename().string(), "firedrill");
    if (pid != getpid() && (!kin || IsOrphanedWorker(pid, program))) continue;
    for (const auto& file : fs::directory_iterator(process.path() / "fd", gone)) {
      const std::string target = fs::read_symlink(file.path(), gone).string();
      // "socket:[12345]"
      uint32_t inode = 0;
      if (absl::StartsWith(target, "socket:[") &&
          absl::SimpleAtoi(absl::string_view(target).substr(8, target.size() - 9), &inode)) {
        inodes.insert(inode);
      }
    }
  }
  return inodes;
}

}  // namespace firedrill
