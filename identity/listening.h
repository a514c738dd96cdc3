// What every port of ours has in common: the words where it cannot be listened on, and who of those
// that are there is only taking up room.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace firedrill {

// "stop.listen: 127.0.0.1:7444", an address of IPv6 in brackets.
std::string ListenWords(absl::string_view key, const std::string& host, int port);

// Why socket, bind or listen failed with `error`, an errno. ALREADY_EXISTS where the port is taken.
absl::Status ListenFailed(absl::string_view where, int port, int error,
                          absl::string_view if_taken = "choose another port");

// Whether a single byte has come on this connection of TCP. Where that cannot be seen it has.
bool HasSpoken(int fd);

}  // namespace firedrill
