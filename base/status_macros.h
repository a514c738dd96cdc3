// RETURN_IF_ERROR and ASSIGN_OR_RETURN, with the meaning of abseil's newer macros of these names.
#pragma once

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

namespace firedrill {

// The same status with "what: " in front of its message; OK stays OK.
inline absl::Status Annotate(const absl::Status& status, absl::string_view what) {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(what, ": ", status.message()));
}

}  // namespace firedrill

#define FIREDRILL_CONCAT_(a, b) a##b
#define FIREDRILL_CONCAT(a, b) FIREDRILL_CONCAT_(a, b)

#define RETURN_IF_ERROR(expression)                        \
  do {                                                     \
    absl::Status firedrill_status_ = (expression);         \
    if (!firedrill_status_.ok()) return firedrill_status_; \
  } while (false)

#define ASSIGN_OR_RETURN_(temporary, target, expression)     \
  auto temporary = (expression);                             \
  if (!temporary.ok()) return std::move(temporary).status(); \
  target = *std::move(temporary)

#define ASSIGN_OR_RETURN(target, expression) \
  ASSIGN_OR_RETURN_(FIREDRILL_CONCAT(firedrill_or_, __LINE__), target, expression)
