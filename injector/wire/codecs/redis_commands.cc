// Names of Redis's commands, and the texts of Redis 7.0 for its errors.
#include "injector/wire/codecs/redis_commands.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace firedrill::wire {
namespace {

struct Named {
  absl::string_view name;
  RedisEffect effect;
};

constexpr Named kCommands[] = {
    {"MULTI", RedisEffect::kMulti},
    {"EXEC", RedisEffect::kExec},
    {"DISCARD", RedisEffect::kDiscard},
    {"RESET", RedisEffect::kReset},
    {"AUTH", RedisEffect::kAuth},
    {"HELLO", RedisEffect::kHello},
    {"SELECT", RedisEffect::kSelect},
    {"SUBSCRIBE", RedisEffect::kSubscribe},
    {"PSUBSCRIBE", RedisEffect::kSubscribe},
    {"SSUBSCRIBE", RedisEffect::kSubscribe},
    {"UNSUBSCRIBE", RedisEffect::kSubscribe},
    {"PUNSUBSCRIBE", RedisEffect::kSubscribe},
    {"SUNSUBSCRIBE", RedisEffect::kSubscribe},
    {"MONITOR", RedisEffect::kEnd},
    {"SYNC", RedisEffect::kEnd},
    {"PSYNC", RedisEffect::kEnd},
};

struct Error {
  absl::string_view code;
  absl::string_view text;
};

constexpr Error kErrors[] = {
    {"LOADING", "Redis is loading the dataset in memory"},
    {"OOM", "command not allowed when used memory > 'maxmemory'."},
    {"READONLY", "You can't write against a read only replica."},
    {"MASTERDOWN", "Link with MASTER is down and replica-serve-stale-data is set to 'no'."},
    {"NOAUTH", "Authentication required."},
    {"WRONGPASS", "invalid username-password pair or user is disabled."},
    {"NOPERM", "this user has no permissions to access one of the keys used as arguments"},
    {"CLUSTERDOWN", "The cluster is down"},
    {"TRYAGAIN", "Multiple keys request during rehashing of slot"},
    {"CROSSSLOT", "Keys in request don't hash to the same slot"},
    {"BUSY", "Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."},
    {"MISCONF",
     "Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. "
     "Commands that may modify the data set are disabled, because this instance is configured to "
     "report errors during writes if RDB snapshotting fails (stop-writes-on-bgsave-error option). "
     "Please check the Redis logs for details about the RDB error."},
    {"NOREPLICAS", "Not enough good replicas to write."},
    {"NOSCRIPT", "No matching script. Please use EVAL."},
    {"EXECABORT", "Transaction discarded because of previous errors."},
    {"UNBLOCKED",
     "force unblock from blocking operation, instance state changed (master -> replica?)"},
    {"WRONGTYPE", "Operation against a key holding the wrong kind of value"},
};

}  // namespace

RedisEffect EffectOf(const Words& words) {
  const absl::string_view name = words[0];
  if (absl::EqualsIgnoreCase(name, "CLIENT")) {
    const bool silent =
        absl::EqualsIgnoreCase(words[1], "REPLY") && !absl::EqualsIgnoreCase(words[2], "ON");
    return silent ? RedisEffect::kEnd : RedisEffect::kNone;
  }
  for (const Named& command : kCommands) {
    if (name.size() == command.name.size() && absl::EqualsIgnoreCase(name, command.name)) {
      return command.effect;
    }
  }
  return RedisEffect::kNone;
}

std::string UserOf(const Words& words) {
  if (absl::EqualsIgnoreCase(words[0], "AUTH")) {
    return std::string(words.size() > 2 ? words[1] : "default");
  }
  for (size_t i = 2; i < words.size() && i < 5; ++i) {
    if (absl::EqualsIgnoreCase(words[i], "AUTH")) return std::string(words[i + 1]);
  }
  return "";
}

std::string RedisErrorReply(const v1::QueryFailure& failure) {
  absl::string_view text = failure.message();
  for (const Error& error : kErrors) {
    if (text.empty() && error.code == failure.error()) text = error.text;
  }
  if (text.empty()) text = "the command failed";
  // A line break would end the reply.
  std::string line = absl::StrCat("-", failure.error(), " ", text);
  for (char& c : line) {
    if (c == '\r' || c == '\n') c = ' ';
  }
  return line + "\r\n";
}

}  // namespace firedrill::wire
