// What the words of `firedrill inject` ask for.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "firedrill/v1/fault.pb.h"
#include "firedrill/v1/site.pb.h"

namespace firedrill {

// What a command line asks for.
struct InjectOptions {
  bool help = false;
  // "delayQueries".
  std::string kind;
  v1::Fault fault;
  std::string duration = "1h";
  std::string site, node, state_dir;
  // 0: a new one is drawn.
  uint64_t seed = 0;
  bool no_color = false;
  // A server that no profile names: host:port, and its protocol.
  std::string upstream, protocol;
  // Nobody said it: it is the one that the port is known for.
  bool protocol_by_port = false;
  // Processes that no site file names.
  std::optional<v1::HostSubject> subject;
};

// INVALID_ARGUMENT says which word is wrong and what may have been meant. The words behind
// `inject`.
absl::StatusOr<InjectOptions> ParseInject(const std::vector<std::string>& words);

// The flags of one kind, or where `kind` is empty all kinds.
std::string InjectHelp(const std::string& kind);

// Its kind disturbs live traffic, which comes by `listen` or is redirected.
bool IsOnTheWire(const std::string& kind);
// It hits processes of this machine, which a subject names.
bool IsOnProcesses(const std::string& kind);

}  // namespace firedrill
