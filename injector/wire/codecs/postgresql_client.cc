// What a PostgreSQL client sends.
#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "injector/wire/codecs/postgresql_codec.h"
#include "injector/wire/codecs/postgresql_sql.h"

namespace firedrill::wire::postgresql {
namespace {

constexpr uint32_t kSslRequest = 80877103;
constexpr uint32_t kGssRequest = 80877104;
constexpr uint32_t kCancelRequest = 80877102;
// The server's limit.
constexpr size_t kMaxStartup = 10000;

uint32_t Number(absl::string_view bytes, size_t at) {
  const auto* b = reinterpret_cast<const unsigned char*>(bytes.data()) + at;
  return (uint32_t{b[0]} << 24) | (uint32_t{b[1]} << 16) | (uint32_t{b[2]} << 8) | b[3];
}

// Up to the NUL, which is taken off too; false when there is none.
bool String(absl::string_view* body, absl::string_view* made) {
  const size_t end = body->find('\0');
  if (end == body->npos) return false;
  *made = body->substr(0, end);
  body->remove_prefix(end + 1);
  return true;
}

absl::string_view UpToNul(absl::string_view text) { return text.substr(0, text.find('\0')); }

}  // namespace

Piece PostgresqlCodec::FromClient(absl::string_view bytes) {
  last_ = Last::kNone;
  if (made_.capacity() > 1024) std::string().swap(made_);
  if (phase_ == Phase::kPassing) return Pass(bytes.size());
  if (phase_ == Phase::kStart) return First(bytes);
  if (phase_ == Phase::kNegotiating) {
    return Lose("the client did not wait for the answer to its SSL or GSS request", bytes);
  }
  if (client_skip_ > 0 && (client_skip_dropped_ || !tail_.empty())) return SkipOfClient(bytes);
  size_t at = std::min<size_t>(client_skip_, bytes.size());
  client_skip_ -= at;
  while (at < bytes.size()) {
    const absl::string_view rest = bytes.substr(at);
    char type = 0;
    size_t total = 0;
    if (!Frame(rest, &type, &total)) return at > 0 ? Pass(at) : More();
    if (total < 5 || total > kMaxMessage)
      return Lose("a client's message of impossible length", bytes);
    if (answers_.size() >= Answers::kMaxCount) return Lose("too many requests under way", bytes);
    switch (type) {
      case 'd':
      case 'c':
      case 'f':
        if (copy_ == Copy::kNone) return Lose("COPY data that the server did not ask for", bytes);
        if (type == 'd') break;
        if (copy_ == Copy::kIn && (answers_.front() & kLate) != 0) {
          return at > 0 ? Pass(at) : CopyEnd(rest, total);
        }
        copy_ = Copy::kNone;
        break;
      case 'S':
        group_failed_ = group_dropped_ = open_group_ = false;
        // While it copies, the server reads over it.
        if (copy_ != Copy::kIn) answers_.Push(kSync);
        break;
      case 'p':
        break;
      case 'X':
        if (at > 0) return Pass(at);
        if (total > 5) break;
        return {
            .step = Step::kPass, .length = total, .request = {}, .instead = {}, .goodbye = true};
      case 'Q':
      case 'F':
      case 'P':
      case 'B':
      case 'C':
      case 'D':
      case 'E':
      case 'H': {
        if (group_dropped_) {
          if (at > 0) return Pass(at);
          client_skip_ = total;
          client_skip_dropped_ = true;
          return SkipOfClient(bytes);
        }
        // The server skips them itself.
        if (group_failed_) break;
        if (type == 'F') answers_.Push(kCall);
        if (type == 'D') open_group_ = true;
        if (type == 'F' || type == 'D' || type == 'H') break;
        if (at > 0) return Pass(at);
        if (type == 'Q') return Query(rest, total);
        open_group_ = true;
        return type == 'P' || type == 'B' ? Batch(rest) : Alone(rest, total);
      }
      default:
        return Lose("an unknown message of the client", bytes);
    }
    if (total > rest.size()) {
      client_skip_ = total - rest.size();
      return Pass(bytes.size());
    }
    at += total;
  }
  return Pass(at);
}

Piece PostgresqlCodec::SkipOfClient(absl::string_view bytes) {
  const size_t length = std::min<size_t>(client_skip_, bytes.size());
  const bool ends = length == client_skip_;
  if (client_skip_dropped_) {
    client_skip_ -= length;
    if (!ends) return Replace(length, "");
    client_skip_dropped_ = false;
    return Replace(length, std::exchange(tail_, {}));
  }
  // The tail goes with the last byte, which comes as a piece of its own.
  if (ends && length == 1) {
    client_skip_ = 0;
    made_ = absl::StrCat(bytes.substr(0, 1), tail_);
    tail_ = {};
    return Replace(1, made_);
  }
  client_skip_ -= ends ? length - 1 : length;
  return Pass(ends ? length - 1 : length);
}

Piece PostgresqlCodec::First(absl::string_view bytes) {
  if (bytes[0] == 0x16) {  // A TLS handshake without asking first.
    encrypted_ = true;
    StopLooking();
    return Pass(bytes.size());
  }
  if (bytes.size() < 8) return More();
  const uint32_t length = Number(bytes, 0);
  const uint32_t code = Number(bytes, 4);
  if (length < 8 || length > kMaxStartup)
    return Lose("a startup packet of impossible length", bytes);
  if (bytes.size() < length) return More();
  if (code == kCancelRequest) {
    StopLooking();
    return {.step = Step::kCancel,
            .length = length,
            .request = {},
            .instead = {},
            .cancels = KeyOf(bytes.substr(8, length - 8))};
  }
  if (code == kSslRequest || code == kGssRequest) {
    phase_ = Phase::kNegotiating;
    return Pass(length);
  }
  if (code >> 16 != 3) return Lose("another version of the protocol than 3", bytes);
  return Startup(bytes.substr(0, length));
}

Piece PostgresqlCodec::Startup(absl::string_view packet) {
  absl::string_view body = packet.substr(8);
  absl::string_view user, database, key, value;
  while (String(&body, &key) && !key.empty() && String(&body, &value)) {
    if (key == "user") user = value;
    if (key == "database") database = value;
    if (key == "replication" && !value.empty()) {
      bool on = true;
      if (!absl::SimpleAtob(value, &on) || on) return Lose("a replication session", packet);
    }
  }
  session_ = ShareSession(user, database.empty() ? user : database);
  phase_ = Phase::kSession;
  answers_.Push(kStartup);
  last_ = Last::kConnect;
  last_bytes_ = packet;
  Piece piece{.step = Step::kRequest, .length = packet.size()};
  piece.request.connect = true;
  piece.request.user = session_->user;
  piece.request.database = session_->database;
  return piece;
}

Piece PostgresqlCodec::Query(absl::string_view rest, size_t total) {
  const size_t needed = std::min(total, kMaxText);
  if (rest.size() < needed) return More();
  Piece piece{.step = Step::kRequest, .length = needed};
  piece.request.text = UpToNul(rest.substr(5, needed - 5));
  piece.request.cut = total > needed;
  piece.request.user = session_->user;
  piece.request.database = session_->database;
  const bool known = UseStatement(piece.request.text, &piece.request);
  answers_.Push(statements_.ExpectsEnd() ? kQuery | kNaming : kQuery);
  client_skip_ = total - needed;
  if (!known) {
    ++unmatched_;
    return Pass(needed);
  }
  last_ = Last::kQuery;
  last_bytes_ = rest.substr(0, needed);
  last_text_ = piece.request.text;
  return piece;
}

// SQL's own prepared statements have their names in common with the protocol's. What an EXECUTE
// was prepared from is seen in its place. False for a query that is the EXECUTE of one that is not
// known any more, and nothing else.
bool PostgresqlCodec::UseStatement(absl::string_view text, Request* request) {
  Namings namings(text);
  size_t seen = 0;
  for (NamingStatement one; namings.Next(&one);) {
    if (one.kind == NamingStatement::kPrepare) {
      statements_.Expect(one.Name(), Share(one.body, request->cut, *session_), one.place);
    } else if (one.kind == NamingStatement::kDeallocate) {
      statements_.Expect(one.Name(), nullptr, one.place);
    } else if (one.kind == NamingStatement::kDeallocateAll) {
      statements_.ExpectForgotten(one.place);
    } else {
      const Text* found = statements_.Look(Statements::Hash(one.Name()));
      if (one.alone) {
        if (found == nullptr) return false;
        request->text = found->text;
        request->cut = found->cut;
        request->statement = found->number;
        return true;
      }
      if (found == nullptr) continue;
      if (seen == 0) made_.clear();
      const auto begin = static_cast<size_t>(one.body.data() - text.data());
      absl::StrAppend(&made_, text.substr(seen, begin - seen), found->text);
      request->cut = request->cut || found->cut;
      seen = begin + one.body.size();
    }
  }
  if (seen == 0) return true;
  absl::StrAppend(&made_, text.substr(seen));
  if (made_.size() > kMaxText) {
    made_.resize(kMaxText);
    request->cut = true;
  }
  request->text = made_;
  return true;
}

// A Parse or Bind: with all that belongs to it up to its Execute when that is not too much.
Piece PostgresqlCodec::Batch(absl::string_view rest) {
  bool more = false;
  const size_t end = BatchEnd(rest, &more);
  if (more) return More();
  if (end > 0) return BatchRequest(rest.substr(0, end));
  char type = 0;
  size_t total = 0;
  Frame(rest, &type, &total);
  return Alone(rest, total);
}

// 0: it does not end with an Execute, or not soon enough.
size_t PostgresqlCodec::BatchEnd(absl::string_view rest, bool* more) const {
  const absl::string_view window = rest.substr(0, kMaxText);
  for (size_t at = 0;;) {
    if (at + 5 > kMaxText) return 0;
    char type = 0;
    size_t total = 0;
    if (at >= window.size() || !Frame(window.substr(at), &type, &total)) {
      *more = true;
      return 0;
    }
    if (type != 'P' && type != 'B' && type != 'D' && type != 'C' && type != 'E') return 0;
    if (total < 5 || total > kMaxText - at) return 0;
    at += total;
    if (type != 'E') continue;
    *more = at > window.size();
    return at;
  }
}

Piece PostgresqlCodec::BatchRequest(absl::string_view batch) {
  Piece piece{.step = Step::kRequest, .length = batch.size()};
  bool known = false;
  for (size_t at = 0; at < batch.size();) {
    char type = 0;
    size_t total = 0;
    Frame(batch.substr(at), &type, &total);
    const absl::string_view body = batch.substr(at + 5, total - 5);
    if (type == 'P') SeeParse(body, false);
    if (type == 'B') SeeBind(body);
    if (type == 'C') SeeClose(body);
    if (type == 'E') known = SeeExecute(body, &piece.request);
    last_execute_ = at;
    at += total;
  }
  if (lost_.empty() && !known) ++unmatched_;
  if (!known) return Pass(batch.size());
  last_ = Last::kExecute;
  last_bytes_ = batch;
  last_text_ = piece.request.text;
  return piece;
}

// One message of the extended protocol, of which as much is needed as says what it is about.
Piece PostgresqlCodec::Alone(absl::string_view rest, size_t total) {
  const size_t needed = std::min(total, kMaxText);
  const absl::string_view window = rest.substr(0, needed);
  const absl::string_view body = window.substr(std::min<size_t>(5, window.size()));
  const bool whole = window.size() == needed;
  if (rest[0] == 'B') {
    if (!SeeBind(body) && !whole) return More();
  } else if (!whole) {
    return More();
  } else if (rest[0] == 'P') {
    SeeParse(body, total > needed);
  } else if (total > needed) {
    return Lose("a name longer than any", rest);
  } else if (rest[0] == 'C') {
    SeeClose(body);
  } else {
    return BatchRequest(window);
  }
  if (phase_ == Phase::kPassing) return Pass(rest.size());
  if (total > rest.size()) client_skip_ = total - rest.size();
  return Pass(std::min(total, rest.size()));
}

void PostgresqlCodec::SeeParse(absl::string_view body, bool cut) {
  absl::string_view name;
  if (!String(&body, &name)) name = body;
  const absl::string_view text = UpToNul(body);
  if (name.empty()) {
    answers_.Push(kParse);
    if (unnamed_.capacity() > 1024 && text.size() < 512) std::string().swap(unnamed_);
    unnamed_.assign(text.data(), text.size());
    unnamed_cut_ = cut;
    unnamed_known_ = true;
  } else if (statements_.preparing() >= Statements::kMaxCount) {
    Lose("too many statements that are being prepared at a time", body);
  } else {
    answers_.Push(kParseNamed);
    statements_.Prepare(name, Share(text, cut, *session_));
  }
}

// False while its names are not there yet.
bool PostgresqlCodec::SeeBind(absl::string_view body) {
  absl::string_view portal, statement;
  if (!String(&body, &portal) || !String(&body, &statement)) return false;
  if (portal.empty()) {
    bound_known_ = true;
    bound_unnamed_ = statement.empty();
    bound_ = Statements::Hash(statement);
  } else if (!statement.empty()) {
    statements_.Bind(portal, statements_.Find(statement));
  } else {
    // The next Parse takes the unnamed statement's text away, and leaves the portal.
    statements_.Bind(portal, unnamed_known_ ? Share(unnamed_, unnamed_cut_, *session_) : nullptr);
  }
  return true;
}

void PostgresqlCodec::SeeClose(absl::string_view body) {
  const bool statement = !body.empty() && body[0] == 'S';
  const absl::string_view name = body.empty() ? body : UpToNul(body.substr(1));
  if (statement && !name.empty()) {
    if (statements_.preparing() >= Statements::kMaxCount) {
      Lose("too many statements that are being closed at a time", body);
      return;
    }
    answers_.Push(kCloseNamed);
    statements_.Close(name);
    return;
  }
  answers_.Push(kClose);
  if (statement) {
    unnamed_known_ = false;
  } else if (name.empty()) {
    bound_known_ = false;
  } else {
    statements_.ForgetPortal(name);
  }
}

// False when it is not known what is executed.
bool PostgresqlCodec::SeeExecute(absl::string_view body, Request* request) {
  if (phase_ == Phase::kPassing) return false;
  answers_.Push(kExecute);
  request->user = session_->user;
  request->database = session_->database;
  const absl::string_view portal = UpToNul(body);
  const Text* text = nullptr;
  if (!portal.empty()) {
    text = statements_.Portal(portal);
  } else if (bound_known_ && bound_unnamed_ && unnamed_known_) {
    request->text = unnamed_;
    request->cut = unnamed_cut_;
    const bool known = UseStatement(request->text, request);
    if (statements_.ExpectsEnd()) answers_.back_place() |= kNaming;
    return known;
  } else if (bound_known_ && !bound_unnamed_) {
    text = statements_.Look(bound_);
  }
  if (text == nullptr) return false;
  request->text = text->text;
  request->cut = text->cut;
  request->statement = text->number;
  return true;
}

}  // namespace firedrill::wire::postgresql
