// The language of `is`: comparisons joined by commas, "ok >= 99%, p95 < 250ms" or "< 0.6".
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace firedrill {

enum class Relation { kLess, kLessOrEqual, kEqual, kNotEqual, kGreaterOrEqual, kGreater };

// What a number was written with. Durations are compared in seconds, shares in percent.
enum class Unit { kPlain, kSeconds, kPercent };

struct Comparison {
  // Empty: the probe's only value, the field "value".
  std::string field;
  Relation relation = Relation::kEqual;
  double value = 0;
  Unit unit = Unit::kPlain;
  // Where it and its number stand in the text, from 0.
  size_t offset = 0;
  size_t value_offset = 0;
};

struct Condition {
  // All must be true; never empty after ParseCondition.
  std::vector<Comparison> comparisons;
};

enum class Truth { kUnknown, kFalse, kTrue };

// The field that a comparison without a name is about.
inline constexpr char kValueField[] = "value";

// InvalidArgument where the text is no condition; then `*error_offset`, if given, is where, from 0.
absl::StatusOr<Condition> ParseCondition(absl::string_view text, size_t* error_offset = nullptr);

// Sets `*value` and returns true where the field was measured.
using FieldLookup = absl::FunctionRef<bool(const std::string& field, double* value)>;

// A field that is missing or NaN makes its comparison unknown. One false comparison makes the whole
// false, whatever the others are; else one unknown comparison makes it unknown.
Truth EvaluateFields(const Condition& condition, FieldLookup lookup);

// What was observed of the fields the condition names: "ok 43.1%, p95 1.2s", "0.72", "p95 unknown".
std::string DescribeFields(const Condition& condition, FieldLookup lookup);

// For std::map<std::string, double> and for the `values` of a Sample.
template <typename Map>
Truth Evaluate(const Condition& condition, const Map& values) {
  return EvaluateFields(condition, [&values](const std::string& field, double* value) {
    auto it = values.find(field);
    if (it == values.end()) return false;
    *value = it->second;
    return true;
  });
}

template <typename Map>
std::string Describe(const Map& values, const Condition& condition) {
  return DescribeFields(condition, [&values](const std::string& field, double* value) {
    auto it = values.find(field);
    if (it == values.end()) return false;
    *value = it->second;
    return true;
  });
}

// "0.72", "43.1%", "1.2s": three or four significant digits, for people.
std::string FormatValue(double value, Unit unit);

// "<", "<=", ...
absl::string_view RelationText(Relation relation);

}  // namespace firedrill
