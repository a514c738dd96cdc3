// Where each command has its keys, as `COMMAND INFO` of Redis 7.0 tells.
#include "injector/wire/redis_keys.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"

namespace firedrill::wire {
namespace {

// Places are counted from the command's name, which is at 0.
struct Places {
  absl::string_view command;
  int first = 1;
  // Counted from the end where it is negative: -1 is the last word.
  int last = 1;
  int step = 1;
  // Where the number of further keys stands that follow it; 0: nowhere.
  int count = 0;
};

constexpr Places kPlaces[] = {
    {"mget", 1, -1},
    {"del", 1, -1},
    {"unlink", 1, -1},
    {"exists", 1, -1},
    {"touch", 1, -1},
    {"watch", 1, -1},
    {"sinter", 1, -1},
    {"sunion", 1, -1},
    {"sdiff", 1, -1},
    {"sinterstore", 1, -1},
    {"sunionstore", 1, -1},
    {"sdiffstore", 1, -1},
    {"pfcount", 1, -1},
    {"pfmerge", 1, -1},
    {"ssubscribe", 1, -1},
    {"mset", 1, -1, 2},
    {"msetnx", 1, -1, 2},
    {"blpop", 1, -2},
    {"brpop", 1, -2},
    {"bzpopmin", 1, -2},
    {"bzpopmax", 1, -2},
    {"rename", 1, 2},
    {"renamenx", 1, 2},
    {"copy", 1, 2},
    {"smove", 1, 2},
    {"lmove", 1, 2},
    {"blmove", 1, 2},
    {"rpoplpush", 1, 2},
    {"brpoplpush", 1, 2},
    {"lcs", 1, 2},
    {"zrangestore", 1, 2},
    {"geosearchstore", 1, 2},
    {"bitop", 2, -1},
    {"object", 2, 2},
    {"memory", 2, 2},
    {"xinfo", 2, 2},
    {"xgroup", 2, 2},
    {"debug", 2, 2},
    {"zunionstore", 1, 1, 1, 2},
    {"zinterstore", 1, 1, 1, 2},
    {"zdiffstore", 1, 1, 1, 2},
    {"zunion", 0, 0, 1, 1},
    {"zinter", 0, 0, 1, 1},
    {"zdiff", 0, 0, 1, 1},
    {"zintercard", 0, 0, 1, 1},
    {"sintercard", 0, 0, 1, 1},
    {"lmpop", 0, 0, 1, 1},
    {"zmpop", 0, 0, 1, 1},
    {"blmpop", 0, 0, 1, 2},
    {"bzmpop", 0, 0, 1, 2},
    {"eval", 0, 0, 1, 2},
    {"eval_ro", 0, 0, 1, 2},
    {"evalsha", 0, 0, 1, 2},
    {"evalsha_ro", 0, 0, 1, 2},
    {"fcall", 0, 0, 1, 2},
    {"fcall_ro", 0, 0, 1, 2},
    {"migrate", 3, 3},
    {"xread", 0, 0},
    {"xreadgroup", 0, 0},
};

// Where a word of the command's own says that keys follow it.
struct Announced {
  absl::string_view command;
  absl::string_view word;
  // From where on such a word may stand.
  size_t from;
  // Only the next one; all; half of them, the others being places in them.
  enum { kNext, kAll, kHalf } how;
};

constexpr Announced kAnnounced[] = {
    {"sort", "store", 2, Announced::kNext},
    {"georadius", "store", 6, Announced::kNext},
    {"georadius", "storedist", 6, Announced::kNext},
    {"georadiusbymember", "store", 5, Announced::kNext},
    {"georadiusbymember", "storedist", 5, Announced::kNext},
    {"migrate", "keys", 6, Announced::kAll},
    {"xread", "streams", 1, Announced::kHalf},
    {"xreadgroup", "streams", 4, Announced::kHalf},
};

bool AnyAnnounced(const Announced& announced, const Words& words,
                  absl::FunctionRef<bool(absl::string_view)> key) {
  size_t at = announced.from;
  while (at < words.size() && !absl::EqualsIgnoreCase(words[at], announced.word)) ++at;
  if (at >= words.size()) return false;
  const size_t behind = words.size() - at - 1;
  size_t count = behind;
  if (announced.how == Announced::kNext) count = std::min<size_t>(behind, 1);
  if (announced.how == Announced::kHalf) count = behind / 2;
  for (size_t i = 1; i <= count; ++i) {
    if (key(words[at + i])) return true;
  }
  return false;
}

}  // namespace

bool AnyRedisKey(const Words& words, absl::FunctionRef<bool(absl::string_view)> key) {
  const absl::string_view command = words[0];
  Places places;
  for (const Places& known : kPlaces) {
    if (absl::EqualsIgnoreCase(command, known.command)) places = known;
  }
  const int size = static_cast<int>(words.size());
  const int last = std::min(size - 1, places.last < 0 ? size + places.last : places.last);
  for (int at = places.first; places.first > 0 && at <= last; at += places.step) {
    // No key, but the word that KEYS follow.
    if (words[static_cast<size_t>(at)].empty() && absl::EqualsIgnoreCase(command, "migrate")) break;
    if (key(words[static_cast<size_t>(at)])) return true;
  }
  int count = 0;
  const auto counted = static_cast<size_t>(places.count);
  if (counted > 0 && absl::SimpleAtoi(words[counted], &count) && count > 0) {
    for (size_t i = 1; i <= static_cast<size_t>(count) && counted + i < words.size(); ++i) {
      if (key(words[counted + i])) return true;
    }
  }
  return std::any_of(std::begin(kAnnounced), std::end(kAnnounced), [&](const Announced& one) {
    return absl::EqualsIgnoreCase(command, one.command) && AnyAnnounced(one, words, key);
  });
}

}  // namespace firedrill::wire
