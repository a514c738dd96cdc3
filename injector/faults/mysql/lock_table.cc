// lock_table for MariaDB: LOCK TABLES, as a migration or a dump that does not come to an end.
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/time_proto.h"
#include "injector/fault.h"
#include "injector/os/mysql_lock.h"

namespace firedrill {
namespace {

class LockTable final : public Fault, public Prepares {
 public:
  explicit LockTable(const v1::LockTable& message) : message_(message) {}

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

  absl::Status Prepare(const Context& context, Node& node) override {
    ASSIGN_OR_RETURN(const MysqlLock::Place place, PlaceOf(node, context.run));
    return lock_.Open(place, PatienceOf(context));
  }

  absl::Status Apply(const Context& context, Node& node, Changes&) override {
    RETURN_IF_ERROR(Prepare(context, node));
    applied_ = true;
    const absl::Duration within =
        message_.has_acquire_within() ? FromProto(message_.acquire_within()) : absl::Seconds(1);
    const auto taken = lock_.Acquire(
        {.stamp = context.Stamp(),
         .statements = {absl::StrCat("LOCK TABLES ", lock_.quoted_table(), " ", mode())},
         .end = RealClock().Boot() + (context.ends_at - context.clock.Boot()),
         .within = within},
        PatienceOf(context));
    return Annotate(taken.status(), absl::StrCat("locking ", message_.table()));
  }

  // Whether others would wait is asked, by a session that does not.
  absl::StatusOr<v1::Observation> Observe(const Context& context, const Node&) const override {
    if (!applied_) return absl::FailedPreconditionError("locking a table: not applied");
    const Patience patience = PatienceOf(context);
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
    v1::Observation observation;
    observation.set_requested(1);
    observation.set_real(held ? 1 : 0);
    observation.set_unit("locks");
    observation.set_reached(held);
    observation.set_subject(lock_.facts().identity);
    observation.set_detail(absl::StrCat(
        mode(), " lock on ", message_.table(), held ? " held" : " not held", WaitingWords(waiting),
        held || lock_.trouble().empty() ? "" : absl::StrCat("; ", lock_.trouble())));
    if (waiting.has_value()) (*observation.mutable_figures())["waiting"] = *waiting;
    return observation;
  }

  void Release() override {
    lock_.LetGo();
    if (!applied_) lock_.Close();
  }

  absl::Status ReadBack(const Context& context, const Node& node) const override {
    ASSIGN_OR_RETURN(const MysqlLock::Place place, PlaceOf(node, context.run));
    RETURN_IF_ERROR(lock_.AwaitNone(place, context.Stamp(), PatienceOf(context)));
    lock_.Close();
    return absl::OkStatus();
  }

 private:
  static Patience PatienceOf(const Context& context) {
    return Patience(context.deadline - context.clock.Boot(), context.stop);
  }
  bool share() const { return message_.mode() == v1::TABLE_LOCK_SHARE; }
  const char* mode() const { return share() ? "READ" : "WRITE"; }

  absl::StatusOr<MysqlLock::Place> PlaceOf(const Node& node, const std::string& run) const {
    ASSIGN_OR_RETURN(const v1::Profile profile, node.FindProfile(message_.profile()));
    if (!profile.has_mysql()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "profile ", message_.profile(), " is no MySQL or MariaDB server; name one that is"));
    }
    return MysqlLock::Place{message_.profile(), profile.mysql(), message_.table(),
                            message_.superuser(), run};
  }

  const v1::LockTable message_;
  bool applied_ = false;
  // Its connections are opened anew where the server has ended them.
  mutable MysqlLock lock_;
};

const FaultRegistration kLockTable(v1::Fault::kLockTable, v1::PROTOCOL_MYSQL,
                                   [](const v1::Fault& fault) {
                                     return std::make_unique<LockTable>(fault.lock_table());
                                   });

}  // namespace
}  // namespace firedrill
