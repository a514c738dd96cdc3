// Terminate of PostgreSQL, COM_QUIT of MySQL, QUIT of Redis. HTTP has none.
#include "injector/wire/goodbye.h"

#include "absl/strings/match.h"

namespace firedrill::wire {

bool IsGoodbye(v1::Protocol protocol, absl::string_view bytes) {
  switch (protocol) {
    case v1::PROTOCOL_POSTGRESQL:
      return bytes == absl::string_view("X\0\0\0\4", 5);
    case v1::PROTOCOL_MYSQL:
      return bytes == absl::string_view("\1\0\0\0\1", 5);
    case v1::PROTOCOL_REDIS:
      return absl::EqualsIgnoreCase(bytes, "QUIT\r\n") ||
             absl::EqualsIgnoreCase(bytes, "*1\r\n$4\r\nQUIT\r\n");
    default:
      return false;
  }
}

}  // namespace firedrill::wire
