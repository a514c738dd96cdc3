// lock_rows for MariaDB: locks on some rows, as a transaction that was left open would hold them.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "base/time_proto.h"
#include "injector/fault.h"
#include "injector/os/mysql_lock.h"

namespace firedrill {
namespace {

constexpr uint32_t kMostRows = 1000;

class LockRows final : public Fault, public Prepares {
 public:
  explicit LockRows(const v1::LockRows& message) : message_(message) {}

  absl::Status Validate(const Node& node) const override {
    if (message_.mode() == v1::ROW_LOCK_FOR_NO_KEY_UPDATE) {
      return absl::InvalidArgumentError(
          "MariaDB has no lock of this mode; it has forShare (LOCK IN SHARE MODE) and forUpdate");
    }
    RETURN_IF_ERROR(PlaceOf(node, "").status());
    return SelectionOf(node).status();
  }

  absl::Status Prepare(const Context& context, Node& node) override {
    ASSIGN_OR_RETURN(const MysqlLock::Place place, PlaceOf(node, context.run));
    return lock_.Open(place, PatienceOf(context));
  }

  absl::Status Apply(const Context& context, Node& node, Changes&) override {
    RETURN_IF_ERROR(Prepare(context, node));
    ASSIGN_OR_RETURN(selection_, SelectionOf(node));
    applied_ = true;
    const absl::Duration within =
        message_.has_acquire_within() ? FromProto(message_.acquire_within()) : absl::Seconds(1);
    // Nobody waits behind us: a row that is not free ends the attempt at once. What is looked at
    // and does not match is not locked in this isolation level.
    const auto taken =
        lock_.Acquire({.stamp = context.Stamp(),
                       .statements = {absl::StrCat("SET SESSION max_statement_time = ",
                                                   absl::ToDoubleSeconds(within)),
                                      "SET TRANSACTION ISOLATION LEVEL READ COMMITTED",
                                      "START TRANSACTION", Statement(mode() + " NOWAIT")},
                       .back_out = "ROLLBACK",
                       .end = RealClock().Boot() + (context.ends_at - context.clock.Boot()),
                       .within = within},
                      PatienceOf(context));
    RETURN_IF_ERROR(Annotate(taken.status(), absl::StrCat("locking rows of ", message_.table())));
    rows_ = *taken;
    absl::Status sized;
    if (rows_ == 0) {
      sized = absl::NotFoundError(absl::StrCat(
          "no row of ", message_.table(), " matches, so nothing would be locked; check ",
          message_.statement().empty() ? "column and values" : "the statement"));
    } else if (rows_ > most()) {
      sized = absl::ResourceExhaustedError(absl::StrCat("more than ", most(), " rows of ",
                                                        message_.table(),
                                                        " match; select fewer, or raise atMost"));
    }
    if (!sized.ok()) lock_.LetGo();
    return sized;
  }

  // What cannot be locked by somebody else is locked: that is asked, not what we did.
  absl::StatusOr<v1::Observation> Observe(const Context& context, const Node&) const override {
    if (!applied_) return absl::FailedPreconditionError("locking rows: not applied");
    const Patience patience = PatienceOf(context);
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
    v1::Observation observation;
    observation.set_requested(static_cast<double>(rows_));
    observation.set_real(static_cast<double>(locked));
    observation.set_unit("rows");
    observation.set_reached(locked > 0 && locked == rows_);
    observation.set_subject(lock_.facts().identity);
    observation.set_detail(
        absl::StrCat(locked, " of ", rows_, " rows of ", message_.table(), " locked ", mode(),
                     WaitingWords(waiting),
                     held || lock_.trouble().empty() ? "" : absl::StrCat("; ", lock_.trouble())));
    auto& figures = *observation.mutable_figures();
    if (waiting.has_value()) figures["waiting"] = *waiting;
    figures["rows"] = static_cast<double>(rows_);
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
  size_t most() const { return message_.at_most() > 0 ? message_.at_most() : kMostRows; }
  std::string mode() const {
    return message_.mode() == v1::ROW_LOCK_FOR_SHARE ? "LOCK IN SHARE MODE" : "FOR UPDATE";
  }

  absl::StatusOr<MysqlLock::Place> PlaceOf(const Node& node, const std::string& run) const {
    ASSIGN_OR_RETURN(const v1::Profile profile, node.FindProfile(message_.profile()));
    if (!profile.has_mysql()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "profile ", message_.profile(), " is no MySQL or MariaDB server; name one that is"));
    }
    return MysqlLock::Place{message_.profile(), profile.mysql(), message_.table(),
                            message_.superuser(), run};
  }

  // The profile's own statement; empty where column and values say which rows.
  absl::StatusOr<std::string> SelectionOf(const Node& node) const {
    if (message_.statement().empty()) {
      if (!message_.column().empty() && message_.values_size() > 0) return std::string();
      return absl::InvalidArgumentError(
          "lockRows needs to know which: a statement of the profile, or column and values");
    }
    if (!message_.column().empty() || message_.values_size() > 0) {
      return absl::InvalidArgumentError(
          "lockRows takes a statement of the profile, or column and values, not both");
    }
    ASSIGN_OR_RETURN(const v1::Profile profile, node.FindProfile(message_.profile()));
    return FindPlainStatement(profile, message_.statement());
  }

  // A profile's own statement may lock more than are permitted before they are counted: then all
  // are let go at once.
  std::string Statement(absl::string_view strength) const {
    if (!selection_.empty()) return absl::StrCat(selection_, " ", strength);
    const std::string values = absl::StrJoin(
        message_.values(), ", ",
        [](std::string* out, const std::string& value) { absl::StrAppend(out, MysqlText(value)); });
    return absl::StrCat("SELECT 1 FROM ", lock_.quoted_table(), " WHERE ",
                        MysqlName(message_.column()), " IN (", values, ") LIMIT ", most() + 1, " ",
                        strength);
  }

  const v1::LockRows message_;
  std::string selection_;
  size_t rows_ = 0;
  bool applied_ = false;
  // Its connections are opened anew where the server has ended them.
  mutable MysqlLock lock_;
};

const FaultRegistration kLockRows(v1::Fault::kLockRows, v1::PROTOCOL_MYSQL,
                                  [](const v1::Fault& fault) {
                                    return std::make_unique<LockRows>(fault.lock_rows());
                                  });

}  // namespace
}  // namespace firedrill
