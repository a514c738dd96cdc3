// Which requests are hit, and by what. A pure decision but for its counters and its one seeded
// source of chance.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "firedrill/v1/wire.pb.h"
#include "injector/wire/codec.h"

namespace firedrill::wire {

// One fault's wish: what matches is held for `delay`, or fails, or both.
struct Rule {
  // The fault's name: counters are read by it.
  std::string name;
  v1::QueryMatch match;
  std::optional<v1::DelayShape> delay;
  std::optional<v1::QueryFailure> failure;
};

struct Decision {
  // How long the request is held; the longest of the rules that match.
  absl::Duration delay;
  // The first failing rule that matches, and its place; owned by the rules.
  const v1::QueryFailure* failure = nullptr;
  size_t failing = 0;
  // Which rules were hit, as bits by their place; to account for what really happened.
  uint64_t hit = 0;
};

// Immutable but for counters; shared by all threads of a worker.
class Rules {
 public:
  // At most 64 rules. INVALID_ARGUMENT says which rule, which key and what to write instead. Verbs
  // and tables are compared without case. Those of PostgreSQL are what its parser says, those of
  // MySQL what its words look like: `extract(day from t)` names a table there. The same seed and
  // the same requests in the same order give the same decisions.
  static absl::StatusOr<std::unique_ptr<Rules>> Compile(v1::Protocol protocol,
                                                        const std::vector<Rule>& rules,
                                                        uint64_t seed);
  virtual ~Rules() = default;

  // Called for every request; about 0.2 µs where the text's shape has been seen before.
  virtual Decision Decide(const Request& request) const = 0;

  // A request has really failed by this rule: not every moment of every protocol lets one fail.
  virtual void NoteFailed(size_t rule) const = 0;

  struct Count {
    uint64_t matched = 0;  // By verb, table, text, ...: before share, first and after.
    uint64_t hit = 0;
    uint64_t failed = 0;  // As NoteFailed() was told.
  };
  virtual Count CountOf(size_t rule) const = 0;
};

}  // namespace firedrill::wire
