// lock_table for MariaDB: LOCK TABLES, as a migration or a dump that does not come to an end.
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "injector/faults/held_lock.h"
#include "injector/os/mysql_lock.h"

namespace firedrill {
namespace {

class LockTable final : public HeldLock<v1::LockTable, MysqlLock> {
 public:
  using HeldLock::HeldLock;

  absl::Status Validate(const Node& node) const override {
    switch (message_.mode()) {
      case v1::TABLE_LOCK_UNSPECIFIED:
      case v1::TABLE_LOCK_SHARE:
      case v1::TABLE_LOCK_ACCESS_EXCLUSIVE:
        return PlaceOf(node, "").status();
      default:
        return absl::InvalidArgumentError(
            "MariaDB has no lock of this mode; it has share (LOCK TABLES ... READ: writers wait) "
            "and accessExclusive (... WRITE: readers wait, too)");
    }
  }

  absl::Status Apply(const Context& context, Node& node, Changes&) override {
    RETURN_IF_ERROR(Prepare(context, node));
    applied_ = true;
    auto take = TakeOf(context);
    take.statements = {absl::StrCat("LOCK TABLES ", lock_.quoted_table(), " ", mode())};
    const auto taken = lock_.Acquire(take, context.patience());
    return Annotate(taken.status(), absl::StrCat("locking ", message_.table()));
  }

  // Whether others would wait is asked, by a session that does not.
  absl::StatusOr<v1::Observation> Observe(const Context& context, const Node&) const override {
    if (!applied_) return absl::FailedPreconditionError("locking a table: not applied");
    const Patience patience = context.patience();
    ASSIGN_OR_RETURN(bool held, lock_.Held(context.Stamp(), patience));
    if (held) {
      ASSIGN_OR_RETURN(held, lock_.WouldWait(absl::StrCat("LOCK TABLES ", lock_.quoted_table(),
                                                          share() ? " WRITE" : " READ", " NOWAIT"),
                                             "UNLOCK TABLES", patience));
    }
    ASSIGN_OR_RETURN(
        const std::optional<int> waiting,
        lock_.CountWaiting(
            absl::StrCat("SELECT count(*) FROM information_schema.processlist WHERE state LIKE"
                         " 'Waiting for table%' AND locate(",
                         MysqlText(lock_.table_name()), ", info) > 0"),
            patience));
    return Observed(1, held ? 1 : 0, "locks", held,
                    absl::StrCat(mode(), " lock on ", message_.table(),
                                 held ? " held" : " not held", WaitingWords(waiting)),
                    waiting);
  }

 private:
  bool share() const { return message_.mode() == v1::TABLE_LOCK_SHARE; }
  const char* mode() const { return share() ? "READ" : "WRITE"; }
};

const FaultRegistration kLockTable(v1::Fault::kLockTable, v1::PROTOCOL_MYSQL,
                                   [](const v1::Fault& fault) {
                                     return std::make_unique<LockTable>(fault.lock_table());
                                   });

}  // namespace
}  // namespace firedrill
