// What a run has left when it ended: faults that nobody has seen undone, and what was told of them
// since. Such news are the only events behind a run's end. Pure.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "controller/run.h"
#include "firedrill/v1/run.pb.h"

namespace firedrill {

// Which state folder of its node each fault was applied with, as far as the nodes have told. A node
// with another one knows nothing of what is on: its word that nothing is counts for nothing.
class Memories {
 public:
  // What is written before a fault is applied, so that this can be told from the history.
  static v1::NodeReport Record(const std::string& node, const std::string& memory);

  void Take(const v1::Event& event);
  // Of the node, as recorded last.
  std::string Of(const std::string& node) const;
  // False where `memory`, with which the node has dialled in, is not the one that the fault was
  // applied with. By FaultKey(). True where that was not told.
  bool Knows(const std::string& memory, const std::string& fault_key) const;

 private:
  std::map<std::string, std::string> nodes_;
  std::map<std::string, std::string> faults_;
};

struct LeftFault {
  v1::PlannedFault planned;
  // Stuck, expired, superseded, or what it was when its controller was lost.
  v1::FaultState state = v1::FAULT_STATE_UNSPECIFIED;
  std::string reason;
  std::string undo_by_hand;
  // When its node was heard last, and the run's begin where it never was.
  absl::Time heard;

  // It may be on: what it hits is not free. A lease that is over is believed only where the fault
  // needs nobody to end it.
  bool MayBeOn() const;
  // "lose on db-1 is expired: nothing was heard of it until its lease was over".
  std::string Words() const;
};

// By FaultKey(); empty for a run without an end.
std::map<std::string, LeftFault> LeftBy(const std::vector<v1::Event>& history);

// ---- news after the end

// A person has looked: it is gone, or its node is.
v1::Event Settlement(const v1::PlannedFault& planned, const std::string& by,
                     const std::string& reason);
bool IsSettlement(const v1::Event& event);
// "alice: the machine was scrapped", of the newest; empty where nobody has settled anything.
std::string SettledWords(const std::vector<v1::Event>& history);

bool HasEnded(const std::vector<v1::Event>& history);
// How many events it has up to its end; all, where it has none.
size_t LengthToEnd(const std::vector<v1::Event>& history);
std::vector<v1::Event> UpToEnd(const std::vector<v1::Event>& history);

}  // namespace firedrill
