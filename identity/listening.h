// Where something wants to listen, and what to do where it cannot: the same words for every port.
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

}  // namespace firedrill
