// Everything that a simulated run draws. The numbers are the same with every standard library.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "absl/time/time.h"

namespace firedrill::simulation {

class Dice {
 public:
  explicit Dice(uint64_t seed) : random_(seed) {}

  uint64_t Next() { return random_(); }
  // In [0, sides).
  size_t Below(size_t sides) { return static_cast<size_t>(random_() % sides); }
  // `chance` in 0..1.
  bool Chance(double chance) { return Share() < chance; }
  double Share() { return static_cast<double>(random_() >> 11) * 0x1.0p-53; }
  absl::Duration Between(absl::Duration from, absl::Duration to) {
    const int64_t span = absl::ToInt64Microseconds(to - from);
    return from +
           absl::Microseconds(static_cast<int64_t>(random_() % static_cast<uint64_t>(span + 1)));
  }
  template <typename T>
  const T& Of(const std::vector<T>& values) {
    return values[Below(values.size())];
  }

 private:
  std::mt19937_64 random_;
};

}  // namespace firedrill::simulation
