// The line between an injector and its wire worker: messages with their length in front, over a
// socket.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "google/protobuf/message_lite.h"

namespace firedrill::wire {

// Where the worker finds its end.
inline constexpr int kControlFd = 3;
inline constexpr size_t kMaxMessage = 1 << 20;

// Sends the whole message, within `deadline`. UNAVAILABLE where the other side is gone.
absl::Status SendMessage(int socket, const google::protobuf::MessageLite& message,
                         absl::Duration deadline);
// Reads one whole message. UNAVAILABLE where the other side is gone, DEADLINE_EXCEEDED where it
// does not speak: the line is of no use any more then.
absl::Status ReceiveMessage(int socket, google::protobuf::MessageLite* message,
                            absl::Duration deadline);

}  // namespace firedrill::wire
