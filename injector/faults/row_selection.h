// Which rows lock_rows is about, and how many it may be, whatever the server.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "firedrill/v1/fault.pb.h"
#include "injector/fault.h"

namespace firedrill {

// The profile's own statement; empty where column and values say which rows. An error where neither
// does, or both.
absl::StatusOr<std::string> FindRowSelection(const v1::LockRows& message, const Node& node);

size_t MostRows(const v1::LockRows& message);

// "; at least 1 of 3 values has no row" where fewer rows than values were found; else empty. Which
// it is nobody says, since several rows may have one value.
std::string MissingValues(const v1::LockRows& message, size_t rows);

// Refuses none, and more than permitted. `rows`: how many have been locked.
absl::Status CheckRowCount(const v1::LockRows& message, size_t rows);

}  // namespace firedrill
