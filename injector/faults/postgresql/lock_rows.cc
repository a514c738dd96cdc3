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
#include "injector/faults/held_lock.h"
#include "injector/faults/row_selection.h"
#include "injector/os/postgres_lock.h"

namespace firedrill {
namespace {

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

class LockRows final : public HeldLock<v1::LockRows, PostgresLock> {
 public:
  using HeldLock::HeldLock;

  absl::Status Validate(const Node& node) const override {
    RETURN_IF_ERROR(PlaceOf(node, "").status());
    return FindRowSelection(message_, node).status();
  }

  absl::Status Apply(const Context& context, Node& node, Changes&) override {
    RETURN_IF_ERROR(Prepare(context, node));
    ASSIGN_OR_RETURN(selection_, FindRowSelection(message_, node));
    applied_ = true;
    auto take = TakeOf(context);
    take.statement = Statement(StrengthOf(message_.mode()), MostRows(message_) + 1);
    take.parameters = Parameters();
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
    ASSIGN_OR_RETURN(const PostgresLock::Sight sight, lock_.Look("RowShareLock", patience));
    ASSIGN_OR_RETURN(const size_t free,
                     lock_.CountRows(Statement("UPDATE SKIP LOCKED", MostRows(message_) + 1),
                                     Parameters(), patience));
    const size_t locked = sight.held ? rows_ - std::min(rows_, free) : 0;
    v1::Observation observation =
        Observed(static_cast<double>(rows_), static_cast<double>(locked), "rows", sight.held,
                 absl::StrCat(locked, " of ", rows_, " rows of ", message_.table(), " locked FOR ",
                              StrengthOf(message_.mode()), WaitingWords(sight.waiting),
                              MissingValues(message_, rows_)),
                 sight.waiting);
    (*observation.mutable_figures())["rows"] = static_cast<double>(rows_);
    return observation;
  }

 private:
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

  std::string selection_;
  size_t rows_ = 0;
};

const FaultRegistration kLockRows(v1::Fault::kLockRows, [](const v1::Fault& fault) {
  return std::make_unique<LockRows>(fault.lock_rows());
});

}  // namespace
}  // namespace firedrill
