// hold_connections for Redis: clients that are named after the fault.
#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/clock.h"
#include "base/status_macros.h"
#include "injector/faults/held_crowd.h"
#include "injector/os/redis.h"

namespace firedrill {
namespace {

std::string Join(const std::vector<std::vector<std::string>>& commands) {
  std::string bytes;
  for (const auto& command : commands) bytes += RedisCommand(command);
  return bytes;
}

// One client of ours. Redis has no time-out for one client alone: a list that is waited for ends by
// itself at the fault's end, the others with this process.
class Client final : public StreamMember {
 public:
  // The answers to the first `expected` of the commands make it ready.
  Client(const RedisAccount& account, const std::string& stamp,
         const std::vector<std::vector<std::string>>& commands, int expected)
      : StreamMember(account.server.address, stamp, Join(commands)), expected_(expected) {}

 private:
  absl::Status Take(absl::string_view bytes) override {
    received_.append(bytes.data(), bytes.size());
    while (!received_.empty()) {
      const auto answer = TakeRedisAnswer(&received_);
      if (absl::IsNotFound(answer.status())) return absl::OkStatus();
      RETURN_IF_ERROR(answer.status());
      --expected_;
    }
    return absl::OkStatus();
  }
  bool Satisfied() const override { return expected_ <= 0; }

  int expected_;
  std::string received_;
};

class RedisCrowdServer final : public CrowdServer {
 public:
  RedisCrowdServer(v1::SessionState state, std::string stamp)
      : state_(state), stamp_(std::move(stamp)) {}

  absl::Status Open(const v1::Profile& profile, const std::string& run,
                    const Patience& patience) override {
    if (session_ != nullptr && session_->usable()) return absl::OkStatus();
    session_.reset();
    if (account_.server.port == 0) {
      ASSIGN_OR_RETURN(account_, FindRedisAccount(profile.redis(), patience));
    }
    auto session = RedisSession::Open(account_, "firedrill-control:" + run, patience);
    if (!session.ok()) {
      return Explained(session.status(), absl::StrCat("opening the control connection of profile ",
                                                      profile.name(), " to ", account_.Name()));
    }
    ASSIGN_OR_RETURN(const auto info, Info(**session, patience));
    if (!absl::SimpleAtoi(info.at("maxclients"), &usable_)) {
      ASSIGN_OR_RETURN(const std::string said,
                       (*session)->Ask({"CONFIG", "GET", "maxclients"}, patience));
      const std::vector<std::string> parts = absl::StrSplit(said, '\n');
      if (parts.size() != 2 || !absl::SimpleAtoi(parts[1], &usable_)) {
        return absl::FailedPreconditionError("the server does not tell its maxclients");
      }
    }
    identity_ = absl::StrCat("redis/", info.at("run_id"), "/", account_.server.port);
    session_ = *std::move(session);
    return absl::OkStatus();
  }
  void Close() override {
    session_.reset();
    ForgetStamped(stamp_);
  }
  int usable() const override { return usable_; }

  absl::StatusOr<int> Taken(const Patience& patience) override {
    ASSIGN_OR_RETURN(const auto info, Info(*session_, patience));
    int clients = 0, replicas = 0;
    if (!absl::SimpleAtoi(info.at("connected_clients"), &clients)) {
      return absl::InternalError("the server does not tell how many clients it has");
    }
    // They count against the limit too.
    (void)absl::SimpleAtoi(info.at("connected_slaves"), &replicas);
    return clients + replicas;
  }

  absl::StatusOr<CrowdCounts> Count(const Patience& patience) override {
    ASSIGN_OR_RETURN(const std::string list, session_->Ask({"CLIENT", "LIST"}, patience));
    CrowdCounts counts;
    const std::string name = absl::StrCat(" name=", stamp_, " ");
    for (absl::string_view line : absl::StrSplit(list, '\n', absl::SkipWhitespace())) {
      ++counts.taken;
      if (!absl::StrContains(line, name)) continue;
      ++counts.ours;
      if (DoesAsAsked(line)) ++counts.ours_as_asked;
    }
    return counts;
  }

  std::unique_ptr<CrowdMember> Begin(absl::Duration end) override {
    auto commands = account_.Greeting(stamp_);
    if (state_ == v1::SESSION_STATE_IDLE_IN_TRANSACTION) commands.push_back({"MULTI"});
    const int expected = static_cast<int>(commands.size());
    if (state_ == v1::SESSION_STATE_ACTIVE) {
      const int64_t seconds = absl::ToInt64Seconds(end - RealClock().Boot()) + 1;
      commands.push_back(
          {"BLPOP", stamp_ + ":nobody", absl::StrCat(std::max<int64_t>(1, seconds))});
    }
    return std::make_unique<Client>(account_, stamp_, commands, expected);
  }

  std::string identity() const override { return identity_; }
  bool Down(const absl::Status& status) const override { return StreamNobodyListens(status); }
  std::string ByHand() const override {
    return absl::StrCat("to end them by hand: CLIENT LIST, and CLIENT KILL ID for those with name=",
                        stamp_);
  }

 private:
  static absl::Status Explained(const absl::Status& status, absl::string_view doing) {
    absl::string_view advice;
    if (absl::IsPermissionDenied(status)) advice = "; check the profile's user and password";
    if (absl::IsResourceExhausted(status)) {
      advice = "; the server is full already: free a slot, or raise maxclients";
    }
    absl::Status explained(status.code(), absl::StrCat(doing, ": ", status.message(), advice));
    status.ForEachPayload([&](absl::string_view type, const absl::Cord& payload) {
      explained.SetPayload(type, payload);
    });
    return explained;
  }

  // With every key that is asked for, empty where the server does not know it.
  static absl::StatusOr<std::map<std::string, std::string>> Info(RedisSession& session,
                                                                 const Patience& patience) {
    ASSIGN_OR_RETURN(const std::string text, session.Ask({"INFO"}, patience));
    auto info = ReadRedisInfo(text);
    for (const char* key : {"maxclients", "run_id", "connected_clients", "connected_slaves"}) {
      info.emplace(key, "");
    }
    return info;
  }

  bool DoesAsAsked(absl::string_view line) const {
    const bool in_multi =
        absl::StrContains(line, " multi=") && !absl::StrContains(line, " multi=-1");
    const size_t flags = line.find(" flags=");
    const absl::string_view rest = flags == absl::string_view::npos ? "" : line.substr(flags + 7);
    const bool waits = absl::StrContains(rest.substr(0, rest.find(' ')), "b");
    switch (state_) {
      case v1::SESSION_STATE_IDLE_IN_TRANSACTION:
        return in_multi;
      case v1::SESSION_STATE_ACTIVE:
        return waits;
      default:
        return !in_multi && !waits;
    }
  }

  const v1::SessionState state_;
  const std::string stamp_;
  RedisAccount account_;
  std::unique_ptr<RedisSession> session_;
  int usable_ = 0;
  std::string identity_;
};

absl::StatusOr<std::unique_ptr<CrowdServer>> MakeServer(const v1::HoldConnections& message,
                                                        const v1::Profile& profile,
                                                        const std::string& stamp) {
  if (!profile.has_redis()) {
    return absl::InvalidArgumentError(
        absl::StrCat("profile ", profile.name(), " is no Redis server; name one that is"));
  }
  return std::make_unique<RedisCrowdServer>(message.state(), stamp);
}

const FaultRegistration kHoldConnections(v1::Fault::kHoldConnections, v1::PROTOCOL_REDIS,
                                         [](const v1::Fault& fault) {
                                           return std::make_unique<HeldCrowd>(
                                               fault.hold_connections(), MakeServer);
                                         });

}  // namespace
}  // namespace firedrill
