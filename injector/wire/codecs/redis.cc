// RESP2 and RESP3. Answers are counted to know whose they are. A request that is to fail goes to
// the server as a command that it does not know, and the error that comes back is worded anew: so
// answers stay in order, and an open MULTI is spoilt as a true error spoils it.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "injector/wire/codecs.h"
#include "injector/wire/codecs/redis_commands.h"
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

struct Failing {
  bool cut = false;
  uint32_t cut_after = 0;
  std::string reply;
};

// An answer to come that means something.
struct Special {
  uint64_t at = 0;
  RedisEffect effect = RedisEffect::kNone;
  uint32_t confirmations = 0;
  // What was selected before, once this one counts.
  int64_t database = 0;
  std::unique_ptr<std::string> user;
  std::unique_ptr<Failing> failing;
};

enum class Number { kRead, kMore, kWrong };

// Reads "<type><number>\r\n" at `*at`, and moves behind it.
Number ReadNumber(absl::string_view bytes, size_t* at, int64_t* value) {
  const absl::string_view there = bytes.substr(*at, kMaxHeader);
  const size_t end = there.find('\n');
  if (end == absl::string_view::npos) {
    return there.size() < kMaxHeader ? Number::kMore : Number::kWrong;
  }
  if (end < 2 || there[end - 1] != '\r' || !absl::SimpleAtoi(there.substr(1, end - 2), value)) {
    return Number::kWrong;
  }
  *at += end + 1;
  return Number::kRead;
}

class RedisCodec final : public Codec {
 public:
  Piece FromClient(absl::string_view bytes) override;
  Piece FromServer(absl::string_view bytes) override;
  std::optional<Substitute> Fail(const v1::QueryFailure& failure) override;
  bool Quiet() const override {
    return asked_ == answered_ && !multi_ && channels_ == 0 && shard_channels_ == 0 &&
           !client_waits_ && words_left_ == 0 && client_skip_ == 0 && !client_line_ &&
           !server_waits_ && !in_reply_;
  }
  bool encrypted() const override { return encrypted_; }
  absl::string_view lost() const override { return lost_; }

 private:
  struct Command {
    RedisWords words;
    size_t length = 0;
    bool cut = false;
  };

  Piece Lose(absl::string_view why, size_t length);
  // Effects of a request begin only when it is certain that it was not failed.
  void Commit();
  void SetDatabase(int64_t number);
  Special* Head();
  void PopHead();

  // Client's side.
  Piece Rest(absl::string_view bytes);
  Piece ReadArray(absl::string_view bytes);
  Piece ReadLine(absl::string_view bytes);
  Piece More() {
    client_waits_ = true;
    return {Step::kMore};
  }
  Piece Ask(const Command& command, absl::string_view bytes);

  // Server's side.
  enum class Reached { kEnd, kMore, kWrong };
  Reached Advance(absl::string_view bytes, size_t* at);
  enum class Start { kReply, kPush, kMore, kWrong };
  Start Begin(absl::string_view bytes, size_t at);
  Start BeginPush(absl::string_view bytes, size_t at);
  void Confirm(absl::string_view what, int64_t count);
  void Answered();
  Piece Failed(absl::string_view bytes, Failing* failing);
  Piece PassedOr(size_t passed, Piece otherwise) {
    return passed > 0 ? Piece{Step::kPass, passed} : otherwise;
  }

  uint64_t asked_ = 0;
  uint64_t answered_ = 0;
  std::vector<Special> special_;
  size_t first_special_ = 0;
  std::string user_ = "default";
  char database_[20] = "0";
  int64_t database_number_ = 0;
  absl::string_view lost_;
  absl::string_view last_request_;
  std::string last_reply_;
  uint64_t channels_ = 0;
  uint64_t shard_channels_ = 0;

  // Of a command that goes on: words to come, and bytes of the one that has begun.
  uint64_t words_left_ = 0;
  uint64_t client_skip_ = 0;
  // Of a reply that has begun: values to come, and bytes of the one that has begun.
  uint64_t values_left_ = 0;
  uint64_t server_skip_ = 0;
  uint32_t cut_sent_ = 0;
  char reply_type_ = 0;
  RedisEffect last_effect_ = RedisEffect::kNone;

  bool begun_ = false;
  bool encrypted_ = false;
  bool client_waits_ = false;
  bool client_line_ = false;
  bool drop_rest_ = false;
  bool uncommitted_ = false;
  bool can_fail_ = false;
  bool server_waits_ = false;
  bool server_line_ = false;
  bool in_reply_ = false;
  bool is_push_ = false;
  bool resp3_ = false;
  bool multi_ = false;
};

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
  if (last.effect == RedisEffect::kSelect) {
    const int64_t number = last.database;
    last.database = database_number_;
    SetDatabase(number);
  } else if (last.user != nullptr) {
    user_.swap(*last.user);
  }
}

Special* RedisCodec::Head() {
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
  if (words_left_ > 0 || client_skip_ > 0 || client_line_) return Rest(bytes);
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
      const Number read = bytes[at] == '$' ? ReadNumber(bytes, &at, &size) : Number::kWrong;
      if (read == Number::kMore) break;
      if (read == Number::kWrong || size < 0 || size > int64_t{kMaxBulk}) {
        return Lose("the client does not speak RESP", bytes.size());
      }
      --words_left_;
      client_skip_ = static_cast<uint64_t>(size) + 2;
    } else {
      break;
    }
  }
  if (at == 0) return More();
  return {drop_rest_ ? Step::kReplace : Step::kPass, at};
}

Piece RedisCodec::ReadArray(absl::string_view bytes) {
  Command command;
  size_t at = 0;
  int64_t count = 0;
  const Number first = ReadNumber(bytes, &at, &count);
  if (first == Number::kMore) return More();
  if (first == Number::kWrong || count > int64_t{kMaxWords}) {
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
    const Number read = at == bytes.size() ? Number::kMore
                        : bytes[at] != '$' ? Number::kWrong
                                           : ReadNumber(bytes, &at, &size);
    if (read == Number::kWrong || size < 0 || size > int64_t{kMaxBulk}) {
      return Lose("the client does not speak RESP", bytes.size());
    }
    if (read == Number::kMore) {
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
    if (read_words > 0) text.Append(" ");
    text.Append(word);
    if (read_words < 6) command.words.first[read_words] = word;
  }
  command.words.count = static_cast<uint64_t>(count);
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
  for (size_t at = 0; at < line.size();) {
    size_t stop = line.find_first_of(" \t", at);
    if (stop == absl::string_view::npos) stop = line.size();
    if (stop > at && command.words.count++ < 6) {
      command.words.first[command.words.count - 1] = line.substr(at, stop - at);
    }
    at = stop + 1;
  }
  if (command.words.count == 0 && !client_line_) return {Step::kPass, command.length};
  ScratchText& text = ScratchText::OfThread();
  text.Clear();
  text.Append(line);
  return Ask(command, bytes);
}

Piece RedisCodec::Ask(const Command& command, absl::string_view bytes) {
  drop_rest_ = false;
  last_effect_ = EffectOf(command.words);
  // Their confirmations would stand inside the answer to EXEC.
  if (last_effect_ == RedisEffect::kSubscribe && multi_) last_effect_ = RedisEffect::kEnd;
  Piece piece{Step::kRequest, command.length};
  piece.request.text = ScratchText::OfThread().text();
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
      special.confirmations = static_cast<uint32_t>(command.words.count - 1);
    } else if (last_effect_ == RedisEffect::kSelect) {
      (void)absl::SimpleAtoi(command.words[1], &special.database);
      uncommitted_ = true;
    } else if (last_effect_ == RedisEffect::kAuth || last_effect_ == RedisEffect::kHello) {
      if (std::string user = UserOf(command.words); !user.empty()) {
        special.user = std::make_unique<std::string>(std::move(user));
        uncommitted_ = true;
      }
    }
    special_.push_back(std::move(special));
  }
  ++asked_;
  can_fail_ = true;
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
  uncommitted_ = false;
  special.user.reset();
  drop_rest_ = true;
  // A transaction whose EXEC is refused is over, and its client is told in these words.
  if (effect == RedisEffect::kExec) {
    special.failing->reply = absl::StrCat("-EXECABORT Transaction discarded because of: ",
                                          special.failing->reply.substr(1));
    return Substitute{kDiscardCommand};
  }
  special.effect = RedisEffect::kNone;
  return Substitute{kUnknownCommand};
}

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
      reply_type_ = bytes[at];
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
    lost_ = "MONITOR, SYNC, CLIENT REPLY or SUBSCRIBE in MULTI: answers cannot be counted";
    return Start::kWrong;
  }
  return Start::kReply;
}

// A message, or the confirmation of a subscription: its last value counts what is subscribed to.
RedisCodec::Start RedisCodec::BeginPush(absl::string_view bytes, size_t at) {
  const bool certain = bytes[at] == '>';
  int64_t count = 0;
  int64_t size = 0;
  const Number frame = ReadNumber(bytes, &at, &count);
  if (frame == Number::kMore) return Start::kMore;
  if (frame == Number::kWrong || count <= 0) return certain ? Start::kPush : Start::kReply;
  if (at == bytes.size()) return Start::kMore;
  if (bytes[at] != '$') return certain ? Start::kPush : Start::kReply;
  const Number head = ReadNumber(bytes, &at, &size);
  if (head == Number::kMore) return Start::kMore;
  if (head == Number::kWrong || size < 0 || size > 16) {
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
    const Number channel = ReadNumber(bytes, &at, &size);
    if (channel == Number::kMore) return Start::kMore;
    if (channel == Number::kWrong || size > int64_t{kMaxText} - 256) {
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
  const Number last = ReadNumber(bytes, &at, &left);
  if (last == Number::kMore) return Start::kMore;
  if (last == Number::kRead) Confirm(what, left);
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
    switch (type) {
      case '+':
      case '-':
      case ':':
      case '_':
      case ',':
      case '#':
      case '(':
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
    const Number read = ReadNumber(bytes, at, &number);
    if (read == Number::kMore) return Reached::kMore;
    if (read == Number::kWrong || number < -1 || number > int64_t{UINT32_MAX} ||
        values_left_ > uint64_t{1} << 40) {
      return Reached::kWrong;
    }
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
        break;
      case RedisEffect::kExec:
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
    if (at >= room || ended) {
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

}  // namespace

std::unique_ptr<Codec> MakeRedisCodec() { return std::make_unique<RedisCodec>(); }

}  // namespace firedrill::wire
