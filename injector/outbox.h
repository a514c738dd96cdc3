// Reports that are not known to be in the history yet. Numbered when they are first sent, sent
// again until they are acknowledged; while nobody takes them, samples make room for what matters
// more.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>

#include "firedrill/v1/injector.pb.h"

namespace firedrill {

class Outbox {
 public:
  // Sent and not acknowledged. More waits.
  static constexpr size_t kWindow = 1024;
  // Waiting for a first sending. More, and the oldest samples and load windows go, then the oldest
  // observations of faults; what a fault became is never dropped.
  static constexpr size_t kMostWaiting = 20000;

  void Add(v1::Report report);
  // Calls `send` with everything that may be sent now and was not, in order.
  void Flush(const std::function<void(const v1::Report&)>& send);
  // Everything up to `number` is in the history.
  void Acknowledge(uint64_t number);
  // The link is a new one: what is not acknowledged is sent again.
  void Rewind() { sent_ = 0; }

  bool empty() const { return numbered_.empty() && waiting_.empty(); }
  // Sent, and not acknowledged.
  size_t unacknowledged() const { return numbered_.size(); }
  uint64_t dropped() const { return dropped_; }

 private:
  bool DropOne();

  uint64_t next_ = 1;
  // Numbered, oldest first; the first `sent_` of them were sent over this link.
  std::deque<v1::Report> numbered_;
  size_t sent_ = 0;
  std::deque<v1::Report> waiting_;
  uint64_t dropped_ = 0;
};

}  // namespace firedrill
