// What the parts of the warden share. Nobody but warden*.cc includes this.
#pragma once

#include <cstddef>
#include <deque>

#include "absl/time/time.h"
#include "firedrill/v1/injector.pb.h"

namespace firedrill::warden {

// Of a lease: when it is over everything is to be off, not only begun to be.
constexpr absl::Duration kForTheRevert = absl::Milliseconds(50);
// What is remembered of commands, ended faults and stopped runs.
constexpr size_t kMostRemembered = 4096;
// How often the file that stops a node is looked for.
constexpr absl::Duration kWatchEvery = absl::Milliseconds(500);

inline bool IsOneShot(const v1::PlannedFault& planned) {
  return planned.ending() == v1::ENDING_ONE_SHOT;
}

// Notes that `added` has come into the map, and forgets the oldest beyond kMostRemembered.
template <typename Map, typename Name>
void Bound(Map& map, std::deque<Name>& order, const Name& added) {
  order.push_back(added);
  while (order.size() > kMostRemembered) {
    map.erase(order.front());
    order.pop_front();
  }
}

}  // namespace firedrill::warden
