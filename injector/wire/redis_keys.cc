// Where each command has its keys, as `COMMAND INFO` of Redis 7.0 tells.
#include "injector/wire/redis_keys.h"

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
};

absl::string_view TakeWord(absl::string_view* words) {
  while (!words->empty() && words->front() == ' ') words->remove_prefix(1);
  const absl::string_view word = words->substr(0, words->find(' '));
  words->remove_prefix(word.size());
  return word;
}

int CountWords(absl::string_view words) {
  int count = 0;
  while (!TakeWord(&words).empty()) ++count;
  return count;
}

// XREAD and XREADGROUP: STREAMS, the keys, and as many places in them.
bool AnyStream(absl::string_view words, absl::FunctionRef<bool(absl::string_view)> key) {
  for (;;) {
    const absl::string_view word = TakeWord(&words);
    if (word.empty()) return false;
    if (absl::EqualsIgnoreCase(word, "streams")) break;
  }
  for (int left = CountWords(words) / 2; left > 0; --left) {
    if (key(TakeWord(&words))) return true;
  }
  return false;
}

}  // namespace

bool AnyRedisKey(absl::string_view command, absl::string_view words,
                 absl::FunctionRef<bool(absl::string_view)> key) {
  if (absl::EqualsIgnoreCase(command, "xread") || absl::EqualsIgnoreCase(command, "xreadgroup")) {
    return AnyStream(words, key);
  }
  Places places;
  for (const Places& known : kPlaces) {
    if (absl::EqualsIgnoreCase(command, known.command)) places = known;
  }
  const int last = places.last < 0 ? CountWords(words) + 1 + places.last : places.last;
  int counted_until = 0;
  for (int at = 1;; ++at) {
    const absl::string_view word = TakeWord(&words);
    if (word.empty()) return false;
    const bool placed = places.first > 0 && at >= places.first && at <= last &&
                        (at - places.first) % places.step == 0;
    if ((placed || at <= counted_until) && key(word)) return true;
    int count = 0;
    if (at == places.count && absl::SimpleAtoi(word, &count)) counted_until = at + count;
  }
}

}  // namespace firedrill::wire
