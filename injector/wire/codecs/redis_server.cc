// What a Redis server says: where each answer ends, and which of it nobody asked for.
#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "injector/wire/codecs/redis_codec.h"

namespace firedrill::wire {

Piece RedisCodec::FromServer(absl::string_view bytes) {
  Commit();
  if (encrypted_ || !lost_.empty()) return {Step::kPass, bytes.size()};
  server_waits_ = false;
  size_t at = 0;
  while (at < bytes.size()) {
    if (!in_reply_) {
      const Start start = Begin(bytes, at);
      if (start == Start::kWrong) return Lose(lost_, bytes.size());
      if (start == Start::kMore) {
        server_waits_ = true;
        return PassedOr(at, {Step::kMore});
      }
      in_reply_ = true;
      is_push_ = start == Start::kPush;
      reply_type_ = 0;
      values_left_ = 1;
      cut_sent_ = 0;
    }
    Special* head = is_push_ ? nullptr : Head();
    if (head != nullptr && head->failing != nullptr) {
      return PassedOr(at, at > 0 ? Piece{} : Failed(bytes, head->failing.get()));
    }
    const Reached reached = Advance(bytes, &at);
    if (reached == Reached::kWrong) return Lose("the server does not speak RESP", bytes.size());
    if (reached == Reached::kMore) {
      if (at == 0) {
        server_waits_ = true;
        return {Step::kMore};
      }
      break;
    }
    in_reply_ = false;
    if (!is_push_) Answered();
  }
  return {Step::kPass, at};
}

// What begins here: an answer, or something that nobody asked for just now.
RedisCodec::Start RedisCodec::Begin(absl::string_view bytes, size_t at) {
  const Special* head = Head();
  const bool confirms =
      head != nullptr && head->effect == RedisEffect::kSubscribe && head->failing == nullptr;
  const bool listens = channels_ + shard_channels_ > 0;
  if (bytes[at] == '>' || (bytes[at] == '*' && !resp3_ && (confirms || listens))) {
    const Start start = BeginPush(bytes, at);
    if (start != Start::kReply) return start;
  }
  if (answered_ == asked_) {
    lost_ = "an answer that nobody asked for";
    return Start::kWrong;
  }
  if (head != nullptr && head->effect == RedisEffect::kEnd && head->failing == nullptr) {
    lost_ =
        "MONITOR, SYNC, CLIENT REPLY, or SUBSCRIBE, AUTH or HELLO in MULTI: answers cannot be "
        "followed";
    return Start::kWrong;
  }
  return Start::kReply;
}

// A message, or the confirmation of a subscription: its last value counts what is subscribed to.
RedisCodec::Start RedisCodec::BeginPush(absl::string_view bytes, size_t at) {
  const bool certain = bytes[at] == '>';
  int64_t count = 0;
  int64_t size = 0;
  const RedisNumber frame = ReadRedisNumber(bytes, &at, &count);
  if (frame == RedisNumber::kMore) return Start::kMore;
  if (frame == RedisNumber::kWrong || count <= 0) return certain ? Start::kPush : Start::kReply;
  if (at == bytes.size()) return Start::kMore;
  if (bytes[at] != '$') return certain ? Start::kPush : Start::kReply;
  const RedisNumber head = ReadRedisNumber(bytes, &at, &size);
  if (head == RedisNumber::kMore) return Start::kMore;
  if (head == RedisNumber::kWrong || size < 0 || size > 16) {
    return certain ? Start::kPush : Start::kReply;
  }
  if (bytes.size() - at < static_cast<size_t>(size) + 2) return Start::kMore;
  const absl::string_view what = bytes.substr(at, static_cast<size_t>(size));
  at += static_cast<size_t>(size) + 2;
  if (what == "message" || what == "pmessage" || what == "smessage") return Start::kPush;
  if (!absl::EndsWith(what, "subscribe") || count != 3) {
    return certain ? Start::kPush : Start::kReply;
  }
  // The channel, or nil of either version; then the number.
  if (at == bytes.size()) return Start::kMore;
  if (bytes[at] == '_') {
    size = -1;
    if (bytes.size() - at < 3) return Start::kMore;
    at += 3;
  } else {
    const RedisNumber channel = ReadRedisNumber(bytes, &at, &size);
    if (channel == RedisNumber::kMore) return Start::kMore;
    if (channel == RedisNumber::kWrong || size > int64_t{kMaxText} - 256) {
      lost_ = "a channel with too long a name";
      return Start::kWrong;
    }
    if (size >= 0) {
      if (bytes.size() - at < static_cast<size_t>(size) + 2) return Start::kMore;
      at += static_cast<size_t>(size) + 2;
    }
  }
  if (at >= bytes.size()) return Start::kMore;
  int64_t left = 0;
  const RedisNumber last = ReadRedisNumber(bytes, &at, &left);
  if (last == RedisNumber::kMore) return Start::kMore;
  if (last == RedisNumber::kRead) Confirm(what, left);
  return Start::kPush;
}

void RedisCodec::Confirm(absl::string_view what, int64_t count) {
  const bool shard = absl::StartsWith(what, "ssub") || absl::StartsWith(what, "sunsub");
  (shard ? shard_channels_ : channels_) = static_cast<uint64_t>(std::max<int64_t>(0, count));
  Special* head = Head();
  if (head == nullptr || head->effect != RedisEffect::kSubscribe || head->failing != nullptr)
    return;
  if (head->confirmations > 1) {
    --head->confirmations;
    return;
  }
  PopHead();
  ++answered_;
}

RedisCodec::Reached RedisCodec::Advance(absl::string_view bytes, size_t* at) {
  for (;;) {
    if (server_skip_ > 0) {
      const size_t count = std::min<uint64_t>(server_skip_, bytes.size() - *at);
      server_skip_ -= count;
      *at += count;
      if (server_skip_ > 0) return Reached::kMore;
    }
    if (server_line_) {
      const size_t end = bytes.find('\n', *at);
      if (end == absl::string_view::npos) {
        *at = bytes.size();
        return Reached::kMore;
      }
      *at = end + 1;
      server_line_ = false;
    }
    if (values_left_ == 0) return Reached::kEnd;
    if (*at == bytes.size()) return Reached::kMore;
    const char type = bytes[*at];
    const bool first = reply_type_ == 0;
    switch (type) {
      case '+':
      case '-':
      case ':':
      case '_':
      case ',':
      case '#':
      case '(':
        if (first) reply_type_ = type;
        --values_left_;
        server_line_ = true;
        continue;
      case '$':
      case '!':
      case '=':
      case '*':
      case '~':
      case '>':
      case '%':
      case '|':
        break;
      default:
        return Reached::kWrong;
    }
    int64_t number = 0;
    const RedisNumber read = ReadRedisNumber(bytes, at, &number);
    if (read == RedisNumber::kMore) return Reached::kMore;
    if (read == RedisNumber::kWrong || number < -1 || number > int64_t{UINT32_MAX} ||
        values_left_ > uint64_t{1} << 40) {
      return Reached::kWrong;
    }
    if (first) reply_type_ = number < 0 ? '_' : type;
    const uint64_t count = number > 0 ? static_cast<uint64_t>(number) : 0;
    // Attributes stand in front of the value that they are about.
    if (type != '|') --values_left_;
    if (type == '$' || type == '!' || type == '=') {
      if (number >= 0) server_skip_ = count + 2;
    } else {
      values_left_ += type == '%' || type == '|' ? 2 * count : count;
    }
  }
}

// An answer has ended.
void RedisCodec::Answered() {
  Special* head = Head();
  if (head != nullptr) {
    const bool error = reply_type_ == '-' || reply_type_ == '!';
    switch (head->effect) {
      case RedisEffect::kMulti:
        multi_ = multi_ || !error;
        if (error) asked_multi_ = multi_;
        break;
      case RedisEffect::kExec:
        multi_ = false;
        // Nothing of what was queued has been done.
        if (reply_type_ != '*') SetDatabase(head->database);
        break;
      case RedisEffect::kDiscard:
        multi_ = false;
        break;
      case RedisEffect::kReset:
        multi_ = resp3_ = false;
        channels_ = shard_channels_ = 0;
        user_ = "default";
        SetDatabase(0);
        break;
      case RedisEffect::kHello:
        if (!error) resp3_ = reply_type_ == '%';
        if (error && head->user != nullptr) user_.swap(*head->user);
        break;
      case RedisEffect::kAuth:
        if (error && head->user != nullptr) user_.swap(*head->user);
        break;
      case RedisEffect::kSelect:
        if (error) SetDatabase(head->database);
        break;
      default:
        break;
    }
    PopHead();
  }
  ++answered_;
}

// The answer of a request that was failed: drops it as it comes, or lets its beginning through.
Piece RedisCodec::Failed(absl::string_view bytes, Failing* failing) {
  size_t at = 0;
  const Reached reached = Advance(bytes, &at);
  if (reached == Reached::kWrong) return Lose("the server does not speak RESP", bytes.size());
  const bool ended = reached == Reached::kEnd;
  if (failing->cut) {
    const uint32_t room = failing->cut_after - cut_sent_;
    if (ended && at <= room) {
      in_reply_ = false;
      Answered();
      return {Step::kPass, at};
    }
    if (at >= room) {
      return {Step::kCut, std::max<size_t>(at, 1), {}, bytes.substr(0, std::min<size_t>(room, at))};
    }
    if (at == 0) return {Step::kMore};
    cut_sent_ += static_cast<uint32_t>(at);
    return {Step::kPass, at};
  }
  if (!ended) return at == 0 ? Piece{Step::kMore} : Piece{Step::kReplace, at};
  in_reply_ = false;
  last_reply_.swap(failing->reply);
  Answered();
  return {Step::kReplace, at, {}, last_reply_};
}

}  // namespace firedrill::wire
