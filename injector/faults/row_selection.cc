// Rows by a statement, or by column and values.
#include "injector/faults/row_selection.h"

#include <set>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "injector/os/statements.h"

namespace firedrill {
namespace {

constexpr uint32_t kMostRows = 1000;

}  // namespace

absl::StatusOr<std::string> FindRowSelection(const v1::LockRows& message, const Node& node) {
  if (message.statement().empty()) {
    if (!message.column().empty() && message.values_size() > 0) return std::string();
    return absl::InvalidArgumentError(
        "lockRows needs to know which: a statement of the profile, or column and values");
  }
  if (!message.column().empty() || message.values_size() > 0) {
    return absl::InvalidArgumentError(
        "lockRows takes a statement of the profile, or column and values, not both");
  }
  ASSIGN_OR_RETURN(const v1::Profile profile, node.FindProfile(message.profile()));
  return FindPlainStatement(profile, message.statement());
}

size_t MostRows(const v1::LockRows& message) {
  return message.at_most() > 0 ? message.at_most() : kMostRows;
}

std::string MissingValues(const v1::LockRows& message, size_t rows) {
  const std::set<std::string> values(message.values().begin(), message.values().end());
  if (!message.statement().empty() || rows >= values.size()) return "";
  const size_t missing = values.size() - rows;
  return absl::StrCat("; at least ", missing, " of ", values.size(),
                      missing == 1 ? " values has no row" : " values have no row");
}

absl::Status CheckRowCount(const v1::LockRows& message, size_t rows) {
  if (rows == 0) {
    return absl::NotFoundError(
        absl::StrCat("no row of ", message.table(), " matches, so nothing would be locked; check ",
                     message.statement().empty() ? "column and values" : "the statement"));
  }
  if (rows <= MostRows(message)) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat("more than ", MostRows(message), " rows of ",
                                                   message.table(),
                                                   " match; select fewer, or raise atMost"));
}

}  // namespace firedrill
