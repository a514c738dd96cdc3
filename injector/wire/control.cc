// The line between an injector and its wire worker.
#include "injector/wire/control.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/status_macros.h"

namespace firedrill::wire {
namespace {

// Waits until the socket is ready, or the time is over.
absl::Status Await(int socket, short events, absl::Duration end) {
  while (true) {
    const absl::Duration left = end - RealClock().Boot();
    if (left <= absl::ZeroDuration()) {
      return absl::DeadlineExceededError("the other side of the line does not answer");
    }
    pollfd wait{socket, events, 0};
    const int ready = poll(&wait, 1, static_cast<int>(absl::ToInt64Milliseconds(left)) + 1);
    if (ready > 0) return absl::OkStatus();
    if (ready < 0 && errno != EINTR) {
      return absl::UnavailableError(absl::StrCat("waiting on the line: ", std::strerror(errno)));
    }
  }
}

absl::Status ReadAll(int socket, char* to, size_t length, absl::Duration end) {
  while (length > 0) {
    const ssize_t got = recv(socket, to, length, MSG_DONTWAIT);
    if (got == 0) return absl::UnavailableError("the other side of the line is gone");
    if (got > 0) {
      to += got;
      length -= static_cast<size_t>(got);
    } else if (errno == EAGAIN) {
      RETURN_IF_ERROR(Await(socket, POLLIN, end));
    } else if (errno != EINTR) {
      return absl::UnavailableError(absl::StrCat("reading the line: ", std::strerror(errno)));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status SendMessage(int socket, const google::protobuf::MessageLite& message,
                         absl::Duration deadline) {
  const absl::Duration end = RealClock().Boot() + deadline;
  const size_t size = message.ByteSizeLong();
  if (size > kMaxMessage) {
    return absl::InvalidArgumentError(absl::StrCat("a message of ", size, " bytes is too long"));
  }
  std::string bytes(4, '\0');
  const auto length = static_cast<uint32_t>(size);
  std::memcpy(bytes.data(), &length, sizeof(length));
  message.AppendToString(&bytes);
  size_t sent = 0;
  while (sent < bytes.size()) {
    const ssize_t count =
        send(socket, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count > 0) {
      sent += static_cast<size_t>(count);
    } else if (errno == EAGAIN) {
      RETURN_IF_ERROR(Await(socket, POLLOUT, end));
    } else if (errno != EINTR) {
      return absl::UnavailableError(absl::StrCat("writing to the line: ", std::strerror(errno)));
    }
  }
  return absl::OkStatus();
}

absl::Status ReceiveMessage(int socket, google::protobuf::MessageLite* message,
                            absl::Duration deadline) {
  const absl::Duration end = RealClock().Boot() + deadline;
  uint32_t length = 0;
  RETURN_IF_ERROR(ReadAll(socket, reinterpret_cast<char*>(&length), sizeof(length), end));
  if (length > kMaxMessage) return absl::InvalidArgumentError("the line carries something else");
  std::string bytes(length, '\0');
  RETURN_IF_ERROR(ReadAll(socket, bytes.data(), bytes.size(), end));
  if (!message->ParseFromString(bytes)) {
    return absl::InvalidArgumentError("the line carries something else");
  }
  return absl::OkStatus();
}

}  // namespace firedrill::wire
