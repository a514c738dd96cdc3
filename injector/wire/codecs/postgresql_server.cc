// What a PostgreSQL server answers.
#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "injector/wire/codecs/postgresql_codec.h"

namespace firedrill::wire::postgresql {

Piece PostgresqlCodec::FromServer(absl::string_view bytes) {
  if (phase_ == Phase::kPassing) return Pass(bytes.size());
  if (phase_ == Phase::kNegotiating) return Negotiated(bytes);
  if (phase_ == Phase::kStart) return Lose("the server spoke first", bytes);
  if (cutting_) return Cutting(bytes);
  size_t at = std::min<size_t>(server_skip_, bytes.size());
  server_skip_ -= at;
  if (at > 0 && server_skip_dropped_) {
    if (server_skip_ == 0) server_skip_dropped_ = false;
    return Replace(at, "");
  }
  while (at < bytes.size()) {
    const absl::string_view rest = bytes.substr(at);
    char type = 0;
    size_t total = 0;
    if (!Frame(rest, &type, &total)) return at > 0 ? Pass(at) : More();
    if (total < 5 || total > kMaxMessage || (type == 'Z' && total != 6)) {
      return Lose("a server's message of impossible length", bytes);
    }
    if (type == 'K' && total <= kMaxText) {
      if (rest.size() < total) return at > 0 ? Pass(at) : More();
      key_ = KeyOf(rest.substr(5, total - 5));
    }
    if ((answers_.front() & (kMute | kPlanned)) != 0) {
      return at > 0 ? Pass(at) : Flagged(rest, type, total);
    }
    if (type == 'Z' && rest.size() < 6) return at > 0 ? Pass(at) : More();
    if (!See(rest, type)) return Pass(bytes.size());
    if (total > rest.size()) {
      server_skip_ = total - rest.size();
      return Pass(bytes.size());
    }
    at += total;
  }
  return Pass(at);
}

Piece PostgresqlCodec::Negotiated(absl::string_view bytes) {
  phase_ = Phase::kStart;
  if (bytes[0] == 'N') return Pass(1);
  if (bytes[0] != 'S' && bytes[0] != 'G') return Lose("an unknown answer to an SSL request", bytes);
  encrypted_ = true;
  StopLooking();
  return Pass(bytes.size());
}

// What one message changes. False: lost.
bool PostgresqlCodec::See(absl::string_view rest, char type) {
  const Kind front = KindOf(answers_.front());
  switch (type) {
    case '1':
    case '3': {
      const bool fits = type == '1' ? front == kParse || front == kParseNamed
                                    : front == kClose || front == kCloseNamed;
      if (!fits) {
        Lose("the server confirms what nobody asked for", rest);
        return false;
      }
      if (front == kParseNamed) statements_.PrepareConfirmed();
      if (front == kCloseNamed) statements_.CloseConfirmed();
      answers_.Pop();
      return true;
    }
    case 'C':
    case 's':
    case 'I':
      if (type == 'C') SeeCompleted();
      if (front == kExecute) {
        PopAnswer();
      } else if (front != kQuery) {
        Lose("the server completes what nobody asked for", rest);
        return false;
      }
      if (copy_ == Copy::kIn) copy_ = Copy::kNone;
      return true;
    case 'E':
      SeeError(true);
      return true;
    case 'Z':
      if (!EndsReady(answers_.front())) {
        Lose("the server is ready when nobody asked", rest);
        return false;
      }
      SeeReady(rest[5]);
      return true;
    case 'G':
    case 'W':
      if (front != kQuery && front != kExecute) {
        Lose("the server copies what nobody asked for", rest);
        return false;
      }
      SeeCopyIn();
      return true;
    case '2':
    case 'A':
    case 'D':
    case 'H':
    case 'K':
    case 'N':
    case 'R':
    case 'S':
    case 'T':
    case 'V':
    case 'c':
    case 'd':
    case 'n':
    case 't':
    case 'v':
      return true;
    default:
      Lose("an unknown message of the server", rest);
      return false;
  }
}

void PostgresqlCodec::SeeReady(char status) {
  status_ = status;
  // Portals end with their transaction.
  if (status == 'I') statements_.ForgetPortals();
  PopAnswer();
}

void PostgresqlCodec::SeeCopyIn() {
  copy_ = Copy::kIn;
  // It reads over every Sync that it finds among the data.
  while (answers_.size() > 1 && answers_.at(1) == kSync) answers_.Erase(1);
}

void PostgresqlCodec::SeeCompleted() {
  if ((answers_.front() & kNaming) == 0 || !statements_.Completed()) return;
  answers_.front_place() &= static_cast<uint8_t>(~kNaming);
}

void PostgresqlCodec::PopAnswer() {
  const uint8_t answer = answers_.front();
  if ((answer & kNaming) != 0) statements_.NothingMore();
  if (KindOf(answer) == kParseNamed) statements_.PrepareFailed();
  if (KindOf(answer) == kCloseNamed) statements_.CloseFailed();
  if ((answer & kPlanned) != 0) DropPlan();
  answers_.Pop();
}

// With the extended protocol, the server does nothing more up to the next Sync.
void PostgresqlCodec::SeeError(bool passed) {
  if (copy_ == Copy::kIn) copy_ = Copy::kEnded;
  if (EndsReady(answers_.front())) return;
  while (!answers_.empty() && KindOf(answers_.front()) != kSync) PopAnswer();
  if (answers_.empty()) {
    group_failed_ = open_group_;
    return;
  }
  // Behind a Sync of ours comes our trap: of two errors the client gets the first only.
  if (passed && answers_.front() == (kSync | kMute) && answers_.size() > 1 &&
      answers_.at(1) == (kTrapParse | kPlanned)) {
    answers_.at(1) = kTrapParse | kMute;
    DropPlan();
  }
}

// One message whose answer is not the client's as it is.
Piece PostgresqlCodec::Flagged(absl::string_view rest, char type, size_t total) {
  const uint8_t front = answers_.front();
  const Kind kind = KindOf(front);
  // They may come at any time, and are about the session.
  const bool aside = type == 'N' || type == 'A' || (type == 'S' && kind != kStartup);
  if (aside) return PassOne(rest, type, total);
  if ((front & kPlanned) != 0 && plans_->front().cut) {
    Plan& plan = plans_->front();
    const bool ends =
        kind == kExecute ? type == 'C' || type == 's' || type == 'I' || type == 'E' : type == 'Z';
    if (plan.left > total && !ends) {
      plan.left -= total;
      return PassOne(rest, type, total);
    }
    if (plan.left >= total && ends) {
      DropPlan();
      answers_.front_place() = Plain(front);
      return PassOne(rest, type, total);
    }
    cutting_ = true;
    cut_left_ = std::min(plan.left, total);
    return Cutting(rest);
  }
  if ((front & kLate) != 0) return Late(rest, type, total);
  if (kind == kRollback) return RolledBack(rest, type, total);
  if ((front & kMute) != 0) return Muted(rest, type, total);
  if (kind == kTrapQuery || kind == kTrapParse) return Trapped(rest, type, total);
  // A session that is let in, and then told that it is not.
  if (type != 'R') return PassOne(rest, type, total);
  if (rest.size() < 9) return More();
  if (rest.substr(5, 4) != absl::string_view("\0\0\0\0", 4)) return PassOne(rest, type, total);
  made_ = std::move(plans_->front().error);
  StopLooking();
  return {.step = Step::kClose, .length = rest.size(), .request = {}, .instead = made_};
}

Piece PostgresqlCodec::Trapped(absl::string_view rest, char type, size_t total) {
  // Ours is short.
  if (type != 'E' || total > kMaxText) return PassOne(rest, type, total);
  if (rest.size() < total) return More();
  // A Bind before it may have failed by itself.
  if (!absl::StrContains(rest.substr(0, total), kTrapWord)) return PassOne(rest, type, total);
  Plan plan = std::move(plans_->front());
  made_ = std::move(plan.error);
  if (plan.fatal) {
    StopLooking();
    return {.step = Step::kClose, .length = rest.size(), .request = {}, .instead = made_};
  }
  if (KindOf(answers_.front()) == kTrapQuery) {
    DropPlan();
    answers_.front_place() = kTrapQuery;
  } else {
    SeeError(true);
  }
  return Replace(total, made_);
}

Piece PostgresqlCodec::Muted(absl::string_view rest, char type, size_t total) {
  const Kind kind = KindOf(answers_.front());
  // Before an Execute comes what its Bind and Describe are answered.
  if (kind == kExecute && (type == '2' || type == 'T' || type == 't' || type == 'n')) {
    return PassOne(rest, type, total);
  }
  if (kind == kTrapParse && type != 'E') return PassOne(rest, type, total);
  if (type == 'Z' && rest.size() < 6) return More();
  if (type == 'E') {
    SeeError(false);
    return DropOfServer(rest, total);
  }
  if (type != 'D' && type != 'd') {
    if (!See(rest, type)) return Pass(rest.size());
    return DropOfServer(rest, total);
  }
  // Rows by the run.
  size_t run = total;
  char next = 0;
  while (run < rest.size() && Frame(rest.substr(run), &next, &total) && next == type &&
         total >= 5 && total <= kMaxMessage) {
    run += total;
  }
  return DropOfServer(rest, run);
}

// Perhaps a COPY from the client. What fails by itself needs no failure of ours.
Piece PostgresqlCodec::Late(absl::string_view rest, char type, size_t total) {
  uint8_t& front = answers_.front_place();
  const Kind kind = KindOf(front);
  const bool none = kind == kExecute && (type == 'D' || type == 'C' || type == 's' || type == 'I');
  if (type == 'E' || none) {
    // Its trap would have been behind the data that it does not take: nothing fails.
    front = Plain(front);
    DropPlan();
    return PassOne(rest, type, total);
  }
  if (type == 'G' || type == 'W' || kind == kExecute) return PassOne(rest, type, total);
  return type == 'Z' ? ErrorAtReady(rest, total) : DropOfServer(rest, total);
}

// The ROLLBACK in place of a COMMIT. By the extended protocol, the client's own Bind and Describe
// are answered before it, and a trap stands behind it.
Piece PostgresqlCodec::RolledBack(absl::string_view rest, char type, size_t total) {
  uint8_t& front = answers_.front_place();
  const bool simple = (front & kPlanned) != 0;
  if (type == 'C') return DropOfServer(rest, total);
  if (type == 'Z' && simple) return ErrorAtReady(rest, total);
  if (type == 'Z') {
    if (rest.size() < 6) return More();
    SeeReady(rest[5]);
    return DropOfServer(rest, total);
  }
  if (type == 'E' && simple) {
    front = kQuery;
    DropPlan();
  } else if (type == 'E') {
    // A Bind that fails by itself: the server skips what is ours.
    answers_.Pop();
  }
  return PassOne(rest, type, total);
}

// The planned error, and then that the server is ready.
Piece PostgresqlCodec::ErrorAtReady(absl::string_view rest, size_t total) {
  if (rest.size() < 6) return More();
  Plan plan = std::move(plans_->front());
  DropPlan();
  made_ = std::move(plan.error);
  if (plan.fatal) {
    StopLooking();
    return {.step = Step::kClose, .length = rest.size(), .request = {}, .instead = made_};
  }
  uint8_t& front = answers_.front_place();
  front = Plain(front);
  SeeReady(rest[5]);
  absl::StrAppend(&made_, rest.substr(0, total));
  return Replace(total, made_);
}

Piece PostgresqlCodec::Cutting(absl::string_view bytes) {
  if (bytes.size() < cut_left_) {
    cut_left_ -= bytes.size();
    return Pass(bytes.size());
  }
  const absl::string_view last = bytes.substr(0, cut_left_);
  StopLooking();
  return {.step = Step::kCut, .length = bytes.size(), .request = {}, .instead = last};
}

Piece PostgresqlCodec::PassOne(absl::string_view rest, char type, size_t total) {
  if (type == 'Z' && rest.size() < 6) return More();
  if (!See(rest, type)) return Pass(rest.size());
  if (total > rest.size()) server_skip_ = total - rest.size();
  return Pass(std::min(total, rest.size()));
}

Piece PostgresqlCodec::DropOfServer(absl::string_view rest, size_t total) {
  if (total > rest.size()) {
    server_skip_ = total - rest.size();
    server_skip_dropped_ = true;
  }
  return Replace(std::min(total, rest.size()), "");
}

bool PostgresqlCodec::Quiet() const {
  return phase_ == Phase::kSession && answers_.empty() && !open_group_ && status_ == 'I' &&
         copy_ != Copy::kIn && client_skip_ == 0 && server_skip_ == 0;
}

// Of the answer at `place`, behind those that are planned before it.
void PostgresqlCodec::AddPlan(size_t place, Plan plan) {
  if (plans_ == nullptr) plans_ = std::make_unique<std::deque<Plan>>();
  plans_->insert(plans_->begin() + static_cast<ptrdiff_t>(CountOf(kPlanned, place)),
                 std::move(plan));
}

Piece PostgresqlCodec::Lose(absl::string_view why, absl::string_view bytes) {
  lost_ = why;
  StopLooking();
  return Pass(bytes.size());
}

void PostgresqlCodec::StopLooking() {
  phase_ = Phase::kPassing;
  answers_ = Answers();
  plans_.reset();
  cutting_ = false;
}

}  // namespace firedrill::wire::postgresql
