// What every port of ours has in common: the words where it cannot be listened on, and who of those
// that are there is only taking up room.
#pragma once

#include <cstddef>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace firedrill {

// "stop.listen: 127.0.0.1:7444", an address of IPv6 in brackets.
std::string ListenWords(absl::string_view key, const std::string& host, int port);

// Why socket, bind or listen failed with `error`, an errno. ALREADY_EXISTS where the port is taken.
absl::Status ListenFailed(absl::string_view where, int port, int error,
                          absl::string_view if_taken = "choose another port");

// How far a connection of TCP has come that has not said yet who it is: not a byte has come on it,
// some have, or what has come was worth an answer of ours, as a whole hello of TLS is.
enum class Progress { kSilent, kSpoke, kAnswered };
// kAnswered where it cannot be seen.
Progress ProgressOf(int fd);

// By what callers are told apart who have not said yet who they are: a numeric address, of IPv6 its
// network of 64 bits, as one machine has a whole one.
std::string OriginOf(const std::string& address);

// Who has to go for one more, of connections that have not said yet who they are, oldest first, by
// their `origins`; at least one. An origin that has more than a quarter of them has to itself, else
// anybody. The younger half had no time yet to say anything, and stays; of the others the one goes
// that has come least far, and of those the oldest. So whoever speaks as soon as they are connected
// outlasts any number of the silent, from wherever they come; and among equals each has the time in
// which half as many others come.
size_t WhoMakesRoom(absl::Span<const absl::string_view> origins,
                    absl::FunctionRef<Progress(size_t)> progress);

}  // namespace firedrill
