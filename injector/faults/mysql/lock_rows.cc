// lock_rows for MariaDB: locks on some rows, as a transaction that was left open would hold them.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "injector/faults/held_lock.h"
#include "injector/faults/row_selection.h"
#include "injector/os/mysql_lock.h"

namespace firedrill {
namespace {

class LockRows final : public HeldLock<v1::LockRows, MysqlLock> {
 public:
  using HeldLock::HeldLock;

  absl::Status Validate(const Node& node) const override {
    if (message_.mode() == v1::ROW_LOCK_FOR_NO_KEY_UPDATE) {
      return absl::InvalidArgumentError(
          "MariaDB has no lock of this mode; it has forShare (LOCK IN SHARE MODE) and forUpdate");
    }
    RETURN_IF_ERROR(PlaceOf(node, "").status());
    return FindRowSelection(message_, node).status();
  }

  absl::Status Apply(const Context& context, Node& node, Changes&) override {
    RETURN_IF_ERROR(Prepare(context, node));
    ASSIGN_OR_RETURN(selection_, FindRowSelection(message_, node));
    applied_ = true;
    auto take = TakeOf(context);
    // Nobody waits behind us: a row that is not free ends the attempt at once. What is looked at
    // and does not match is not locked in this isolation level.
    take.statements = {
        absl::StrCat("SET SESSION max_statement_time = ", absl::ToDoubleSeconds(take.within)),
        "SET TRANSACTION ISOLATION LEVEL READ COMMITTED", "START TRANSACTION",
        Statement(mode() + " NOWAIT")};
    take.back_out = "ROLLBACK";
    const auto taken = lock_.Acquire(take, context.patience());
    RETURN_IF_ERROR(Annotate(taken.status(), absl::StrCat("locking rows of ", message_.table())));
    rows_ = *taken;
    const absl::Status sized = CheckRowCount(message_, rows_);
    if (!sized.ok()) lock_.LetGo();
    return sized;
  }

  // What cannot be locked by somebody else is locked: that is asked, not what we did.
  absl::StatusOr<v1::Observation> Observe(const Context& context, const Node&) const override {
    if (!applied_) return absl::FailedPreconditionError("locking rows: not applied");
    const Patience patience = context.patience();
    ASSIGN_OR_RETURN(const bool held, lock_.Held(context.Stamp(), patience));
    ASSIGN_OR_RETURN(const size_t free,
                     lock_.CountRows(Statement("FOR UPDATE SKIP LOCKED"), patience));
    const size_t locked = held ? rows_ - std::min(rows_, free) : 0;
    ASSIGN_OR_RETURN(
        const std::optional<int> waiting,
        lock_.CountWaiting(
            absl::StrCat("SELECT count(DISTINCT w.requesting_trx_id) FROM"
                         " information_schema.innodb_lock_waits w JOIN"
                         " information_schema.innodb_trx t ON t.trx_id = w.blocking_trx_id"
                         " WHERE t.trx_mysql_thread_id = ",
                         lock_.holder_id()),
            patience));
    v1::Observation observation =
        Observed(static_cast<double>(rows_), static_cast<double>(locked), "rows", held,
                 absl::StrCat(locked, " of ", rows_, " rows of ", message_.table(), " locked ",
                              mode(), WaitingWords(waiting), MissingValues(message_, rows_)),
                 waiting);
    (*observation.mutable_figures())["rows"] = static_cast<double>(rows_);
    return observation;
  }

 private:
  std::string mode() const {
    return message_.mode() == v1::ROW_LOCK_FOR_SHARE ? "LOCK IN SHARE MODE" : "FOR UPDATE";
  }

  // A profile's own statement may lock more than are permitted before they are counted: then all
  // are let go at once.
  std::string Statement(absl::string_view strength) const {
    if (!selection_.empty()) return absl::StrCat(selection_, " ", strength);
    const std::string values = absl::StrJoin(
        message_.values(), ", ",
        [](std::string* out, const std::string& value) { absl::StrAppend(out, MysqlText(value)); });
    return absl::StrCat("SELECT 1 FROM ", lock_.quoted_table(), " WHERE ",
                        MysqlName(message_.column()), " IN (", values, ") LIMIT ",
                        MostRows(message_) + 1, " ", strength);
  }

  std::string selection_;
  size_t rows_ = 0;
};

const FaultRegistration kLockRows(v1::Fault::kLockRows, v1::PROTOCOL_MYSQL,
                                  [](const v1::Fault& fault) {
                                    return std::make_unique<LockRows>(fault.lock_rows());
                                  });

}  // namespace
}  // namespace firedrill
