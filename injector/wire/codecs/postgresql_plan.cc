// How a request of PostgreSQL's fails: what the server gets, and which answers the client is not to
// get as they are.
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
  uint8_t& answer = answers_.back_place();
  // Its text may be in what is made over.
  const bool copies = CopiesIn(last_text_);
  const bool commits = Commits(last_text_);
  made_.assign(last_bytes_.data(), last_bytes_.size());
  if (failure.how_case() == v1::QueryFailure::kCutAfter) {
    answer |= kPlanned;
    AddPlan({.cut = true, .left = failure.cut_after()});
    made.to_server = made_;
    return made;
  }
  std::optional<Error> error = MakeError(failure, last == Last::kConnect);
  if (!error.has_value()) return std::nullopt;
  const bool after = failure.moment() == v1::FAILURE_MOMENT_AFTER;
  // The server does not see it.
  if (!after && (answer & kNaming) != 0) statements_.Withdraw();
  // Outside of a block, what stands before it in a pipeline would be committed by a ROLLBACK.
  const bool commit = !after && status_ != 'I' && commits;
  if (last == Last::kConnect && !after) {
    StopLooking();
    made_ = std::move(error->message);
    made.to_client = made_;
    made.close = true;
    return made;
  }
  AddPlan({.error = std::move(error->message), .fatal = error->fatal});
  if (last == Last::kConnect) {
    answer |= kPlanned;
  } else if (commit && last == Last::kQuery) {
    answer = kRollback | kMute | kPlanned;
    client_skip_dropped_ = client_skip_ > 0;
    made_.assign(RollbackQuery().data(), RollbackQuery().size());
  } else if (commit) {
    answer = kRollback | kMute;
    answers_.Push(kTrapParse | kPlanned);
    group_failed_ = true;
    made_.resize(last_execute_);
    absl::StrAppend(&made_, RollbackQuery(), TrapParse());
  } else if (!after && last == Last::kQuery) {
    answer = kTrapQuery | kPlanned;
    client_skip_dropped_ = client_skip_ > 0;
    made_.assign(TrapQuery().data(), TrapQuery().size());
  } else if (!after) {
    answer = kTrapParse | kPlanned;
    group_failed_ = true;
    made_.resize(last_execute_);
    absl::StrAppend(&made_, TrapParse());
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

}  // namespace firedrill::wire::postgresql
