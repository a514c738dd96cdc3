// What a client of Redis says, and what it means for the answers to come.
#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "injector/wire/codecs.h"
#include "injector/wire/codecs/redis_codec.h"
#include "injector/wire/codecs/scratch_text.h"

namespace firedrill::wire {
namespace {

// "*123\r\n": a longer one is no number.
constexpr size_t kMaxHeader = 32;
constexpr uint64_t kMaxWords = 1024 * 1024;
constexpr uint64_t kMaxBulk = uint64_t{4} << 30;
// Answers under way that are more than counted.
constexpr size_t kMaxSpecial = 16 * 1024;
// So many may stay allocated in a connection at rest.
constexpr size_t kFewSpecial = 8;

constexpr absl::string_view kUnknownCommand = "*1\r\n$9\r\nFIREDRILL\r\n";
constexpr absl::string_view kDiscardCommand = "*1\r\n$7\r\nDISCARD\r\n";

}  // namespace

RedisNumber ReadRedisNumber(absl::string_view bytes, size_t* at, int64_t* value) {
  const absl::string_view there = bytes.substr(*at, kMaxHeader);
  const size_t end = there.find('\n');
  if (end == absl::string_view::npos) {
    return there.size() < kMaxHeader ? RedisNumber::kMore : RedisNumber::kWrong;
  }
  if (end < 2 || there[end - 1] != '\r' || !absl::SimpleAtoi(there.substr(1, end - 2), value)) {
    return RedisNumber::kWrong;
  }
  *at += end + 1;
  return RedisNumber::kRead;
}

Piece RedisCodec::Lose(absl::string_view why, size_t length) {
  lost_ = why;
  std::vector<Special>().swap(special_);
  first_special_ = 0;
  return {Step::kPass, length};
}

void RedisCodec::SetDatabase(int64_t number) {
  database_number_ = number;
  const absl::AlphaNum text(number);
  std::memcpy(database_, text.data(), std::min(text.size(), sizeof database_ - 1));
  database_[std::min(text.size(), sizeof database_ - 1)] = 0;
}

void RedisCodec::Commit() {
  can_fail_ = false;
  if (!last_reply_.empty()) std::string().swap(last_reply_);
  if (!uncommitted_) return;
  uncommitted_ = false;
  Special& last = special_.back();
  const int64_t selected = last.database;
  last.database = database_number_;
  if (last.user != nullptr) user_.swap(*last.user);
  switch (last.effect) {
    case RedisEffect::kSelect:
      SetDatabase(selected);
      break;
    case RedisEffect::kMulti:
      if (!asked_multi_) before_multi_ = database_number_;
      asked_multi_ = true;
      break;
    case RedisEffect::kExec:
      if (asked_multi_) last.database = before_multi_;
      asked_multi_ = false;
      break;
    case RedisEffect::kDiscard:
      if (asked_multi_) SetDatabase(before_multi_);
      asked_multi_ = false;
      break;
    case RedisEffect::kReset:
      asked_multi_ = false;
      break;
    default:
      break;
  }
}

RedisCodec::Special* RedisCodec::Head() {
  if (first_special_ == special_.size() || special_[first_special_].at != answered_) return nullptr;
  return &special_[first_special_];
}

void RedisCodec::PopHead() {
  if (++first_special_ == special_.size()) {
    first_special_ = 0;
    special_.clear();
    if (special_.capacity() > kFewSpecial) special_.shrink_to_fit();
  } else if (first_special_ > kMaxSpecial / 2) {
    special_.erase(special_.begin(), special_.begin() + static_cast<ptrdiff_t>(first_special_));
    first_special_ = 0;
  }
}

Piece RedisCodec::FromClient(absl::string_view bytes) {
  Commit();
  if (encrypted_ || !lost_.empty()) return {Step::kPass, bytes.size()};
  client_waits_ = false;
  if (!begun_) {
    begun_ = true;
    if (bytes[0] == '\x16') {
      encrypted_ = true;
      return {Step::kPass, bytes.size()};
    }
  }
  if (!Whole()) return Rest(bytes);
  return bytes[0] == '*' ? ReadArray(bytes) : ReadLine(bytes);
}

// What is left of a command that was announced by its beginning.
Piece RedisCodec::Rest(absl::string_view bytes) {
  size_t at = 0;
  while (at < bytes.size()) {
    if (client_line_) {
      const size_t end = bytes.find('\n', at);
      client_line_ = end == absl::string_view::npos;
      at = client_line_ ? bytes.size() : end + 1;
      if (!client_line_) break;
    } else if (client_skip_ > 0) {
      const size_t count = std::min<uint64_t>(client_skip_, bytes.size() - at);
      client_skip_ -= count;
      at += count;
    } else if (words_left_ > 0) {
      int64_t size = 0;
      const RedisNumber read =
          bytes[at] == '$' ? ReadRedisNumber(bytes, &at, &size) : RedisNumber::kWrong;
      if (read == RedisNumber::kMore) break;
      if (read == RedisNumber::kWrong || size < 0 || size > int64_t{kMaxBulk}) {
        return Lose("the client does not speak RESP", bytes.size());
      }
      --words_left_;
      client_skip_ = static_cast<uint64_t>(size) + 2;
    } else {
      break;
    }
  }
  if (at == 0) return More();
  if (!drop_rest_) return {Step::kPass, at};
  return {Step::kReplace, at, {}, Whole() ? tail_ : absl::string_view()};
}

Piece RedisCodec::ReadArray(absl::string_view bytes) {
  Command command;
  size_t at = 0;
  int64_t count = 0;
  const RedisNumber first = ReadRedisNumber(bytes, &at, &count);
  if (first == RedisNumber::kMore) return More();
  if (first == RedisNumber::kWrong || count > int64_t{kMaxWords}) {
    return Lose("the client does not speak RESP", bytes.size());
  }
  // The server does not answer this.
  if (count <= 0) return {Step::kPass, at};
  ScratchText& text = ScratchText::OfThread();
  text.Clear();
  const bool enough = bytes.size() >= kMaxText;
  uint64_t skip = 0;
  int64_t read_words = 0;
  for (; read_words < count && skip == 0; ++read_words) {
    int64_t size = 0;
    const size_t header = at;
    const RedisNumber read = at == bytes.size() ? RedisNumber::kMore
                             : bytes[at] != '$' ? RedisNumber::kWrong
                                                : ReadRedisNumber(bytes, &at, &size);
    if (read == RedisNumber::kWrong || size < 0 || size > int64_t{kMaxBulk}) {
      return Lose("the client does not speak RESP", bytes.size());
    }
    if (read == RedisNumber::kMore) {
      if (!enough) return More();
      at = header;
      break;
    }
    const absl::string_view word = bytes.substr(at, static_cast<size_t>(size));
    const uint64_t whole = static_cast<uint64_t>(size) + 2;
    const uint64_t there = std::min<uint64_t>(whole, bytes.size() - at);
    if (there < whole && !enough) return More();
    skip = whole - there;
    at += there;
    text.AppendWord(word);
  }
  command.words = static_cast<uint64_t>(count);
  command.length = at;
  command.cut = text.cut() || read_words < count || skip > 2;
  words_left_ = static_cast<uint64_t>(count - read_words);
  client_skip_ = skip;
  return Ask(command, bytes);
}

// A command without a frame, as people type them.
Piece RedisCodec::ReadLine(absl::string_view bytes) {
  const size_t end = bytes.find('\n');
  if (end == absl::string_view::npos && bytes.size() < kMaxText) return More();
  Command command;
  client_line_ = end == absl::string_view::npos;
  command.length = client_line_ ? bytes.size() : end + 1;
  command.cut = client_line_ || end > kMaxText;
  const absl::string_view line =
      absl::StripAsciiWhitespace(bytes.substr(0, std::min(command.length, kMaxText)));
  ScratchText& text = ScratchText::OfThread();
  text.Clear();
  for (const absl::string_view word : absl::StrSplit(line, absl::ByAnyChar(" \t"))) {
    if (word.empty()) continue;
    text.AppendWord(word);
    ++command.words;
  }
  if (command.words == 0 && !client_line_) return {Step::kPass, command.length};
  return Ask(command, bytes);
}

Piece RedisCodec::Ask(const Command& command, absl::string_view bytes) {
  drop_rest_ = false;
  const ScratchText& text = ScratchText::OfThread();
  const Words words = text.words();
  last_effect_ = EffectOf(words);
  // Their answers would stand inside the one to EXEC.
  const bool queued = last_effect_ == RedisEffect::kSubscribe ||
                      last_effect_ == RedisEffect::kAuth || last_effect_ == RedisEffect::kHello;
  if (queued && asked_multi_) last_effect_ = RedisEffect::kEnd;
  Piece piece{Step::kRequest, command.length};
  piece.request.text = text.text();
  piece.request.words = words;
  piece.request.cut = command.cut;
  piece.request.user = user_;
  piece.request.database = database_;
  if (last_effect_ != RedisEffect::kNone) {
    if (special_.size() - first_special_ >= kMaxSpecial) {
      return Lose("too many commands under way", bytes.size());
    }
    Special special;
    special.at = asked_;
    special.effect = last_effect_;
    if (last_effect_ == RedisEffect::kSubscribe) {
      special.confirmations = static_cast<uint32_t>(command.words - 1);
    } else if (last_effect_ == RedisEffect::kSelect) {
      (void)absl::SimpleAtoi(words[1], &special.database);
    } else if (last_effect_ == RedisEffect::kAuth || last_effect_ == RedisEffect::kHello) {
      if (std::string user = UserOf(words); !user.empty()) {
        special.user = std::make_unique<std::string>(std::move(user));
      }
    }
    special_.push_back(std::move(special));
    uncommitted_ = true;
  }
  ++asked_;
  can_fail_ = true;
  piece.goodbye = absl::EqualsIgnoreCase(words[0], "QUIT");
  last_request_ = bytes.substr(0, command.length);
  return piece;
}

std::optional<Substitute> RedisCodec::Fail(const v1::QueryFailure& failure) {
  if (!can_fail_ || encrypted_ || !lost_.empty()) return std::nullopt;
  const bool cut = failure.how_case() == v1::QueryFailure::kCutAfter;
  const bool executes = cut || failure.moment() == v1::FAILURE_MOMENT_AFTER;
  const RedisEffect effect = last_effect_;
  // Their answer is not one reply, or the client would not understand what comes after it.
  if (executes && (effect == RedisEffect::kSubscribe || effect == RedisEffect::kEnd ||
                   effect == RedisEffect::kHello)) {
    return std::nullopt;
  }
  if (effect == RedisEffect::kNone) {
    if (special_.size() - first_special_ >= kMaxSpecial) return std::nullopt;
    special_.emplace_back();
    special_.back().at = asked_ - 1;
  }
  can_fail_ = false;
  Special& special = special_.back();
  special.failing = std::make_unique<Failing>();
  if (cut) {
    special.failing->cut = true;
    special.failing->cut_after = failure.cut_after();
  } else {
    special.failing->reply = RedisErrorReply(failure);
  }
  if (executes) return Substitute{last_request_};
  // A transaction whose EXEC is refused is over, and its client is told in these words.
  if (effect == RedisEffect::kExec) {
    special.effect = RedisEffect::kDiscard;
    special.failing->reply = absl::StrCat("-EXECABORT Transaction discarded because of: ",
                                          special.failing->reply.substr(1));
    return Instead(kDiscardCommand);
  }
  uncommitted_ = false;
  special.user.reset();
  special.effect = RedisEffect::kNone;
  return Instead(kUnknownCommand);
}

// A server answers once it has a command whole: where some of it is still to come, what goes
// instead does not end before it. What holds the request up holds the first byte.
Substitute RedisCodec::Instead(absl::string_view command) {
  if (Whole()) return Substitute{command};
  drop_rest_ = true;
  tail_ = command.substr(1);
  return Substitute{command.substr(0, 1)};
}

// Thousands of connections rest at a time.
static_assert(sizeof(RedisCodec) <= 320);

std::unique_ptr<Codec> MakeRedisCodec() { return std::make_unique<RedisCodec>(); }

}  // namespace firedrill::wire
