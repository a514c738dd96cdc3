// What a server of MySQL or MariaDB says: where each answer ends, and what it means.
#include <algorithm>
#include <utility>

#include "injector/wire/codecs/mysql_codec.h"

namespace firedrill::wire {
namespace {

// All that is ever looked at of a packet but a greeting.
constexpr uint32_t kLook = 32;
// Prepared statements of one connection.
constexpr size_t kMaxStatements = 4096;
constexpr size_t kMaxStatementBytes = 1024 * 1024;

constexpr uint8_t kOk = 0x00;
constexpr uint8_t kLocalFile = 0xfb;
constexpr uint8_t kEof = 0xfe;
constexpr uint8_t kErr = 0xff;

uint8_t First(absl::string_view payload) {
  return payload.empty() ? 0 : static_cast<uint8_t>(payload[0]);
}

// MariaDB tells of a long statement's progress in the dress of an error.
bool IsProgress(absl::string_view payload) {
  return payload.size() >= 3 && payload.substr(0, 3) == "\xff\xff\xff";
}

}  // namespace

Piece MysqlCodec::FromServer(absl::string_view bytes) {
  can_fail_ = false;
  if (refused_) return {Step::kReplace, bytes.size()};
  if (encrypted_ || !lost_.empty()) return {Step::kPass, bytes.size()};
  server_waits_ = false;
  size_t at = 0;
  while (at < bytes.size()) {
    if (Asked* head = Head(); head != nullptr && head->failing != nullptr) {
      if (at > 0) break;
      const Piece piece = Failed(bytes, head);
      server_waits_ = piece.step == Step::kMore;
      return piece;
    }
    const Reached reached = Advance(bytes, &at);
    if (reached == Reached::kWrong) {
      return Lose(lost_.empty() ? "an answer that does not fit its command" : lost_, bytes.size());
    }
    if (reached == Reached::kMore) break;
    const uint64_t killed = reached == Reached::kEnd ? Answered() : 0;
    if (killed != 0) return {Step::kCancel, at, {}, {}, killed};
    if (!lost_.empty()) return {Step::kPass, bytes.size()};
  }
  if (at > 0) return {Step::kPass, at};
  server_waits_ = true;
  return {Step::kMore};
}

size_t MysqlCodec::Wanted(absl::string_view payload, uint32_t size) const {
  if (server_continues_ || at_ == At::kDefinitions) return 0;
  if (phase_ != Phase::kSession) return size;
  if (at_ == At::kRows) {
    if (payload.empty()) return std::min(size, 1u);
    if (First(payload) != kEof && First(payload) != kErr) return 1;
  }
  return std::min(size, kLook);
}

MysqlCodec::Reached MysqlCodec::Advance(absl::string_view bytes, size_t* at) {
  if (server_skip_ == 0) {
    const absl::string_view rest = bytes.substr(*at);
    if (rest.size() < kMysqlHeader) return Reached::kMore;
    const uint32_t size = MysqlSizeOf(rest);
    const absl::string_view payload = rest.substr(kMysqlHeader, size);
    const size_t wanted = Wanted(payload, size);
    if (wanted > kMaxText - kMysqlHeader) return Reached::kWrong;
    if (payload.size() < wanted) return Reached::kMore;
    in_answer_ = true;
    server_sequence_ = static_cast<uint8_t>(rest[3]);
    if (!server_continues_ && !Interpret(payload, size)) return Reached::kWrong;
    server_continues_ = size == kMysqlMaxPacket;
    server_skip_ = size + kMysqlHeader;
  }
  const size_t count = std::min<size_t>(server_skip_, bytes.size() - *at);
  *at += count;
  server_skip_ -= static_cast<uint32_t>(count);
  return server_skip_ > 0 ? Reached::kMore : PacketDone();
}

MysqlCodec::Reached MysqlCodec::PacketDone() {
  if (server_continues_ || !ending_) return Reached::kPacket;
  ending_ = false;
  return Reached::kEnd;
}

bool MysqlCodec::Interpret(absl::string_view payload, uint32_t size) {
  if (phase_ == Phase::kGreeting) {
    // Turned away by the server itself.
    if (First(payload) == kErr) return true;
    const auto greeting = ReadGreeting(payload);
    if (!greeting.has_value()) return false;
    capabilities_ = greeting->capabilities;
    session_ = greeting->session;
    phase_ = Phase::kLogin;
    return true;
  }
  const Asked* head = Head();
  // A farewell, such as of a server that shuts down.
  if (head == nullptr) return First(payload) == kErr;
  return InterpretAnswer(head->answer, payload, size);
}

bool MysqlCodec::InterpretAnswer(Answer answer, absl::string_view payload, uint32_t size) {
  const uint8_t first = First(payload);
  if (at_ == At::kDefinitions) {
    if (--definitions_left_ > 0) return true;
    if (answer == Answer::kPrepared) {
      ending_ = true;
    } else {
      at_ = (capabilities_ & kDeprecateEof) != 0 ? At::kRows : At::kDefinitionsEnd;
    }
    return true;
  }
  if (first == kErr && size > 2) {
    if (IsProgress(payload)) return true;
    error_ = ending_ = true;
    return true;
  }
  if (at_ == At::kDefinitionsEnd) {
    if (first != kEof) return false;
    const uint16_t status = EofStatus(payload);
    if ((status & kCursorExists) != 0) {
      EndOfResult(status);
    } else {
      at_ = At::kRows;
    }
    return true;
  }
  const bool deprecated = (capabilities_ & kDeprecateEof) != 0;
  if (at_ == At::kRows || answer == Answer::kRows || answer == Answer::kColumns) {
    const bool end = first == kEof && (deprecated ? size < kMysqlMaxPacket : size < 9);
    // Five bytes are an EOF of old, whatever was agreed upon.
    if (!end) return true;
    EndOfResult(size == 5 || !deprecated ? EofStatus(payload) : OkStatus(payload));
    ending_ = ending_ || answer != Answer::kResults;
    return true;
  }
  return InterpretFirst(payload, size);
}

bool MysqlCodec::InterpretFirst(absl::string_view payload, uint32_t size) {
  const Asked* head = Head();
  const uint8_t first = First(payload);
  switch (head->answer) {
    case Answer::kLogin:
      if (first == kOk) {
        SeeStatus(OkStatus(payload));
        ending_ = true;
      }
      return true;
    case Answer::kPrepared: {
      if (first != kOk || size < 9) return false;
      MysqlReader reader(payload);
      reader.Bytes(1);
      prepared_ = static_cast<uint32_t>(reader.Number(4));
      const uint64_t columns = reader.Number(2);
      const uint64_t parameters = reader.Number(2);
      const uint64_t ends = (capabilities_ & kDeprecateEof) != 0 ? 0 : 1;
      definitions_left_ =
          columns + (columns > 0 ? ends : 0) + parameters + (parameters > 0 ? ends : 0);
      ending_ = definitions_left_ == 0;
      if (!ending_) at_ = At::kDefinitions;
      return true;
    }
    case Answer::kResults:
      break;
    default:
      if (first == kOk && size >= 7) SeeStatus(OkStatus(payload));
      ending_ = true;
      return true;
  }
  if (first == kOk) {
    EndOfResult(OkStatus(payload));
    return true;
  }
  if (first == kLocalFile) {
    local_file_ = true;
    return true;
  }
  if ((capabilities_ & kOptionalMetadata) != 0) {
    lost_ = "optional metadata";
    return false;
  }
  MysqlReader reader(payload);
  definitions_left_ = reader.Lenenc();
  if (!reader.ok() || definitions_left_ == 0 || definitions_left_ > 0xffff) return false;
  const bool cached =
      (capabilities_ & kCacheMetadata) != 0 && !reader.rest().empty() && reader.rest()[0] == 0;
  at_ = At::kDefinitions;
  if (cached) at_ = (capabilities_ & kDeprecateEof) != 0 ? At::kRows : At::kDefinitionsEnd;
  return true;
}

void MysqlCodec::SeeStatus(uint16_t status) {
  in_transaction_ = (status & kInTransaction) != 0;
  backslashes_ = (status & kNoBackslashEscapes) == 0;
}

void MysqlCodec::EndOfResult(uint16_t status) {
  SeeStatus(status);
  at_ = At::kFirst;
  ending_ = (status & kMoreResults) == 0;
}

void MysqlCodec::Keep(uint64_t key, Words* words) {
  Drop(key);
  statements_size_ += words->text.size();
  if (statements_.size() >= kMaxStatements || statements_size_ > kMaxStatementBytes) {
    Lose("too many prepared statements", 0);
    return;
  }
  statements_[key] = {std::move(words->text), 0, 0, words->cut};
}

void MysqlCodec::Drop(uint64_t key) {
  const auto found = statements_.find(key);
  if (found == statements_.end()) return;
  statements_size_ -= found->second.text.size();
  statements_.erase(found);
}

// An answer has ended. Of a KILL QUERY that the server has accepted, whom it was about.
uint64_t MysqlCodec::Answered() {
  Asked* head = Head();
  at_ = At::kFirst;
  in_answer_ = false;
  cut_sent_ = 0;
  keep_sequence_ = false;
  if (std::exchange(error_, false) || head == nullptr) {
    if (head == nullptr) return 0;
    if (head->effect == Effect::kNames || head->effect == Effect::kForgetsName) {
      Drop(head->words->key);
    } else if (head->effect == Effect::kForgetsNames) {
      ForgetNames();
    }
    ++first_asked_;
    return 0;
  }
  const Asked asked = std::move(*head);
  ++first_asked_;
  switch (asked.effect) {
    case Effect::kNone:
      break;
    case Effect::kDatabase:
      database_ = std::move(asked.words->text);
      ++generation_;
      break;
    case Effect::kPrepared:
      last_statement_ = prepared_;
      Keep(prepared_, asked.words.get());
      break;
    case Effect::kNames:
      names_ = true;
      Keep(asked.words->key, asked.words.get());
      break;
    case Effect::kForgetsName:
      Drop(asked.words->key);
      break;
    case Effect::kForgetsNames:
      ForgetNames();
      break;
    case Effect::kKills:
      return asked.words->key;
    case Effect::kForgetsStatements:
      ForgetStatements();
      ++generation_;
      break;
    case Effect::kLogin:
      ForgetStatements();
      ++generation_;
      if (asked.words != nullptr) {
        user_ = std::move(asked.words->user);
        database_ = std::move(asked.words->text);
      }
      if ((capabilities_ & (kCompress | kCompressZstd)) != 0) Lose("the stream is compressed", 0);
      break;
  }
  return 0;
}

// The answer of a request that was failed: dropped as it comes, but for what the client must do so
// that the server can get on.
Piece MysqlCodec::Failed(absl::string_view bytes, Asked* head) {
  if (head->failing->cut) return Cut(bytes, head->failing.get());
  size_t at = 0;
  for (;;) {
    if (server_skip_ == 0 && !server_continues_) {
      const absl::string_view rest = bytes.substr(at);
      if (rest.size() < kMysqlHeader + 1) break;
      const uint8_t first = First(rest.substr(kMysqlHeader));
      const bool exchange = head->answer == Answer::kLogin && first != kOk && first != kErr;
      const bool file =
          head->answer == Answer::kResults && at_ == At::kFirst && first == kLocalFile;
      passes_packet_ = exchange || file;
      if (passes_packet_ && at > 0) break;
      keep_sequence_ = keep_sequence_ || head->answer == Answer::kLogin || file;
    }
    const Reached reached = Advance(bytes, &at);
    if (reached == Reached::kWrong) {
      return Lose("an answer that does not fit its command", bytes.size());
    }
    if (passes_packet_) {
      return at > 0 ? Piece{Step::kPass, at} : Piece{Step::kMore};
    }
    if (reached == Reached::kMore) break;
    if (reached == Reached::kPacket) continue;
    made_ = MysqlPacket(keep_sequence_ ? server_sequence_ : head->sequence, head->failing->payload);
    const Step step = head->failing->ends ? Step::kClose : Step::kReplace;
    Answered();
    return {step, at, {}, made_};
  }
  return at > 0 ? Piece{Step::kReplace, at} : Piece{Step::kMore};
}

Piece MysqlCodec::Cut(absl::string_view bytes, Failing* failing) {
  const uint32_t room = failing->cut_after - cut_sent_;
  size_t at = 0;
  Reached reached = Reached::kPacket;
  while (reached == Reached::kPacket && at < room) reached = Advance(bytes, &at);
  if (reached == Reached::kWrong) {
    return Lose("an answer that does not fit its command", bytes.size());
  }
  if (reached == Reached::kEnd && at <= room) {
    const uint64_t killed = Answered();
    return killed != 0 ? Piece{Step::kCancel, at, {}, {}, killed} : Piece{Step::kPass, at};
  }
  if (at >= room) {
    return {Step::kCut, std::max<size_t>(at, 1), {}, bytes.substr(0, std::min<size_t>(at, room))};
  }
  if (at == 0) return {Step::kMore};
  cut_sent_ += static_cast<uint32_t>(at);
  return {Step::kPass, at};
}

}  // namespace firedrill::wire
