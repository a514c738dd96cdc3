// Parses, evaluates and describes the conditions of `is`.
#include "experiment/condition.h"

#include <cmath>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "base/text.h"

namespace firedrill {
namespace {

constexpr size_t kMaxComparisons = 16;

constexpr std::pair<const char*, Relation> kRelations[] = {
    // The longer ones first, so that "<=" is not read as "<".
    {"<=", Relation::kLessOrEqual}, {">=", Relation::kGreaterOrEqual},
    {"==", Relation::kEqual},       {"!=", Relation::kNotEqual},
    {"<", Relation::kLess},         {">", Relation::kGreater},
};

// A cursor over the text of one condition.
class Parser {
 public:
  explicit Parser(absl::string_view text) : text_(text) {}

  size_t offset() const { return offset_; }

  absl::StatusOr<Condition> Parse() {
    Condition condition;
    do {
      if (condition.comparisons.size() == kMaxComparisons) {
        return absl::InvalidArgumentError(
            absl::StrCat("a condition has at most ", kMaxComparisons, " comparisons"));
      }
      Comparison comparison;
      absl::Status status = ParseComparison(&comparison);
      if (!status.ok()) return status;
      condition.comparisons.push_back(std::move(comparison));
      SkipSpace();
    } while (Take(","));
    if (offset_ < text_.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat("expected a comma or the end, not '", text_.substr(offset_, 1), "'"));
    }
    return condition;
  }

 private:
  absl::Status ParseComparison(Comparison* comparison) {
    SkipSpace();
    comparison->offset = offset_;
    if (offset_ < text_.size() && absl::ascii_isalpha(text_[offset_])) {
      comparison->field =
          std::string(TakeWhile([](char c) { return absl::ascii_isalnum(c) || c == '_'; }));
      SkipSpace();
    }
    bool found = false;
    for (const auto& [sign, relation] : kRelations) {
      if (!Take(sign)) continue;
      comparison->relation = relation;
      found = true;
      break;
    }
    if (!found) {
      return absl::InvalidArgumentError(absl::StrCat(
          "expected one of < <= == != >= >", comparison->field.empty() ? "" : " after '",
          comparison->field, comparison->field.empty() ? "" : "'"));
    }
    SkipSpace();
    comparison->value_offset = offset_;
    return ParseNumber(comparison);
  }

  absl::Status ParseNumber(Comparison* comparison) {
    size_t start = offset_;
    Take("-");
    TakeWhile([](char c) { return absl::ascii_isdigit(c) || c == '.'; });
    if (offset_ + 1 < text_.size() && (text_[offset_] == 'e' || text_[offset_] == 'E') &&
        (absl::ascii_isdigit(text_[offset_ + 1]) || text_[offset_ + 1] == '-' ||
         text_[offset_ + 1] == '+')) {
      offset_ += 2;
      TakeWhile([](char c) { return absl::ascii_isdigit(c); });
    }
    absl::string_view number = text_.substr(start, offset_ - start);
    if (number.empty() || number == "-") {
      offset_ = start;
      return absl::InvalidArgumentError(
          absl::StrCat("expected a number such as 0.6, 99% or 250ms after '",
                       RelationText(comparison->relation), "'"));
    }
    if (offset_ < text_.size() && absl::ascii_isalpha(text_[offset_])) {
      TakeWhile([](char c) { return absl::ascii_isalnum(c) || c == '.'; });
      absl::string_view literal = text_.substr(start, offset_ - start);
      absl::StatusOr<absl::Duration> duration = ParseDuration(literal);
      if (!duration.ok()) {
        offset_ = start;
        return absl::InvalidArgumentError(
            absl::StrCat("'", literal, "' is neither a number nor a duration such as 250ms"));
      }
      comparison->value = absl::ToDoubleSeconds(*duration);
      comparison->unit = Unit::kSeconds;
      return absl::OkStatus();
    }
    if (!absl::SimpleAtod(number, &comparison->value) || !std::isfinite(comparison->value)) {
      offset_ = start;
      return absl::InvalidArgumentError(absl::StrCat("'", number, "' is not a number"));
    }
    if (Take("%")) comparison->unit = Unit::kPercent;
    return absl::OkStatus();
  }

  void SkipSpace() {
    TakeWhile([](char c) { return absl::ascii_isspace(c); });
  }

  bool Take(absl::string_view token) {
    if (!absl::StartsWith(text_.substr(offset_), token)) return false;
    offset_ += token.size();
    return true;
  }

  absl::string_view TakeWhile(bool (*belongs)(char)) {
    size_t start = offset_;
    while (offset_ < text_.size() && belongs(text_[offset_])) ++offset_;
    return text_.substr(start, offset_ - start);
  }

  absl::string_view text_;
  size_t offset_ = 0;
};

bool Holds(Relation relation, double observed, double limit) {
  switch (relation) {
    case Relation::kLess:
      return observed < limit;
    case Relation::kLessOrEqual:
      return observed <= limit;
    case Relation::kEqual:
      return observed == limit;
    case Relation::kNotEqual:
      return observed != limit;
    case Relation::kGreaterOrEqual:
      return observed >= limit;
    case Relation::kGreater:
      return observed > limit;
  }
  return false;
}

const std::string& FieldOf(const Comparison& comparison) {
  static const std::string* const value = new std::string(kValueField);
  return comparison.field.empty() ? *value : comparison.field;
}

}  // namespace

absl::StatusOr<Condition> ParseCondition(absl::string_view text, size_t* error_offset) {
  Parser parser(text);
  absl::StatusOr<Condition> condition = parser.Parse();
  if (!condition.ok() && error_offset != nullptr) *error_offset = parser.offset();
  return condition;
}

Truth EvaluateFields(const Condition& condition, FieldLookup lookup) {
  bool unknown = false;
  for (const Comparison& comparison : condition.comparisons) {
    double observed = 0;
    if (!lookup(FieldOf(comparison), &observed) || std::isnan(observed)) {
      unknown = true;
    } else if (!Holds(comparison.relation, observed, comparison.value)) {
      return Truth::kFalse;
    }
  }
  return unknown ? Truth::kUnknown : Truth::kTrue;
}

std::string DescribeFields(const Condition& condition, FieldLookup lookup) {
  std::vector<std::string> parts;
  std::set<std::string> seen;
  for (const Comparison& comparison : condition.comparisons) {
    if (!seen.insert(FieldOf(comparison)).second) continue;
    double observed = 0;
    std::string text = "unknown";
    if (lookup(FieldOf(comparison), &observed) && !std::isnan(observed)) {
      text = FormatValue(observed, comparison.unit);
    }
    if (!comparison.field.empty()) text = absl::StrCat(comparison.field, " ", text);
    parts.push_back(std::move(text));
  }
  return absl::StrJoin(parts, ", ");
}

std::string FormatValue(double value, Unit unit) {
  if (std::isnan(value)) return "unknown";
  // Whole numbers in full (a status of 503, 12345 sessions), fractions to the digits that matter.
  auto digits = [](double number, int significant) {
    if (number == std::floor(number) && std::abs(number) < 1e15) {
      return absl::StrFormat("%.0f", number);
    }
    return absl::StrFormat("%.*g", significant, number);
  };
  switch (unit) {
    case Unit::kPlain:
      return digits(value, 4);
    case Unit::kPercent:
      return digits(std::round(value * 10) / 10, 4) + "%";
    case Unit::kSeconds:
      if (std::abs(value) < 1 && value != 0) return digits(value * 1e3, 3) + "ms";
      if (std::abs(value) >= 120) {
        return absl::FormatDuration(absl::Seconds(static_cast<int64_t>(std::round(value))));
      }
      return digits(value, 3) + "s";
  }
  return "";
}

absl::string_view RelationText(Relation relation) {
  for (const auto& [sign, candidate] : kRelations) {
    if (candidate == relation) return sign;
  }
  return "?";
}

}  // namespace firedrill
