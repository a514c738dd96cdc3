// The one source of chance of the wire: pure functions of a seed, so that a run can be repeated.
#pragma once

#include <cstdint>

namespace firedrill::wire {

// The finisher of SplitMix64: every bit of the result hangs on every bit of `number`.
inline uint64_t Mix(uint64_t number) {
  number += 0x9e3779b97f4a7c15;
  number = (number ^ (number >> 30)) * 0xbf58476d1ce4e5b9;
  number = (number ^ (number >> 27)) * 0x94d049bb133111eb;
  return number ^ (number >> 31);
}

// The next number of a sequence that `state` stands in; evenly in [0, 1).
inline double NextChance(uint64_t* state) {
  *state = *state * 6364136223846793005 + 1442695040888963407;
  return static_cast<double>(Mix(*state) >> 11) * 0x1p-53;
}

// Whether the one called `id` is among a `share` (0 to 1). Another `purpose` picks independently.
inline bool Picked(uint64_t seed, uint64_t purpose, uint64_t id, double share) {
  const uint64_t mixed = Mix(Mix(Mix(seed) ^ purpose) ^ id);
  return static_cast<double>(mixed >> 11) * 0x1p-53 < share;
}

}  // namespace firedrill::wire
