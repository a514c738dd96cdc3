// lock_table: a lock on a whole table, as a migration that does not come to an end would hold it.
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "injector/faults/held_lock.h"
#include "injector/os/postgres_lock.h"

namespace firedrill {
namespace {

struct Mode {
  const char* sql;
  // In pg_locks.
  const char* name;
};
Mode ModeOf(v1::TableLock mode) {
  switch (mode) {
    case v1::TABLE_LOCK_ACCESS_SHARE:
      return {"ACCESS SHARE", "AccessShareLock"};
    case v1::TABLE_LOCK_ROW_SHARE:
      return {"ROW SHARE", "RowShareLock"};
    case v1::TABLE_LOCK_ROW_EXCLUSIVE:
      return {"ROW EXCLUSIVE", "RowExclusiveLock"};
    case v1::TABLE_LOCK_SHARE_UPDATE_EXCLUSIVE:
      return {"SHARE UPDATE EXCLUSIVE", "ShareUpdateExclusiveLock"};
    case v1::TABLE_LOCK_SHARE:
      return {"SHARE", "ShareLock"};
    case v1::TABLE_LOCK_SHARE_ROW_EXCLUSIVE:
      return {"SHARE ROW EXCLUSIVE", "ShareRowExclusiveLock"};
    case v1::TABLE_LOCK_EXCLUSIVE:
      return {"EXCLUSIVE", "ExclusiveLock"};
    default:
      return {"ACCESS EXCLUSIVE", "AccessExclusiveLock"};
  }
}

class LockTable final : public HeldLock<v1::LockTable, PostgresLock> {
 public:
  using HeldLock::HeldLock;

  absl::Status Validate(const Node& node) const override { return PlaceOf(node, "").status(); }

  absl::Status Apply(const Context& context, Node& node, Changes&) override {
    RETURN_IF_ERROR(Prepare(context, node));
    applied_ = true;
    auto take = TakeOf(context);
    take.statement = absl::StrCat("LOCK TABLE ", lock_.quoted_table(), " IN ",
                                  ModeOf(message_.mode()).sql, " MODE");
    const auto taken = lock_.Acquire(take, context.patience());
    return Annotate(taken.status(), absl::StrCat("locking ", message_.table()));
  }

  absl::StatusOr<v1::Observation> Observe(const Context& context, const Node&) const override {
    if (!applied_) return absl::FailedPreconditionError("locking a table: not applied");
    const char* name = ModeOf(message_.mode()).name;
    ASSIGN_OR_RETURN(const PostgresLock::Sight sight, lock_.Look(name, context.patience()));
    return Observed(1, sight.held ? 1 : 0, "locks", sight.held,
                    absl::StrCat(name, " on ", message_.table(), sight.held ? " held" : " not held",
                                 WaitingWords(sight.waiting)),
                    sight.waiting);
  }
};

const FaultRegistration kLockTable(v1::Fault::kLockTable, [](const v1::Fault& fault) {
  return std::make_unique<LockTable>(fault.lock_table());
});

}  // namespace
}  // namespace firedrill
