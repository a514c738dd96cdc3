// Which version of the protos two programs speak with each other.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace firedrill {

// Another major version means something else by the same messages. A minor one only adds to them:
// who does not know what was added passes over it, so injectors and clients of the release before
// are served.
inline constexpr int kProtocolMajor = 1;
inline constexpr int kProtocolMinor = 1;

// Beside the answer to a call about a run: the id of the one that was meant.
inline constexpr char kRunOfAnswer[] = "firedrill-run";

// What whoever dials says of itself, in front of its user agent.
std::string ProtocolAgent();
// Of what a caller has said. One that says nothing is of the time before there were versions, which
// was this major one. FAILED_PRECONDITION says whom to bring up to date.
absl::Status CheckProtocol(absl::string_view user_agent);

}  // namespace firedrill
