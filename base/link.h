// A stream of messages between a controller and an injector, as both ends see it. gRPC is one way
// to carry it; the simulation is another. A link loses what is under way when it closes, and
// nothing before.
#pragma once

#include <functional>
#include <memory>

#include "absl/status/status.h"

namespace firedrill {

template <typename Out>
class Link {
 public:
  virtual ~Link() = default;
  // Queues the message; never blocks. After the link has closed it is dropped. Any thread.
  virtual void Send(const Out& message) = 0;
  // Ends the link; `closed` of the events is called once. Any thread. Idempotent.
  virtual void Close(absl::Status why) = 0;
};

// Called on the executor that was given to whoever made the link.
template <typename In>
struct LinkEvents {
  std::function<void(const In&)> message;
  std::function<void(absl::Status)> closed;
};

}  // namespace firedrill
