// What came of taking an index from a server's planner, or of giving it back.
#pragma once

namespace firedrill {

enum class IndexChange {
  kDone,
  kNothingToDo,  // It was so already, or another one of its name and table is.
  kGone,         // Dropped, or rebuilt as another one that is not to be used.
};

}  // namespace firedrill
