// The bytes that one direction of a connection holds: in order, each let go when its time has come
// and the rate permits. Pure: the time is told, and nothing is read or written here.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "injector/wire/loop.h"

namespace firedrill::wire {

// Why and how long bytes are held after their arrival, in microseconds.
struct Hold {
  uint32_t network = 0;  // For the direction's delay.
  uint32_t request = 0;  // For a rule.
  uint64_t rules = 0;    // Which ones, as bits by their place; none once rules have changed.
  uint32_t ticket = 0;   // Of a request that can be cancelled meanwhile; see Codec.
  bool none() const { return network == 0 && request == 0; }
  uint64_t total() const { return uint64_t{network} + request; }
};

// The latest holds: what was asked for, and what it was. Written and read by any thread.
class HoldLog {
 public:
  static constexpr size_t kLatest = 1024;

  // Something is held from now on.
  void AddBegun() { begun_.fetch_add(1, std::memory_order_relaxed); }
  uint64_t begun() const { return begun_.load(std::memory_order_relaxed); }
  // Something has been held, and was let go.
  void Add(uint64_t asked_us, uint64_t held_us);
  uint64_t count() const { return count_.load(std::memory_order_relaxed); }
  // Somebody has ended it before its time; it is not one of `count`.
  void AddCancelled() { cancelled_.fetch_add(1, std::memory_order_relaxed); }
  uint64_t cancelled() const { return cancelled_.load(std::memory_order_relaxed); }
  // Appends what there is, at most kLatest of each.
  void Read(std::vector<uint32_t>* asked_us, std::vector<uint32_t>* held_us) const;

 private:
  std::atomic<uint64_t> begun_ = 0;
  std::atomic<uint64_t> count_ = 0;
  std::atomic<uint64_t> cancelled_ = 0;
  std::atomic<uint64_t> latest_[kLatest] = {};
};

// Where holds are noted: all of them for the counters, and each for the fault that it comes from,
// without what others added to it.
struct HoldLogs {
  HoldLog all;
  // Of the direction's delay, and by the place of the rule; null where nobody asks.
  std::shared_ptr<HoldLog> network;
  std::vector<std::shared_ptr<HoldLog>> rules;

  void Add(const Hold& hold, uint64_t held_us);
  void AddCancelled(const Hold& hold);

 private:
  template <typename Task>
  void EachRule(const Hold& hold, const Task& task);
};

// Of some times in microseconds, which it reorders; zero where there are none.
absl::Duration Quantile(std::vector<uint32_t>& micros, double quantile);

// Hardly any memory of its own while it is empty.
class Flow {
 public:
  // Goes behind everything that is held already, and is never let go before that. False: it is
  // held as one with what is in front of it.
  bool Append(absl::string_view bytes, Nanos arrived, Hold hold);
  // What may go out at `now`; empty when nothing may. Valid until the next call of another method.
  absl::string_view Ready(Nanos now) const;
  // The first `count` bytes of Ready() have gone out at `now`.
  void Wrote(size_t count, Nanos now, HoldLogs* logs);
  // For bytes that went out without having been held, while there is a rate.
  void Pay(size_t count, Nanos now);
  // When Ready() will be something that it is not at `now`; kNever while empty.
  Nanos NextReady(Nanos now) const;
  // How many bytes the rate permits at `now`.
  size_t Permitted(Nanos now) const;
  // How many more bytes than at the calls before are due and held back by the rate: each once.
  size_t CountWaiting(Nanos now);

  // How the request in front is held at `now`; nothing of it has gone. Without a ticket where there
  // is none.
  Hold FrontHold(Nanos now) const;
  absl::string_view Held() const { return {bytes_.data() + head_, held()}; }
  // The first `count` bytes, which are all of what is in front, or that and more, become others
  // that are not held for a rule; nor are the `released` ones behind them.
  void ReplaceFront(size_t count, absl::string_view instead, size_t released);

  // What is held under orders that have changed: no longer for the network than `network`
  // microseconds, and not for a rule unless `requests`, as whose rules may have changed places.
  void Relax(uint32_t network, bool requests);
  // What is appended from now on stays here until GoOn(), however long it is held. Until then, of
  // several stops the first one counts.
  void Stop();
  void GoOn() { stop_ = kNowhere; }
  // All that is in front of the stop has gone.
  bool stopped() const { return stop_ == gone_; }
  // Bytes per second; 0: no limit.
  void SetRate(double rate);
  double rate() const { return rate_; }

  bool empty() const { return head_ == bytes_.size(); }
  size_t held() const { return bytes_.size() - head_; }
  void Drop();

 private:
  // One for all bytes of one arrival that are held alike.
  struct Mark {
    uint64_t end;  // Of its bytes, counted from the beginning of the flow.
    Nanos arrived;
    Hold hold;
    Nanos due() const { return arrived + static_cast<Nanos>(hold.total()) * 1000; }
  };

  static constexpr uint64_t kNowhere = UINT64_MAX;

  void Compact();
  // Where what is due at `now` ends, counted as in Mark.
  uint64_t DueEnd(Nanos now) const;

  std::vector<char> bytes_;
  size_t head_ = 0;  // In bytes_: what lies in front has gone out.
  std::vector<Mark> marks_;
  size_t first_ = 0;     // In marks_.
  uint64_t gone_ = 0;    // Bytes that have gone out through here.
  uint64_t waited_ = 0;  // Up to here CountWaiting() has counted.
  uint64_t stop_ = kNowhere;
  double rate_ = 0;
  Nanos paid_until_ = 0;
};

}  // namespace firedrill::wire
