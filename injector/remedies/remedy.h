// What every remedy is: one thing that the runbook would do, timed. A kind of remedy is one file in
// injector/remedies/ that ends in its own registration.
#pragma once

#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "firedrill/v1/remedy.pb.h"
#include "firedrill/v1/run.pb.h"
#include "firedrill/v1/site.pb.h"
#include "injector/fault.h"

namespace firedrill {

class Journal;

// One remedy of one run, for the length of a call.
struct RemedyContext {
  std::string run;
  // Of the endpoint that the remedy names; empty where it names none.
  v1::Endpoint endpoint;
  std::stop_token stop;
  // Where it keeps what must be put back if it comes to nothing; null where nothing can be kept.
  Journal* journal = nullptr;
  // Its name: RunRemedyBlocking() puts it in.
  std::string remedy = {};
};

class Remedy {
 public:
  virtual ~Remedy() = default;
  // Refuses what this node cannot do, by its own file alone: never blocks on a network.
  virtual absl::Status Validate(const Node& node) const = 0;
  // What it leaves behind, for the node's policy; an error where Validate() gives one.
  virtual absl::StatusOr<v1::Leaves> Leaves(const Node& node) const = 0;
  // Does it, and blocks until it is done, has failed, or the context's stop is requested (which
  // ends it, as failed, within about a second). The report lacks the remedy's and the node's names:
  // RunRemedyBlocking() puts them in.
  virtual v1::RemedyReport Run(const RemedyContext& context, const Node& node) const = 0;
};

using RemedyMaker = std::function<std::unique_ptr<Remedy>(const v1::Remedy&)>;

// `static const RemedyRegistration kRunProgram(v1::Remedy::kRunProgram, MakeRunProgram);`
class RemedyRegistration {
 public:
  RemedyRegistration(v1::Remedy::KindCase kind, RemedyMaker maker);
};

// UNIMPLEMENTED for a kind that this injector does not know.
absl::StatusOr<std::unique_ptr<Remedy>> MakeRemedy(const v1::Remedy& remedy);
// Every registered kind.
std::vector<v1::Remedy::KindCase> RegisteredRemedies();

// Validates and runs; a refusal becomes a report of state FAILED whose output says why. Blocks. Any
// thread.
v1::RemedyReport RunRemedyBlocking(const v1::PlannedRemedy& remedy, const Node& node,
                                   const RemedyContext& context);

// The report of what failed, for `why`; of what is done, where `why` is OK.
v1::RemedyReport ReportOf(const absl::Status& why, absl::string_view done);

// A report is protobuf text: bytes that are no printable ASCII become question marks.
std::string PrintableAscii(absl::string_view bytes);

// The kind as it is written in a definition: "runProgram"; empty where none is set.
std::string KindName(const v1::Remedy& remedy);

}  // namespace firedrill
