// How an injector reaches its controller: over gRPC, or over a simulated wire.
#pragma once

#include <memory>

#include "base/link.h"
#include "firedrill/v1/injector.pb.h"

namespace firedrill {

class Dialler {
 public:
  virtual ~Dialler() = default;
  // Begins a new stream and returns at once. Messages may be sent on it from the start. `closed` is
  // called once when it could not be made, or has ended; never from within Dial(), Send() or
  // Close(). Dropping the link closes it.
  virtual std::shared_ptr<Link<v1::ConnectRequest>> Dial(
      LinkEvents<v1::ConnectResponse> events) = 0;
};

}  // namespace firedrill
