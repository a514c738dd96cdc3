// What a client of MySQL says: its login, and commands after it.
#include <algorithm>
#include <atomic>
#include <utility>

#include "absl/hash/hash.h"
#include "absl/strings/str_cat.h"
#include "injector/wire/codecs.h"
#include "injector/wire/codecs/mysql_codec.h"
#include "injector/wire/codecs/mysql_sql.h"

namespace firedrill::wire {
namespace {

// Commands sent before their answers came.
constexpr size_t kMaxAsked = 4096;
constexpr size_t kFewAsked = 8;

enum Com : uint8_t {
  kComQuit = 0x01,
  kComInitDb = 0x02,
  kComQuery = 0x03,
  kComFieldList = 0x04,
  kComCreateDb = 0x05,
  kComDropDb = 0x06,
  kComRefresh = 0x07,
  kComShutdown = 0x08,
  kComStatistics = 0x09,
  kComProcessInfo = 0x0a,
  kComProcessKill = 0x0c,
  kComDebug = 0x0d,
  kComPing = 0x0e,
  kComChangeUser = 0x11,
  kComRegisterReplica = 0x15,
  kComPrepare = 0x16,
  kComExecute = 0x17,
  kComSendLongData = 0x18,
  kComClose = 0x19,
  kComReset = 0x1a,
  kComSetOption = 0x1b,
  kComFetch = 0x1c,
  kComResetConnection = 0x1f,
  kComBulkExecute = 0xfa,
};

// What MariaDB's clients call the one prepared just before by.
constexpr uint32_t kNewest = UINT32_MAX;

// In all connections of this process, and apart from those of other protocols.
uint64_t NewStatementNumber() {
  static std::atomic<uint64_t> latest{uint64_t{1} << 62};
  return latest.fetch_add(1, std::memory_order_relaxed);
}

// Apart from the numbers that a server gives to statements.
constexpr uint64_t kNameKey = uint64_t{1} << 63;

uint64_t KeyOfName(absl::string_view name) { return absl::HashOf(name) | kNameKey; }

}  // namespace

bool MysqlCodec::Quiet() const {
  return phase_ == Phase::kSession && first_asked_ == asked_.size() && !in_transaction_ &&
         !client_waits_ && client_skip_ == 0 && !client_continues_ && !server_waits_ &&
         server_skip_ == 0 && !server_continues_ && !local_file_;
}

Piece MysqlCodec::Lose(absl::string_view why, size_t length) {
  lost_ = why;
  std::vector<Asked>().swap(asked_);
  first_asked_ = 0;
  ForgetStatements();
  return {Step::kPass, length};
}

void MysqlCodec::ForgetStatements() {
  absl::flat_hash_map<uint64_t, Statement>().swap(statements_);
  statements_size_ = 0;
  names_ = false;
}

void MysqlCodec::ForgetNames() {
  absl::erase_if(statements_, [&](const auto& item) {
    if (item.first < kNameKey) return false;
    statements_size_ -= item.second.text.size();
    return true;
  });
  names_ = false;
}

bool MysqlCodec::Ask(Answer answer, Effect effect) {
  if (first_asked_ == asked_.size()) {
    asked_.clear();
    first_asked_ = 0;
    if (asked_.capacity() > kFewAsked) asked_.shrink_to_fit();
  } else if (first_asked_ >= kFewAsked && asked_.size() == asked_.capacity()) {
    asked_.erase(asked_.begin(), asked_.begin() + static_cast<ptrdiff_t>(first_asked_));
    first_asked_ = 0;
  }
  if (asked_.size() - first_asked_ >= kMaxAsked) return false;
  ++ever_asked_;
  asked_.emplace_back();
  asked_.back().answer = answer;
  asked_.back().effect = effect;
  return true;
}

Piece MysqlCodec::FromClient(absl::string_view bytes) {
  can_fail_ = false;
  if (refused_) return {Step::kReplace, bytes.size()};
  if (encrypted_ || !lost_.empty()) return {Step::kPass, bytes.size()};
  client_waits_ = false;
  if (client_skip_ > 0) return Rest(bytes);
  if (bytes.size() < kMysqlHeader) return More();
  const uint32_t size = MysqlSizeOf(bytes);
  client_sequence_ = static_cast<uint8_t>(bytes[3]);
  if (client_continues_) {
    client_skip_ = size + kMysqlHeader;
    client_continues_ = size == kMysqlMaxPacket;
    return Rest(bytes);
  }
  drop_rest_ = false;
  if (phase_ == Phase::kGreeting) return Lose("the client spoke first", bytes.size());
  if (phase_ == Phase::kLogin) return Login(bytes, size);
  const Asked* head = Head();
  const bool exchange = head != nullptr && head->answer == Answer::kLogin && client_sequence_ != 0;
  if (local_file_ || exchange) {
    // An empty packet ends the file.
    local_file_ = local_file_ && size > 0;
    client_skip_ = size + kMysqlHeader;
    client_continues_ = size == kMysqlMaxPacket;
    return Rest(bytes);
  }
  if (client_sequence_ != 0) return Lose("a packet out of its order", bytes.size());
  return Command(bytes, size);
}

// What is left of packets that have begun.
Piece MysqlCodec::Rest(absl::string_view bytes) {
  const size_t count = std::min<size_t>(client_skip_, bytes.size());
  client_skip_ -= static_cast<uint32_t>(count);
  const bool ends = client_skip_ == 0 && !client_continues_;
  // The count goes on in the answer.
  if (ends && !asked_.empty()) asked_.back().sequence = static_cast<uint8_t>(client_sequence_ + 1);
  if (!drop_rest_) return {Step::kPass, count};
  if (!ends || tail_ == nullptr) return {Step::kReplace, count};
  made_ = *std::exchange(tail_, nullptr);
  return {Step::kReplace, count, {}, made_};
}

Piece MysqlCodec::Login(absl::string_view bytes, uint32_t size) {
  if (size + kMysqlHeader > kMaxText) return Lose("a login that is too long", bytes.size());
  if (bytes.size() < size + kMysqlHeader) return More();
  const auto login = ReadLogin(bytes.substr(kMysqlHeader, size));
  if (!login.has_value()) return Lose("a login of before MySQL 4.1", bytes.size());
  if ((login->capabilities & kSsl) != 0) {
    encrypted_ = true;
    return {Step::kPass, bytes.size()};
  }
  capabilities_ &= login->capabilities;
  phase_ = Phase::kSession;
  user_ = std::string(login->user);
  database_ = std::string(login->database);
  ++generation_;
  Ask(Answer::kLogin, Effect::kLogin);
  Piece piece{Step::kRequest, size + kMysqlHeader};
  piece.request.connect = true;
  piece.request.user = user_;
  piece.request.database = database_;
  last_request_ = bytes.substr(0, piece.length);
  can_fail_ = true;
  return piece;
}

Piece MysqlCodec::Command(absl::string_view bytes, uint32_t size) {
  const size_t whole = size + kMysqlHeader;
  if (bytes.size() < std::min(whole, kMaxText)) return More();
  if (size == 0) return Lose("an empty command", bytes.size());
  // Its beginning, if it is a long one: the rest is passed as it comes.
  const size_t there = std::min(whole, bytes.size());
  const absl::string_view payload = bytes.substr(kMysqlHeader + 1, there - kMysqlHeader - 1);
  client_skip_ = static_cast<uint32_t>(whole - there);
  client_continues_ = size == kMysqlMaxPacket;
  const bool cut = client_skip_ > 0 || client_continues_ || payload.size() > kMaxText;
  last_request_ = bytes.substr(0, there);
  Piece piece{Step::kPass, there};
  bool room = true;
  switch (static_cast<uint8_t>(bytes[kMysqlHeader])) {
    case kComQuit:
      piece.goodbye = true;
      break;
    case kComSendLongData:
      break;
    case kComClose:
      Drop(MysqlReader(payload).Number(4));
      break;
    case kComQuery:
      piece = Query((capabilities_ & kQueryAttributes) != 0 ? WithoutAttributes(payload) : payload,
                    cut);
      break;
    case kComInitDb: {
      // The text is what people would have written.
      room = Ask(Answer::kOne, Effect::kDatabase);
      if (!room) break;
      auto words = std::make_unique<Words>();
      words->text = std::string(payload.substr(0, 256));
      made_ = absl::StrCat("USE ", words->text);
      asked_.back().words = std::move(words);
      piece.request.text = made_;
      piece = Requested(piece);
      break;
    }
    case kComPrepare:
      piece = Prepare(payload, cut);
      break;
    case kComExecute:
    case kComBulkExecute:
      piece = Execute(payload);
      break;
    case kComChangeUser:
      piece = ChangeUser(payload);
      break;
    case kComFieldList:
      room = Ask(Answer::kColumns);
      break;
    case kComProcessInfo:
      room = Ask(Answer::kResults);
      break;
    case kComFetch:
      room = Ask(Answer::kRows);
      break;
    case kComResetConnection:
      room = Ask(Answer::kOne, Effect::kForgetsStatements);
      break;
    case kComCreateDb:
    case kComDropDb:
    case kComRefresh:
    case kComShutdown:
    case kComStatistics:
    case kComProcessKill:
    case kComDebug:
    case kComPing:
    case kComRegisterReplica:
    case kComReset:
    case kComSetOption:
      room = Ask(Answer::kOne);
      break;
    default:
      return Lose("a command whose answer is not known, such as replication's", bytes.size());
  }
  if (!room) return Lose("too many commands under way", bytes.size());
  if (!lost_.empty()) return {Step::kPass, bytes.size()};
  piece.length = there;
  return piece;
}

Piece MysqlCodec::Requested(Piece piece) {
  piece.step = Step::kRequest;
  piece.request.user = user_;
  piece.request.database = database_;
  can_fail_ = true;
  return piece;
}

Piece MysqlCodec::Query(absl::string_view text, bool cut) {
  if (!Ask(Answer::kResults)) return Lose("too many commands under way", 1);
  Piece piece;
  piece.request.text = text.substr(0, kMaxText);
  piece.request.cut = cut || text.size() > kMaxText;
  SeeNaming(&piece.request);
  if (const uint64_t session = KilledQuery(piece.request.text); session != 0) {
    asked_.back().effect = Effect::kKills;
    asked_.back().words = std::make_unique<Words>();
    asked_.back().words->key = session;
  }
  if (const absl::string_view database = UsedDatabase(piece.request.text); !database.empty()) {
    asked_.back().effect = Effect::kDatabase;
    asked_.back().words = std::make_unique<Words>();
    asked_.back().words->text = std::string(database.substr(0, 256));
  }
  return Requested(piece);
}

// Statements prepared by SQL have names of their own. What a request does to them holds once it is
// answered; what it executes is told by what that was prepared from.
void MysqlCodec::SeeNaming(Request* request) {
  MysqlNaming naming = ReadMysqlNaming(request->text, request->cut, backslashes_);
  if (naming.kind == MysqlNaming::kNone && names_ && MayName(request->text)) {
    naming.kind = MysqlNaming::kForgetAll;
  }
  Asked& asked = asked_.back();
  switch (naming.kind) {
    case MysqlNaming::kNone:
      return;
    case MysqlNaming::kExecute:
      SeeExecuted(KeyOfName(naming.Name()), request);
      return;
    case MysqlNaming::kImmediate:
      request->text = naming.text;
      request->cut = naming.cut;
      return;
    case MysqlNaming::kForgetAll:
      asked.effect = Effect::kForgetsNames;
      return;
    case MysqlNaming::kPrepare:
    case MysqlNaming::kForget:
      break;
  }
  asked.effect = naming.kind == MysqlNaming::kPrepare ? Effect::kNames : Effect::kForgetsName;
  asked.words = std::make_unique<Words>();
  asked.words->key = KeyOfName(naming.Name());
  if (naming.kind == MysqlNaming::kForget) return;
  asked.words->text = std::string(naming.text);
  asked.words->cut = naming.cut;
}

void MysqlCodec::SeeExecuted(uint64_t key, Request* request) {
  // What is under way is newer.
  for (size_t i = asked_.size() - 1; i-- > first_asked_;) {
    const Asked& asked = asked_[i];
    const bool its = asked.words != nullptr && asked.words->key == key;
    if (asked.effect == Effect::kNames && its) {
      request->text = asked.words->text;
      request->cut = asked.words->cut;
      return;
    }
    if (asked.effect == Effect::kForgetsNames || asked.effect == Effect::kForgetsStatements ||
        asked.effect == Effect::kLogin || its) {
      return;
    }
  }
  Use(key, request);
}

bool MysqlCodec::Use(uint64_t key, Request* request) {
  const auto found = statements_.find(key);
  if (found == statements_.end()) return false;
  Statement& statement = found->second;
  if (statement.generation != generation_) {
    statement.generation = generation_;
    statement.number = NewStatementNumber();
  }
  request->text = statement.text;
  request->cut = statement.cut;
  request->statement = statement.number;
  return true;
}

Piece MysqlCodec::Prepare(absl::string_view text, bool cut) {
  if (!Ask(Answer::kPrepared, Effect::kPrepared)) return Lose("too many commands under way", 1);
  auto words = std::make_unique<Words>();
  words->text = std::string(text.substr(0, kMaxText));
  words->cut = cut || text.size() > kMaxText;
  asked_.back().words = std::move(words);
  return {};
}

Piece MysqlCodec::Execute(absl::string_view payload) {
  const auto executed = static_cast<uint32_t>(MysqlReader(payload).Number(4));
  Piece piece;
  bool known = true;
  // Often before that was answered.
  const bool newest = executed == kNewest;
  const Asked* last = first_asked_ < asked_.size() ? &asked_.back() : nullptr;
  if (newest && last != nullptr && last->effect == Effect::kPrepared) {
    made_ = last->words->text;
    piece.request.text = made_;
    piece.request.cut = last->words->cut;
  } else {
    known = Use(newest ? last_statement_ : executed, &piece.request);
  }
  if (!Ask(Answer::kResults)) return Lose("too many commands under way", 1);
  // Nobody prepared it: the server will say so.
  if (!known) return {};
  return Requested(piece);
}

Piece MysqlCodec::ChangeUser(absl::string_view payload) {
  if (!Ask(Answer::kLogin, Effect::kLogin)) return Lose("too many commands under way", 1);
  MysqlReader reader(payload);
  auto words = std::make_unique<Words>();
  words->user = std::string(reader.UntilNul());
  if ((capabilities_ & kSecureConnection) != 0) {
    reader.Bytes(reader.Number(1));
  } else {
    reader.UntilNul();
  }
  words->text = std::string(reader.rest().substr(0, reader.rest().find('\0')));
  asked_.back().words = std::move(words);
  Piece piece = Requested({});
  piece.request.connect = true;
  piece.request.user = asked_.back().words->user;
  piece.request.database = asked_.back().words->text;
  return piece;
}

// What fails before it is executed leaves a harmless command in its place, whose answer becomes the
// error: so answers stay in order, whatever is under way.
std::optional<Substitute> MysqlCodec::Fail(const v1::QueryFailure& failure) {
  if (!can_fail_ || encrypted_ || !lost_.empty()) return std::nullopt;
  const bool cut = failure.how_case() == v1::QueryFailure::kCutAfter;
  const bool executes = cut || failure.moment() == v1::FAILURE_MOMENT_AFTER;
  std::optional<MysqlError> error;
  if (!cut) {
    error = ReadMysqlError(failure);
    if (!error.has_value()) return std::nullopt;
  }
  can_fail_ = false;
  const bool breaks = error.has_value() && error->effect == MysqlErrorEffect::kBreaks;
  if (breaks && !executes) return Substitute{{}, {}, true};
  Asked& asked = asked_.back();
  asked.failing = std::make_unique<Failing>();
  asked.failing->cut = cut || breaks;
  asked.failing->cut_after = cut ? failure.cut_after() : 0;
  asked.failing->ends = error.has_value() && error->effect == MysqlErrorEffect::kEnds;
  if (executes) {
    if (error.has_value()) asked.failing->payload = std::move(error->payload);
    return Substitute{last_request_};
  }
  // The greeting is out, so this is the first place where a client can be turned away. Nobody is
  // let in, so nothing that follows means anything.
  if (asked.answer == Answer::kLogin && first_asked_ + 1 == asked_.size() &&
      client_sequence_ != 0) {
    refused_ = true;
    asked_.clear();
    first_asked_ = 0;
    made_ = MysqlPacket(static_cast<uint8_t>(client_sequence_ + 1), error->payload);
    return Substitute{{}, made_, false, true};
  }
  FailBefore(asked, last_request_, *std::move(error));
  // What holds the request up holds the first byte.
  if (client_skip_ > 0 || client_continues_) EndLate(1);
  return Substitute{made_};
}

// A server answers a command once it has it all. Of what FailBefore() made of this one, more than
// the first bytes goes when the rest of it has come.
void MysqlCodec::EndLate(size_t first) {
  drop_rest_ = true;
  tail_ = std::make_unique<std::string>(made_.substr(first));
  made_.resize(first);
}

// A harmless command in the place of `request`, which begins with its packet: in `made_`.
void MysqlCodec::FailBefore(Asked& asked, absl::string_view request, MysqlError error) {
  MysqlReader reader(request.substr(kMysqlHeader));
  const uint64_t command = reader.Number(1);
  const auto executed = static_cast<uint32_t>(reader.Number(4));
  const bool executes = command == kComExecute || command == kComBulkExecute;
  asked.answer = Answer::kOne;
  asked.effect = Effect::kNone;
  asked.words.reset();
  if (asked.failing == nullptr) asked.failing = std::make_unique<Failing>();
  asked.failing->payload = std::move(error.payload);
  if (error.effect == MysqlErrorEffect::kRollsBack) {
    made_ = MysqlPacket(0, "\x03ROLLBACK AND NO CHAIN NO RELEASE");
  } else if (executes && executed != kNewest) {
    // Long data that was sent for this execution must not be left for the next one.
    const char reset[] = {kComReset, static_cast<char>(executed), static_cast<char>(executed >> 8),
                          static_cast<char>(executed >> 16), static_cast<char>(executed >> 24)};
    made_ = MysqlPacket(0, absl::string_view(reset, sizeof reset));
  } else {
    made_ = MysqlPacket(0, "\x0e");
  }
}

uint32_t MysqlCodec::Ticket() const {
  return can_fail_ && asked_.back().answer != Answer::kLogin ? ever_asked_ : 0;
}

std::optional<Cancelled> MysqlCodec::Cancel(uint32_t ticket, absl::string_view bytes) {
  if (encrypted_ || !lost_.empty()) return std::nullopt;
  Asked* const head = Head();
  const size_t open = asked_.size() - first_asked_;
  if (head == nullptr || head->failing != nullptr || ever_asked_ - open + 1 != ticket) {
    return std::nullopt;
  }
  // A long one is several packets, of which some may still be to come.
  size_t length = 0;
  bool continues = true;
  while (continues && bytes.size() - length >= kMysqlHeader) {
    const uint32_t size = MysqlSizeOf(bytes.substr(length));
    continues = size == kMysqlMaxPacket || size > bytes.size() - length - kMysqlHeader;
    length += std::min<size_t>(size + kMysqlHeader, bytes.size() - length);
  }
  if (length == 0) return std::nullopt;
  v1::QueryFailure failure;
  failure.set_error("1317");
  FailBefore(*head, bytes, *ReadMysqlError(failure));
  if (continues) EndLate(0);
  return Cancelled{length, made_};
}

// Thousands of connections rest at a time.
static_assert(sizeof(MysqlCodec) <= 320);

std::unique_ptr<Codec> MakeMysqlCodec() { return std::make_unique<MysqlCodec>(); }

}  // namespace firedrill::wire
