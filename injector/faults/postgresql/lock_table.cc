// lock_table: a lock on a whole table, as a migration that does not come to an end would hold it.
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "injector/fault.h"
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

class LockTable final : public Fault, public Prepares {
 public:
  explicit LockTable(const v1::LockTable& message) : message_(message) {}

  absl::Status Validate(const Node& node) const override { return PlaceOf(node, "").status(); }

  absl::Status Prepare(const Context& context, Node& node) override {
    ASSIGN_OR_RETURN(const PostgresLock::Place place, PlaceOf(node, context.run));
    return lock_.Open(place, PatienceOf(context));
  }

  absl::Status Apply(const Context& context, Node& node, Changes&) override {
    RETURN_IF_ERROR(Prepare(context, node));
    applied_ = true;
    const absl::Duration within =
        message_.has_acquire_within() ? FromProto(message_.acquire_within()) : absl::Seconds(1);
    const auto taken =
        lock_.Acquire({.stamp = context.Stamp(),
                       .statement = absl::StrCat("LOCK TABLE ", lock_.quoted_table(), " IN ",
                                                 ModeOf(message_.mode()).sql, " MODE"),
                       .end = RealClock().Boot() + (context.ends_at - context.clock.Boot()),
                       .within = within},
                      PatienceOf(context));
    return Annotate(taken.status(), absl::StrCat("locking ", message_.table()));
  }

  absl::StatusOr<v1::Observation> Observe(const Context& context, const Node&) const override {
    if (!applied_) return absl::FailedPreconditionError("locking a table: not applied");
    const char* name = ModeOf(message_.mode()).name;
    ASSIGN_OR_RETURN(const PostgresLock::Sight sight, lock_.Look(name, PatienceOf(context)));
    v1::Observation observation;
    observation.set_requested(1);
    observation.set_real(sight.held ? 1 : 0);
    observation.set_unit("locks");
    observation.set_reached(sight.held);
    observation.set_subject(lock_.facts().identity);
    observation.set_detail(absl::StrCat(
        name, " on ", message_.table(), sight.held ? " held, " : " not held, ", sight.waiting,
        sight.waiting == 1 ? " session waits for us" : " sessions wait for us",
        sight.held || lock_.trouble().empty() ? "" : absl::StrCat("; ", lock_.trouble())));
    (*observation.mutable_figures())["waiting"] = sight.waiting;
    return observation;
  }

  void Release() override {
    lock_.LetGo();
    if (!applied_) lock_.Close();
  }

  absl::Status ReadBack(const Context& context, const Node& node) const override {
    ASSIGN_OR_RETURN(const PostgresLock::Place place, PlaceOf(node, context.run));
    RETURN_IF_ERROR(lock_.AwaitNone(place, context.Stamp(), PatienceOf(context)));
    lock_.Close();
    return absl::OkStatus();
  }

 private:
  static Patience PatienceOf(const Context& context) {
    return Patience(context.deadline - context.clock.Boot(), context.stop);
  }

  absl::StatusOr<PostgresLock::Place> PlaceOf(const Node& node, const std::string& run) const {
    ASSIGN_OR_RETURN(const v1::Profile profile, node.FindProfile(message_.profile()));
    if (!profile.has_postgresql()) {
      return absl::InvalidArgumentError(absl::StrCat("profile ", message_.profile(),
                                                     " is no PostgreSQL server; name one that is"));
    }
    return PostgresLock::Place{message_.profile(), profile.postgresql(), message_.table(),
                               message_.superuser(), run};
  }

  const v1::LockTable message_;
  bool applied_ = false;
  // Its connections are opened anew where the server has ended them.
  mutable PostgresLock lock_;
};

const FaultRegistration kLockTable(v1::Fault::kLockTable, [](const v1::Fault& fault) {
  return std::make_unique<LockTable>(fault.lock_table());
});

}  // namespace
}  // namespace firedrill
