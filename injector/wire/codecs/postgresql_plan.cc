// How a request of PostgreSQL's fails: what the server gets, and which answers the client is not to
// get as they are.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "injector/wire/codecs/postgresql_codec.h"
#include "injector/wire/codecs/postgresql_sql.h"

namespace firedrill::wire::postgresql {

// The end of what a COPY copies, whose answer is to be another one than the server's: the trap goes
// along with it.
Piece PostgresqlCodec::CopyEnd(absl::string_view rest, size_t total) {
  if (total > kMaxText) return Lose("a COPY's end longer than any", rest);
  if (rest.size() < total) return More();
  copy_ = Copy::kNone;
  uint8_t& copy = answers_.front_place();
  if (answers_.size() > 1) {
    // Requests were sent ahead: nothing can be put in before them.
    copy = Plain(copy);
    DropPlan();
    return Pass(total);
  }
  const bool query = KindOf(copy) == kQuery;
  copy = Plain(copy) | kMute;
  if (!query) {
    answers_.Push(kSync | kMute);
    group_dropped_ = true;
  }
  answers_.Push((query ? kTrapQuery : kTrapParse) | kPlanned);
  made_ = absl::StrCat(rest.substr(0, total), query ? TrapQuery() : SyncMessage(),
                       query ? "" : TrapParse());
  return Replace(total, made_);
}

std::optional<Substitute> PostgresqlCodec::Fail(const v1::QueryFailure& failure) {
  const Last last = std::exchange(last_, Last::kNone);
  if (last == Last::kNone || phase_ != Phase::kSession) return std::nullopt;
  Substitute made;
  const size_t place = answers_.size() - 1;
  uint8_t& answer = answers_.back_place();
  // Its text may be in what is made over.
  const bool copies = CopiesIn(last_text_);
  const bool commits = Commits(last_text_);
  if (failure.how_case() == v1::QueryFailure::kCutAfter) {
    AddPlan(place, {.cut = true, .left = failure.cut_after()});
    answer |= kPlanned;
    made_.assign(last_bytes_.data(), last_bytes_.size());
    made.to_server = made_;
    return made;
  }
  std::optional<Error> error = MakeError(failure, last == Last::kConnect);
  if (!error.has_value()) return std::nullopt;
  const bool after = failure.moment() == v1::FAILURE_MOMENT_AFTER;
  if (last == Last::kConnect && !after) {
    StopLooking();
    made_ = std::move(error->message);
    made.to_client = made_;
    made.close = true;
    return made;
  }
  Plan plan{.error = std::move(error->message), .fatal = error->fatal};
  if (!after) {
    group_failed_ = last == Last::kExecute;
    FailBefore(place, last_bytes_, last_execute_, commits, std::move(plan));
    if (last == Last::kQuery && client_skip_ > 0) {
      EndLate(place);
      // What holds the request up holds the first byte.
      made.to_server = tail_.substr(0, 1);
      tail_.remove_prefix(1);
    } else {
      made.to_server = made_;
    }
    return made;
  }
  AddPlan(place, std::move(plan));
  made_.assign(last_bytes_.data(), last_bytes_.size());
  if (last == Last::kConnect) {
    answer |= kPlanned;
  } else if (copies) {
    // What comes after its data must wait for their end.
    answer |= kPlanned | kMute | kLate;
  } else if (last == Last::kQuery) {
    answer |= kMute;
    answers_.Push(kTrapQuery | kPlanned);
    if (client_skip_ > 0) {
      tail_ = TrapQuery();
    } else {
      absl::StrAppend(&made_, TrapQuery());
    }
  } else {
    // A Sync of ours ends the transaction that one statement is, so that the server has executed
    // it.
    answer |= kMute;
    answers_.Push(kSync | kMute);
    answers_.Push(kTrapParse | kPlanned);
    group_dropped_ = true;
    absl::StrAppend(&made_, SyncMessage(), TrapParse());
  }
  made.to_server = made_;
  return made;
}

// Of the answers in front, how many have the flag.
size_t PostgresqlCodec::CountOf(uint8_t flag, size_t places) {
  size_t count = 0;
  for (size_t i = 0; i < places; ++i) count += (answers_.at(i) & flag) != 0 ? 1 : 0;
  return count;
}

// The request whose answer stands at `place` becomes, in `made_`, one that the server rejects.
// `bytes` begin with it; of an extended one, its Execute begins at `execute` and ends it.
void PostgresqlCodec::FailBefore(size_t place, absl::string_view bytes, size_t execute,
                                 bool commits, Plan plan) {
  // The server does not see it.
  if ((answers_.at(place) & kNaming) != 0) statements_.Withdraw(CountOf(kNaming, place));
  AddPlan(place, std::move(plan));
  // Outside of a block, what stands before it in a pipeline would be committed by a ROLLBACK.
  const bool commit = commits && status_ != 'I';
  uint8_t& answer = answers_.at(place);
  const bool query = KindOf(answer) == kQuery;
  made_.assign(bytes.data(), query ? 0 : execute);
  if (!commit) {
    answer = query ? kTrapQuery | kPlanned : kTrapParse | kPlanned;
    absl::StrAppend(&made_, query ? TrapQuery() : TrapParse());
    return;
  }
  answer = query ? kRollback | kMute | kPlanned : kRollback | kMute;
  absl::StrAppend(&made_, RollbackQuery(), query ? "" : TrapParse());
  if (!query) answers_.Insert(place + 1, kTrapParse | kPlanned);
}

// For the query whose end is still to come: a server answers once it has it all, and some clients
// rely on that. What FailBefore() made of it goes when the rest of it has come.
void PostgresqlCodec::EndLate(size_t place) {
  client_skip_dropped_ = true;
  tail_ = KindOf(answers_.at(place)) == kRollback ? RollbackQuery() : TrapQuery();
}

// The number of its answer, and whether it is a COMMIT.
uint32_t PostgresqlCodec::Ticket() const {
  if (last_ != Last::kQuery && last_ != Last::kExecute) return 0;
  return answers_.pushed() << 1 | (Commits(last_text_) ? 1 : 0);
}

std::optional<Cancelled> PostgresqlCodec::Cancel(uint32_t ticket, absl::string_view bytes) {
  if (phase_ != Phase::kSession) return std::nullopt;
  const size_t place = answers_.PlaceOf(ticket >> 1);
  if (place >= answers_.size()) return std::nullopt;
  // Of what came before it in one group, the server keeps its answers to itself up to the Sync.
  for (size_t i = 0; i < place; ++i) {
    if (EndsReady(answers_.at(i))) return std::nullopt;
  }
  const uint8_t answer = answers_.at(place) & static_cast<uint8_t>(~kNaming);
  if (answer != kQuery && answer != kExecute) return std::nullopt;
  const auto frame = [&bytes](size_t at, char* type, size_t* total) {
    return at < bytes.size() && Frame(bytes.substr(at), type, total);
  };
  char type = 0;
  size_t total = 0;
  size_t last = 0;
  while (frame(last, &type, &total) && type != 'Q' && type != 'E') last += total;
  if (type != (answer == kQuery ? 'Q' : 'E')) return std::nullopt;
  Cancelled made;
  made.length = std::min(last + total, bytes.size());
  if (answer != kQuery) {
    // The server skips what follows up to the next Sync, and the client waits for that one's
    // answer.
    size_t end = made.length;
    while (type != 'S' && frame(end, &type, &total)) end += total;
    if (type != 'S') group_failed_ = true;
    made.released = std::min(end, bytes.size()) - made.length;
  }
  v1::QueryFailure failure;
  failure.set_error("57014");
  FailBefore(place, bytes, last, (ticket & 1) != 0,
             {.error = std::move(MakeError(failure, false)->message)});
  if (last + total > bytes.size()) {
    EndLate(place);
  } else {
    made.to_server = made_;
  }
  return made;
}

}  // namespace firedrill::wire::postgresql
