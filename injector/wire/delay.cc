// Draws from a shape.
#include "injector/wire/delay.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "base/time_proto.h"
#include "injector/wire/chance.h"

namespace firedrill::wire {
namespace {

constexpr absl::Duration kLongest = absl::Minutes(10);
// Beyond that the bell curve is cut off.
constexpr double kDeviations = 4;

absl::Status CheckTime(absl::string_view name, absl::Duration time, absl::Duration least) {
  if (time >= least && time <= kLongest) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("a delay's ", name, " of ", absl::FormatDuration(time), " is not between ",
                   absl::FormatDuration(least), " and ", absl::FormatDuration(kLongest)));
}

absl::Status CheckOrder(absl::Duration shortest, absl::Duration longest) {
  if (shortest <= longest) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("a delay's `max` of ", absl::FormatDuration(longest), " is below its `min` of ",
                   absl::FormatDuration(shortest)));
}

// Rounded up: what is held is never let go early.
double Micros(absl::Duration time) { return std::ceil(absl::ToDoubleMicroseconds(time)); }

}  // namespace

absl::StatusOr<Delay> Delay::Make(const v1::DelayShape& shape) {
  constexpr absl::Duration kLeast = absl::Microseconds(1);
  Delay made;
  absl::Status status;
  double longest = 0;
  switch (shape.shape_case()) {
    case v1::DelayShape::kDelay: {
      const absl::Duration delay = FromProto(shape.delay());
      status.Update(CheckTime("time", delay, kLeast));
      made.kind_ = kFixed;
      made.first_ = longest = Micros(delay);
      break;
    }
    case v1::DelayShape::kUniform: {
      const absl::Duration min = FromProto(shape.uniform().min());
      const absl::Duration max = FromProto(shape.uniform().max());
      status.Update(CheckTime("`min`", min, absl::ZeroDuration()));
      status.Update(CheckTime("`max`", max, kLeast));
      status.Update(CheckOrder(min, max));
      made.kind_ = kUniform;
      made.first_ = Micros(min);
      made.second_ = longest = Micros(max);
      break;
    }
    case v1::DelayShape::kNormal: {
      const absl::Duration mean = FromProto(shape.normal().mean());
      const absl::Duration deviation = FromProto(shape.normal().deviation());
      status.Update(CheckTime("`mean`", mean, kLeast));
      status.Update(CheckTime("`deviation`", deviation, absl::ZeroDuration()));
      made.kind_ = kNormal;
      made.first_ = Micros(mean);
      made.second_ = Micros(deviation);
      longest = made.first_ + kDeviations * made.second_;
      break;
    }
    case v1::DelayShape::kPareto: {
      const absl::Duration min = FromProto(shape.pareto().min());
      const absl::Duration max = FromProto(shape.pareto().max());
      const double alpha = shape.pareto().shape();
      status.Update(CheckTime("`min`", min, kLeast));
      status.Update(CheckTime("`max`", max, kLeast));
      status.Update(CheckOrder(min, max));
      if (!(alpha >= 0.1 && alpha <= 100)) {
        status.Update(absl::InvalidArgumentError(
            absl::StrCat("a delay's `shape` of ", alpha, " is not between 0.1 and 100")));
      }
      made.kind_ = kPareto;
      made.first_ = Micros(min);
      made.second_ = alpha;
      longest = Micros(max);
      break;
    }
    case v1::DelayShape::SHAPE_NOT_SET:
      return absl::InvalidArgumentError(
          "a delay has no shape: give one of `delay`, `uniform`, `normal`, `pareto`");
  }
  if (!status.ok()) return status;
  made.longest_ = static_cast<uint32_t>(std::min(longest, 4e9));
  return made;
}

uint32_t Delay::Draw(uint64_t* chance) const {
  double drawn = 0;
  switch (kind_) {
    case kNone:
      return 0;
    case kFixed:
      return longest_;
    case kUniform:
      drawn = first_ + (second_ - first_) * NextChance(chance);
      break;
    case kNormal: {
      // Box and Muller; 1 - u is never zero.
      const double radius = std::sqrt(-2 * std::log(1 - NextChance(chance)));
      const double bell = radius * std::cos(2 * M_PI * NextChance(chance));
      drawn = first_ + second_ * std::clamp(bell, -kDeviations, kDeviations);
      break;
    }
    case kPareto:
      drawn = first_ * std::pow(1 - NextChance(chance), -1 / second_);
      break;
  }
  return static_cast<uint32_t>(std::clamp(std::ceil(drawn), 0.0, static_cast<double>(longest_)));
}

}  // namespace firedrill::wire
