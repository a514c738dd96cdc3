// What a client says before it closes its connection in good order, where no codec looks any more.
#pragma once

#include "absl/strings/string_view.h"
#include "firedrill/v1/wire.pb.h"

namespace firedrill::wire {

// `bytes` arrived together, between two messages, and are nothing but that. A server would end the
// session upon them, so a connection that is to leak must not pass them on.
bool IsGoodbye(v1::Protocol protocol, absl::string_view bytes);

}  // namespace firedrill::wire
