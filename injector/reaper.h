// The second process: it watches its injector, ends it when it hangs, and undoes what it has
// journalled when it is dead. It shares nothing with the injector but a line and a pidfd.
#pragma once

#include <cstdint>
#include <string>

#include "absl/time/time.h"

namespace firedrill {

// What comes over the line: 4 bytes in the machine's order, the milliseconds until the next beat is
// overdue; this one says that the injector ends in good order.
inline constexpr uint32_t kGoodbye = 0;
// From here on, a question: an undo has been journalled; is everything there to do it? The answer
// is the word as a decimal, a space, what is lacking (nothing, when ready), and a newline.
inline constexpr uint32_t kAsk = 0x80000000;

struct ReaperOptions {
  int line = -1;
  // Of the injector.
  int pidfd = -1;
  std::string state_dir;
  std::string node;
  // Until the first beat says something else.
  absl::Duration lease = absl::Seconds(5);
};

// Returns when the injector is dead and everything is undone: 0, or 5 where something could not be
// undone (said on stderr). Blocks until then.
int RunReaper(const ReaperOptions& options);

}  // namespace firedrill
