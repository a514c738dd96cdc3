// lock_rows: locks on some rows, as a transaction that was left open would hold them.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "injector/fault.h"
#include "injector/os/postgres_lock.h"

namespace firedrill {
namespace {

constexpr uint32_t kMostRows = 1000;

const char* StrengthOf(v1::RowLock lock) {
  switch (lock) {
    case v1::ROW_LOCK_FOR_SHARE:
      return "SHARE";
    case v1::ROW_LOCK_FOR_NO_KEY_UPDATE:
      return "NO KEY UPDATE";
    default:
      return "UPDATE";
  }
}

std::string QuotedName(absl::string_view name) {
  return absl::StrCat("\"", absl::StrReplaceAll(name, {{"\"", "\"\""}}), "\"");
}

// As PostgreSQL reads an array.
std::string ArrayOf(const google::protobuf::RepeatedPtrField<std::string>& values) {
  std::vector<std::string> quoted;
  for (const std::string& value : values) {
    quoted.push_back(
        absl::StrCat("\"", absl::StrReplaceAll(value, {{"\\", "\\\\"}, {"\"", "\\\""}}), "\""));
  }
  return absl::StrCat("{", absl::StrJoin(quoted, ","), "}");
}

class LockRows final : public Fault, public Prepares {
 public:
  explicit LockRows(const v1::LockRows& message) : message_(message) {}

  absl::Status Validate(const Node& node) const override {
    RETURN_IF_ERROR(PlaceOf(node, "").status());
    return SelectionOf(node).status();
  }

  absl::Status Prepare(const Context& context, Node& node) override {
    ASSIGN_OR_RETURN(const PostgresLock::Place place, PlaceOf(node, context.run));
    return lock_.Open(place, PatienceOf(context));
  }

  absl::Status Apply(const Context& context, Node& node, Changes&) override {
    RETURN_IF_ERROR(Prepare(context, node));
    ASSIGN_OR_RETURN(selection_, SelectionOf(node));
    applied_ = true;
    const absl::Duration within =
        message_.has_acquire_within() ? FromProto(message_.acquire_within()) : absl::Seconds(1);
    auto taken =
        lock_.Acquire({.stamp = context.Stamp(),
                       .statement = Statement(StrengthOf(message_.mode()), most() + 1),
                       .parameters = Parameters(),
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
    ASSIGN_OR_RETURN(const PostgresLock::Sight sight, lock_.Look("RowShareLock", patience));
    ASSIGN_OR_RETURN(const size_t free, lock_.CountRows(Statement("UPDATE SKIP LOCKED", most() + 1),
                                                        Parameters(), patience));
    const size_t locked = sight.held ? rows_ - std::min(rows_, free) : 0;
    v1::Observation observation;
    observation.set_requested(static_cast<double>(rows_));
    observation.set_real(static_cast<double>(locked));
    observation.set_unit("rows");
    observation.set_reached(locked > 0 && locked == rows_);
    observation.set_subject(lock_.facts().identity);
    observation.set_detail(absl::StrCat(
        locked, " of ", rows_, " rows of ", message_.table(), " locked FOR ",
        StrengthOf(message_.mode()), ", ", sight.waiting,
        sight.waiting == 1 ? " session waits for us" : " sessions wait for us",
        sight.held || lock_.trouble().empty() ? "" : absl::StrCat("; ", lock_.trouble())));
    auto& figures = *observation.mutable_figures();
    figures["waiting"] = sight.waiting;
    figures["rows"] = static_cast<double>(rows_);
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
  size_t most() const { return message_.at_most() > 0 ? message_.at_most() : kMostRows; }

  absl::StatusOr<PostgresLock::Place> PlaceOf(const Node& node, const std::string& run) const {
    ASSIGN_OR_RETURN(const v1::Profile profile, node.FindProfile(message_.profile()));
    if (!profile.has_postgresql()) {
      return absl::InvalidArgumentError(absl::StrCat("profile ", message_.profile(),
                                                     " is no PostgreSQL server; name one that is"));
    }
    return PostgresLock::Place{message_.profile(), profile.postgresql(), message_.table(),
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

  // The rows above `limit` are left alone.
  std::string Statement(absl::string_view strength, size_t limit) const {
    const std::string rows = selection_.empty()
                                 ? absl::StrCat("SELECT 1 FROM ", lock_.quoted_table(), " WHERE ",
                                                QuotedName(message_.column()), " = ANY ($1)")
                                 : selection_;
    return absl::StrCat("SELECT 1 FROM (", rows, " FOR ", strength, ") firedrill LIMIT ", limit);
  }
  std::vector<std::string> Parameters() const {
    if (!selection_.empty()) return {};
    return {ArrayOf(message_.values())};
  }

  const v1::LockRows message_;
  std::string selection_;
  size_t rows_ = 0;
  bool applied_ = false;
  // Its connections are opened anew where the server has ended them.
  mutable PostgresLock lock_;
};

const FaultRegistration kLockRows(v1::Fault::kLockRows, [](const v1::Fault& fault) {
  return std::make_unique<LockRows>(fault.lock_rows());
});

}  // namespace
}  // namespace firedrill
