// What came of taking an index from a server's planner, or of giving it back.
#pragma once

namespace firedrill {

enum class IndexChange {
  kDone,
  kNothingToDo,  // It was so already.
  kGone,         // Dropped, or rebuilt as another one.
};

}  // namespace firedrill
