// The identity and the addresses of what a fault would hit.
#include "injector/subject.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <sys/stat.h>

#include <map>
#include <memory>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/resolve.h"
#include "base/status_macros.h"
#include "experiment/profile.h"
#include "firedrill/v1/options.pb.h"
#include "injector/os/mysql.h"
#include "injector/os/postgres.h"
#include "injector/os/redis.h"

namespace firedrill {
namespace {

// As our sessions are called at a server that is only asked who it is.
constexpr char kAsking[] = "plan";

struct Place {
  std::string host;
  uint32_t port = 0;
};

Place PlaceOf(const v1::Profile& profile) {
  const auto at = [](const auto& server, uint32_t usual) {
    return Place{server.host(), server.port() == 0 ? usual : server.port()};
  };
  switch (profile.server_case()) {
    case v1::Profile::kPostgresql:
      return at(profile.postgresql(), 5432);
    case v1::Profile::kMysql:
      return at(profile.mysql(), 3306);
    case v1::Profile::kRedis:
      return at(profile.redis(), 6379);
    case v1::Profile::kHttp:
      return at(profile.http(), 80);
    case v1::Profile::kTcp:
      return at(profile.tcp(), 0);
    default:
      return {};
  }
}

std::string FamilyOf(const v1::Profile& profile) {
  return absl::AsciiStrToLower(
      absl::StripPrefix(v1::Protocol_Name(ProtocolOf(profile)), "PROTOCOL_"));
}

// Addresses mean something within one network of one boot of a machine only: containers have
// others.
std::string Machine() {
  struct stat net {};
  const bool seen = stat("/proc/self/ns/net", &net) == 0;
  return absl::StrCat(BootId(), "-", seen ? static_cast<uint64_t>(net.st_ino) : 0);
}

bool IsLoopback(const std::string& address) {
  return absl::StartsWith(address, "127.") || address == "::1" ||
         absl::StartsWith(address, "::ffff:127.");
}

// The addresses that this machine has itself.
std::set<std::string> OwnAddresses() {
  std::set<std::string> own;
  ifaddrs* all = nullptr;
  if (getifaddrs(&all) != 0) return own;
  const std::unique_ptr<ifaddrs, decltype(&freeifaddrs)> freed(all, &freeifaddrs);
  for (const ifaddrs* each = all; each != nullptr; each = each->ifa_next) {
    if (each->ifa_addr == nullptr) continue;
    char text[INET6_ADDRSTRLEN] = "";
    const int family = each->ifa_addr->sa_family;
    const void* bytes = family == AF_INET
                            ? static_cast<const void*>(
                                  &reinterpret_cast<const sockaddr_in*>(each->ifa_addr)->sin_addr)
                        : family == AF_INET6
                            ? static_cast<const void*>(
                                  &reinterpret_cast<const sockaddr_in6*>(each->ifa_addr)->sin6_addr)
                            : nullptr;
    if (bytes != nullptr && inet_ntop(family, bytes, text, sizeof(text)) != nullptr)
      own.insert(text);
  }
  return own;
}

absl::Status FindAddresses(const Place& place, const Patience& patience, v1::Subject& subject) {
  const std::string here = absl::StrCat(Machine(), ":", place.port);
  if (absl::StartsWith(place.host, "/")) {
    subject.add_addresses(here);
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const std::vector<std::string> addresses,
                   ResolveHost(place.host, patience.Left(), patience.stop()));
  const std::set<std::string> own = OwnAddresses();
  bool local = false;
  for (const std::string& address : addresses) {
    local = local || IsLoopback(address) || own.count(address) > 0;
    if (!IsLoopback(address)) subject.add_addresses(absl::StrCat(address, ":", place.port));
  }
  if (local) subject.add_addresses(here);
  return absl::OkStatus();
}

absl::StatusOr<std::string> AskPostgresql(const v1::Profile& profile, const Patience& patience) {
  ASSIGN_OR_RETURN(const PostgresAccount account, FindAccount(profile.postgresql(), patience));
  ASSIGN_OR_RETURN(const auto session, OpenControl(account, profile.name(), kAsking, patience));
  ASSIGN_OR_RETURN(const PostgresFacts facts, AskFacts(*session, patience));
  return facts.identity;
}

absl::StatusOr<std::string> AskMysql(const v1::Profile& profile, const Patience& patience) {
  ASSIGN_OR_RETURN(const MysqlAccount account, FindMysqlAccount(profile.mysql(), patience));
  ASSIGN_OR_RETURN(const auto session,
                   OpenMysqlControl(account, profile.name(), kAsking, patience));
  ASSIGN_OR_RETURN(const MysqlFacts facts, AskMysqlFacts(*session, patience));
  return facts.identity;
}

absl::StatusOr<std::string> AskRedis(const v1::Profile& profile, const Patience& patience) {
  ASSIGN_OR_RETURN(const RedisAccount account, FindRedisAccount(profile.redis(), patience));
  ASSIGN_OR_RETURN(
      const auto session,
      RedisSession::Open(account, absl::StrCat("firedrill-control:", kAsking), patience));
  ASSIGN_OR_RETURN(const std::string info, session->Ask({"INFO", "server"}, patience));
  for (absl::string_view line : absl::StrSplit(info, '\n')) {
    line = absl::StripTrailingAsciiWhitespace(line);
    if (absl::ConsumePrefix(&line, "run_id:")) return absl::StrCat("redis/", line);
  }
  return "";
}

// Empty where the server has none, or the profile cannot log in to ask.
absl::StatusOr<std::string> AskIdentity(const v1::Profile& profile, const Patience& patience) {
  switch (profile.server_case()) {
    case v1::Profile::kPostgresql:
      return AskPostgresql(profile, patience);
    case v1::Profile::kMysql:
      if (profile.mysql().user().empty()) return "";
      return AskMysql(profile, patience);
    case v1::Profile::kRedis:
      return AskRedis(profile, patience);
    default:
      return "";
  }
}

std::string ProfileOf(const v1::Fault& fault) {
  const auto* kind = v1::Fault::descriptor()->FindFieldByNumber(fault.kind_case());
  if (kind == nullptr) return "";
  const google::protobuf::Message& message = fault.GetReflection()->GetMessage(fault, kind);
  for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
    const auto* field = message.GetDescriptor()->field(i);
    if (field->options().GetExtension(v1::field).refers_to() == "profile" &&
        field->cpp_type() == google::protobuf::FieldDescriptor::CPPTYPE_STRING &&
        !field->is_repeated()) {
      return message.GetReflection()->GetString(message, field);
    }
  }
  return "";
}

v1::Subject OfProfile(const std::string& name, const Node& node, const Patience& patience) {
  v1::Subject subject;
  const absl::StatusOr<v1::Profile> profile = node.FindProfile(name);
  // Refused elsewhere, with its own words.
  if (!profile.ok()) return subject;
  const Place place = PlaceOf(*profile);
  subject.set_family(FamilyOf(*profile));
  subject.set_words(absl::StrCat("the ", subject.family(), " server of profile ", name, " on ",
                                 node.spec().name()));
  const absl::Status found = FindAddresses(place, patience, subject);
  const absl::StatusOr<std::string> identity = AskIdentity(*profile, patience);
  if (identity.ok()) subject.set_identity(*identity);
  const absl::Status& heard = identity.status().ok() ? found : identity.status();
  if (!heard.ok() && subject.identity().empty()) subject.set_unsure(std::string(heard.message()));
  return subject;
}

v1::Subject OfFault(const NamesSubject& fault, const v1::PlannedFault& planned, const Node& node,
                    const Clock& clock, absl::Duration deadline) {
  const Context context{
      .clock = clock, .run = kAsking, .fault = planned.name(), .deadline = deadline};
  absl::StatusOr<v1::Subject> named = fault.Subject(context, node);
  if (named.ok()) return *std::move(named);
  v1::Subject subject;
  subject.set_words(absl::StrCat("what ", planned.name(), " hits on ", node.spec().name()));
  subject.set_unsure(std::string(named.status().message()));
  return subject;
}

}  // namespace

std::vector<v1::Subject> FindSubjects(const v1::SubjectsAsked& asked, const Node& node,
                                      const Clock& clock, absl::Duration deadline) {
  // Several faults go through one profile: its server is asked once.
  std::map<std::string, v1::Subject> servers;
  std::vector<v1::Subject> subjects;
  for (const v1::PlannedFault& planned : asked.faults()) {
    const absl::StatusOr<std::unique_ptr<Fault>> fault = MakeFault(planned.fault());
    if (const auto* names =
            fault.ok() ? dynamic_cast<const NamesSubject*>(fault->get()) : nullptr) {
      subjects.push_back(OfFault(*names, planned, node, clock, deadline));
      continue;
    }
    const std::string profile = ProfileOf(planned.fault());
    if (profile.empty()) {
      subjects.emplace_back();
      continue;
    }
    if (servers.count(profile) == 0) {
      servers[profile] = OfProfile(profile, node, Patience(deadline - clock.Boot()));
    }
    subjects.push_back(servers[profile]);
  }
  return subjects;
}

}  // namespace firedrill
