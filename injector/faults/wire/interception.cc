// What all faults on live traffic have in common.
#include "injector/faults/wire/interception.h"

#include <pwd.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "base/resolve.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "injector/faults/wire/addresses.h"
#include "injector/os/connect_redirect.h"
#include "injector/os/socket_destroy.h"

namespace firedrill {
namespace {

constexpr absl::Duration kOthersLook = absl::Milliseconds(200);

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

std::string Text(const Message& message, const char* name) {
  const FieldDescriptor* field = message.GetDescriptor()->FindFieldByName(name);
  return field == nullptr ? "" : message.GetReflection()->GetString(message, field);
}

absl::StatusOr<uint32_t> UserId(const std::string& name) {
  passwd entry{};
  passwd* found = nullptr;
  char buffer[16384];
  getpwnam_r(name.c_str(), &entry, buffer, sizeof(buffer), &found);
  if (found == nullptr) {
    return absl::NotFoundError(absl::StrCat("clientUser: this machine has no user ", name));
  }
  return found->pw_uid;
}

std::string ProtocolWord(v1::Protocol protocol) {
  switch (protocol) {
    case v1::PROTOCOL_POSTGRESQL:
      return "postgresql";
    case v1::PROTOCOL_MYSQL:
      return "mysql";
    case v1::PROTOCOL_REDIS:
      return "redis";
    case v1::PROTOCOL_HTTP:
      return "http";
    default:
      return "tcp";
  }
}

uint64_t Hash(const std::string& text) {
  uint64_t hash = 14695981039346656037ull;
  for (const char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 1099511628211ull;
  return hash;
}

// Found again by whoever comes after us in our state folder; another's redirects are not ours.
std::string RedirectName(const std::string& key) {
  const uint64_t hash = Hash(absl::StrCat(WireWorker::Owner(), " ", key));
  return absl::StrFormat("fdw_%011x", hash & 0xfffffffffffull);
}

const v1::WireCount* CountOf(const v1::WireStatus& status, const std::string& stamp) {
  for (const v1::WireCount& count : status.wishes()) {
    if (count.stamp() == stamp) return &count;
  }
  return nullptr;
}

// What is said of clients that found no server, on either way in.
std::string RefusedWords(const std::string& address, uint64_t refused, uint64_t accepted,
                         bool redirect_off) {
  if (refused == 0 && !redirect_off) return "";
  std::string words = refused == 0
                          ? absl::StrCat("; the server at ", address, " refuses clients")
                          : absl::StrCat("; ", Counted(refused, "client was", "clients were"),
                                         " refused by the server itself at ", address);
  if (redirect_off) absl::StrAppend(&words, ", and new ones see that for themselves");
  // Of one that has let others in since then nobody wonders.
  if (redirect_off || refused >= accepted) absl::StrAppend(&words, ": is it up?");
  return words;
}

}  // namespace

Interception InterceptionOf(const Message& fault) {
  Interception interception;
  interception.profile = Text(fault, "profile");
  interception.listen = Text(fault, "listen");
  interception.client_user = Text(fault, "client_user");
  interception.cgroup = Text(fault, "cgroup");
  const FieldDescriptor* reconnect = fault.GetDescriptor()->FindFieldByName("reconnect");
  interception.reconnect = reconnect != nullptr && fault.GetReflection()->GetBool(fault, reconnect);
  return interception;
}

absl::StatusOr<WireServer> WireServerOf(const Node& node, const std::string& name) {
  ASSIGN_OR_RETURN(const v1::Profile profile, node.FindProfile(name));
  WireServer server;
  switch (profile.server_case()) {
    case v1::Profile::kPostgresql: {
      const v1::PostgresqlServer& its = profile.postgresql();
      server = {v1::PROTOCOL_POSTGRESQL, its.host(), its.port() == 0 ? 5432 : its.port()};
      server.always_encrypted =
          its.ssl_mode() == "require" || absl::StartsWith(its.ssl_mode(), "verify");
      break;
    }
    case v1::Profile::kMysql:
      server = {v1::PROTOCOL_MYSQL, profile.mysql().host(),
                profile.mysql().port() == 0 ? 3306 : profile.mysql().port()};
      break;
    case v1::Profile::kRedis:
      server = {v1::PROTOCOL_REDIS, profile.redis().host(),
                profile.redis().port() == 0 ? 6379 : profile.redis().port()};
      break;
    case v1::Profile::kHttp:
      server = {v1::PROTOCOL_HTTP, profile.http().host(),
                profile.http().port() == 0 ? 80 : profile.http().port()};
      break;
    case v1::Profile::kTcp:
      server = {v1::PROTOCOL_TCP, profile.tcp().host(), profile.tcp().port()};
      break;
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("profile ", name, " is no server whose traffic could be intercepted"));
  }
  if (absl::StartsWith(server.host, "/")) {
    return absl::FailedPreconditionError(
        absl::StrCat("profile ", name, " is the Unix socket folder ", server.host,
                     ", whose traffic cannot be intercepted; name the server's TCP address, and "
                     "have its clients use that"));
  }
  return server;
}

absl::Status CheckNoCircle(const Interception& interception,
                           const std::vector<sockaddr_storage>& servers) {
  if (interception.listen.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const sockaddr_storage listen, ListenAddress(interception.listen));
  const bool circle = std::any_of(servers.begin(), servers.end(),
                                  [&](const auto& server) { return LeadsTo(server, listen); });
  if (!circle) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "listen: ", interception.listen,
      " is the server's own address, so each connection there would be led back to it, "
      "in a circle; choose a port that is free, and let the clients come to that"));
}

absl::Status CheckInterception(const Node& node, const Interception& interception) {
  ASSIGN_OR_RETURN(const WireServer server, WireServerOf(node, interception.profile));
  if (!interception.client_user.empty()) {
    RETURN_IF_ERROR(UserId(interception.client_user).status());
  }
  if (interception.listen.empty()) {
    RETURN_IF_ERROR(ConnectRedirect::Check(interception.cgroup));
    std::vector<sockaddr_storage> addresses = NumericAddresses(server.host, server.port);
    if (!addresses.empty() && !HasIpv6Loopback()) {
      RETURN_IF_ERROR(LeaveOutIpv6(server.host, &addresses).status());
    }
    return interception.reconnect ? CheckDestroySockets() : absl::OkStatus();
  }
  RETURN_IF_ERROR(ListenAddress(interception.listen).status());
  RETURN_IF_ERROR(CheckNoCircle(interception, NumericAddresses(server.host, server.port)));
  if (interception.reconnect || !interception.client_user.empty() || !interception.cgroup.empty()) {
    return absl::InvalidArgumentError(
        "reconnect, clientUser and cgroup choose clients that are redirected; with `listen` those "
        "are met that come to that address: leave them out, or `listen`");
  }
  return absl::OkStatus();
}

absl::StatusOr<WireWay> FindWay(const Context& context, const Node& node,
                                const Interception& interception) {
  ASSIGN_OR_RETURN(const WireServer server, WireServerOf(node, interception.profile));
  ASSIGN_OR_RETURN(const std::vector<std::string> addresses,
                   ResolveHost(server.host, context.deadline - context.clock.Boot(), context.stop));
  WireWay way;
  way.setup.set_protocol(server.protocol);
  std::string all;
  for (const std::string& text : addresses) {
    const absl::StatusOr<sockaddr_storage> address = AddressOf(text, server.port);
    // A scope ("%eth0") is nothing that clients of a database name.
    if (!address.ok()) continue;
    way.servers.push_back(*address);
    absl::StrAppend(&all, text, ",");
  }
  if (way.servers.empty()) {
    return absl::NotFoundError(absl::StrCat(server.host, " has no address to redirect from"));
  }
  if (interception.listen.empty() && !HasIpv6Loopback()) {
    ASSIGN_OR_RETURN(way.left_alone, LeaveOutIpv6(server.host, &way.servers));
  }
  for (const sockaddr_storage& address : way.servers) way.setup.add_servers(Bytes(address));
  if (!interception.listen.empty()) {
    ASSIGN_OR_RETURN(const sockaddr_storage listen, ListenAddress(interception.listen));
    way.setup.set_listen(Bytes(listen));
  }
  if (!interception.client_user.empty()) {
    ASSIGN_OR_RETURN(const uint32_t uid, UserId(interception.client_user));
    way.setup.set_uid(uid);
  }
  way.setup.set_cgroup(interception.cgroup);
  way.key = absl::StrCat(node.spec().name(), " ", ProtocolWord(server.protocol), " ", all, " ",
                         server.port, " ", interception.listen, " ", interception.client_user, " ",
                         interception.cgroup);
  way.setup.set_name(RedirectName(way.key));
  way.subject =
      absl::StrCat(ProtocolWord(server.protocol), "/", addresses.front(), "/", server.port);
  way.address = absl::StrCat(
      absl::StrContains(server.host, ':') ? absl::StrCat("[", server.host, "]") : server.host, ":",
      server.port);
  return way;
}

WireFault::~WireFault() {
  WireFault::Release();
  worker_.reset();
  WireWorker::Tidy();
}

absl::Status WireFault::Validate(const Node& node) const {
  RETURN_IF_ERROR(CheckInterception(node, interception_));
  RETURN_IF_ERROR(CheckWish());
  ASSIGN_OR_RETURN(const WireServer server, WireServerOf(node, interception_.profile));
  if (NeedsRequests() && server.protocol == v1::PROTOCOL_TCP) {
    return absl::InvalidArgumentError(
        absl::StrCat("profile ", interception_.profile,
                     " is a TCP server without a protocol that is looked into; name a profile of "
                     "the server's own kind, or use delayBytes, stallConnections or the like"));
  }
  if (NeedsPlaintext(server.protocol) && server.always_encrypted) {
    return absl::FailedPreconditionError(absl::StrCat(
        "profile ", interception_.profile,
        " demands TLS, and nobody looks into what is encrypted; name a profile whose clients are "
        "not encrypted, or use delayBytes, stallConnections or the like"));
  }
  return absl::OkStatus();
}

absl::Status WireFault::Acquire(const Context& context, const Node& node) {
  if (context.stop.stop_requested()) return absl::CancelledError("it was taken back");
  if (worker_ != nullptr && worker_->Lives()) return absl::OkStatus();
  ASSIGN_OR_RETURN(way_, FindWay(context, node, interception_));
  RETURN_IF_ERROR(CheckNoCircle(interception_, way_.servers));
  ASSIGN_OR_RETURN(worker_, WireWorker::Acquire(way_.key, way_.setup, way_.subject));
  stamp_ = context.Stamp();
  return absl::OkStatus();
}

absl::Status WireFault::WithoutStamp(const absl::Status& status) const {
  const std::string stamp = absl::StrCat("`", stamp_, "`: ");
  return absl::Status(status.code(), absl::StripPrefix(status.message(), stamp));
}

absl::Status WireFault::Prepare(const Context& context, Node& node) {
  RETURN_IF_ERROR(Acquire(context, node));
  v1::WireWish wish;
  wish.set_stamp(stamp_);
  FillWish(&wish);
  return WithoutStamp(worker_->Check(wish));
}

absl::Status WireFault::Apply(const Context& context, Node& node, Changes&) {
  RETURN_IF_ERROR(Acquire(context, node));
  v1::WireWish wish;
  wish.set_stamp(stamp_);
  wish.set_ends_at_nanos(absl::ToInt64Nanoseconds(context.ends_at));
  FillWish(&wish);
  ASSIGN_OR_RETURN(then_, worker_->Ask());
  applied_ = true;
  RETURN_IF_ERROR(WithoutStamp(worker_->Wish(wish, context.seed)));
  if (!interception_.reconnect) return absl::OkStatus();
  ASSIGN_OR_RETURN(reconnected_, worker_->Reconnect(1, 0));
  return absl::OkStatus();
}

absl::StatusOr<v1::Observation> WireFault::Observe(const Context&, const Node&) const {
  return LastCount();
}

// A word with a process of ours: the server is not asked.
absl::StatusOr<v1::Observation> WireFault::LastCount() const {
  if (!applied_ || worker_ == nullptr) {
    return absl::FailedPreconditionError("intercepting traffic: not applied");
  }
  const absl::StatusOr<v1::WireStatus> asked = worker_->Ask();
  if (!asked.ok()) {
    return worker_->Lives() ? asked.status() : absl::AbortedError(asked.status().message());
  }
  const v1::WireStatus& now = *asked;
  const v1::WireCount* count = CountOf(now, stamp_);
  if (count == nullptr) {
    return absl::AbortedError(
        absl::StrCat("the worker that carries the traffic has healed",
                     now.healed().empty() ? "" : absl::StrCat(": ", now.healed())));
  }
  v1::Observation observation;
  observation.set_subject(way_.subject);
  Judge(now, then_, *count, &observation);
  const uint64_t accepted = now.accepted() - then_.accepted();
  // Those that were carried already when the fault began are in it too.
  const uint64_t carried = accepted + then_.open();
  const uint64_t encrypted = now.encrypted() - then_.encrypted() + then_.encrypted_open();
  const uint64_t lost = now.lost() - then_.lost() + then_.lost_open();
  std::string detail = observation.detail();
  absl::StrAppend(&detail, "; ", Counted(now.open(), "connection", "connections"), " open");
  if (reconnected_ > 0) {
    absl::StrAppend(&detail, ", ", Counted(reconnected_, "was", "were"), " made to come back");
  }
  if (NeedsPlaintext(way_.setup.protocol()) && encrypted > 0) {
    absl::StrAppend(&detail, "; ", encrypted, " of ", carried,
                    " connections are encrypted: not looked into");
    if (encrypted >= carried) observation.set_reached(false);
  }
  if (lost > 0) {
    absl::StrAppend(&detail, "; ", Counted(lost, "connection passes", "connections pass"),
                    " unmatched: ", now.lost_why());
  }
  const uint64_t forgotten = now.unmatched() - then_.unmatched();
  const uint64_t cut = now.cut() - then_.cut();
  if (NeedsRequests() && forgotten > 0) {
    absl::StrAppend(&detail, "; ", Counted(forgotten, "request", "requests"),
                    " passed unmatched: what was prepared under that name is not known any more");
  }
  if (NeedsRequests() && cut > 0) {
    absl::StrAppend(&detail, "; ", Counted(cut, "long request was", "long requests were"),
                    " matched by the first 16 KiB only");
  }
  const uint64_t refused = now.refused() - then_.refused();
  absl::StrAppend(&detail, RefusedWords(way_.address, refused, accepted, now.server_refuses()),
                  way_.left_alone);
  observation.set_detail(detail);
  auto& figures = *observation.mutable_figures();
  figures["connections"] = static_cast<double>(accepted);
  figures["open"] = static_cast<double>(now.open());
  figures["encrypted"] = static_cast<double>(encrypted);
  figures["unmatched"] = static_cast<double>(lost);
  figures["reconnected"] = static_cast<double>(reconnected_);
  figures["refused"] = static_cast<double>(refused);
  if (!NeedsRequests()) return observation;
  figures["requests"] = static_cast<double>(now.requests() - then_.requests());
  figures["matched"] = static_cast<double>(count->matched());
  figures["hit"] = static_cast<double>(count->hit());
  figures["forgotten"] = static_cast<double>(forgotten);
  figures["cut"] = static_cast<double>(cut);
  return observation;
}

void WireFault::Release() {
  if (worker_ != nullptr) worker_->Drop(stamp_);
}

// The worker's own word where one is there, and what the kernel says in any case.
absl::Status WireFault::ReadBack(const Context& context, const Node& node) const {
  WireWay way = way_;
  if (way.key.empty()) {
    ASSIGN_OR_RETURN(way, FindWay(context, node, interception_));
  }
  bool others = false;
  const std::shared_ptr<WireWorker> worker = WireWorker::Find(way.key);
  if (worker != nullptr) {
    ASSIGN_OR_RETURN(const v1::WireStatus status, worker->Ask());
    if (CountOf(status, context.Stamp()) != nullptr) {
      return absl::FailedPreconditionError(
          absl::StrCat("process ", worker->pid(), " still disturbs the traffic to ", way.subject));
    }
    others = status.wishes_size() > 0;
    if (!others && status.redirecting()) {
      return absl::FailedPreconditionError(
          absl::StrCat("connections to ", way.subject, " are still redirected"));
    }
  }
  if (others || !interception_.listen.empty()) return absl::OkStatus();
  absl::StatusOr<int> redirects = CountRedirects(way.setup.name());
  // Somebody else who looks at the kernel's links keeps each of them, a moment longer than we did.
  const absl::Duration until = context.clock.Boot() + kOthersLook;
  while (redirects.value_or(0) > 0 && context.clock.Boot() < until) {
    absl::SleepFor(absl::Milliseconds(2));
    redirects = CountRedirects(way.setup.name());
  }
  // Who may not look was not let redirect either.
  if (absl::IsPermissionDenied(redirects.status())) return absl::OkStatus();
  RETURN_IF_ERROR(redirects.status());
  if (*redirects == 0) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      *redirects, " BPF links named ", way.setup.name(), " still redirect connections to ",
      way.subject, "; look with: bpftool link list, and end the process firedrill-wire"));
}

absl::Status CheckShape(const v1::DelayShape& shape) {
  if (shape.has_uniform() && FromProto(shape.uniform().min()) > FromProto(shape.uniform().max())) {
    return absl::InvalidArgumentError("uniform: `min` is longer than `max`; exchange them");
  }
  if (shape.has_pareto() && FromProto(shape.pareto().min()) > FromProto(shape.pareto().max())) {
    return absl::InvalidArgumentError("pareto: `min` is longer than `max`; exchange them");
  }
  return absl::OkStatus();
}

v1::QueryMatch MatchOf(const v1::QueryMatch& match) {
  v1::QueryMatch whole = match;
  if (whole.share() == 0) whole.set_share(1);
  return whole;
}

std::string Counted(uint64_t count, absl::string_view one, absl::string_view many) {
  return absl::StrCat(count, " ", count == 1 ? one : many);
}

void JudgeDelay(const v1::DelayShape& shape, const v1::WireCount& count,
                v1::Observation* observation) {
  const bool hit = count.delayed() > 0;
  observation->clear_detail();
  if (!hit && count.cancelled() > 0) {
    // Who cancels has been held until then; for how long is the client's doing.
    observation->set_reached(true);
    return;
  }
  const absl::Duration asked =
      shape.has_delay() ? FromProto(shape.delay()) : absl::Nanoseconds(count.asked_p50_nanos());
  const absl::Duration held = absl::Nanoseconds(count.held_p50_nanos());
  observation->set_requested(absl::ToDoubleMilliseconds(asked));
  observation->set_real(absl::ToDoubleMilliseconds(held));
  observation->set_unit("ms");
  observation->set_reached(hit && held > absl::ZeroDuration() && held >= asked);
  if (!hit) return;
  observation->set_detail(
      absl::StrCat("held for ", absl::FormatDuration(held), " (median; p99 ",
                   absl::FormatDuration(absl::Nanoseconds(count.held_p99_nanos())), ")"));
}

}  // namespace firedrill
