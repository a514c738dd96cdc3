// One thread of a proxy: its loop, the connections that it accepted, and what they share.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "base/mutex.h"
#include "injector/wire/cancels.h"
#include "injector/wire/delay.h"
#include "injector/wire/flow.h"
#include "injector/wire/loop.h"
#include "injector/wire/pipes.h"
#include "injector/wire/proxy.h"

namespace firedrill::wire {

class Relay;

enum Direction { kToServer = 0, kToClient = 1 };

// A Disturbance that has been checked, as connections look at it.
struct Orders {
  // INVALID_ARGUMENT says which value is wrong.
  static absl::StatusOr<Orders> From(const Disturbance& disturbance);

  std::shared_ptr<const Rules> rules;
  Delay delay[2];  // By direction.
  std::vector<std::shared_ptr<HoldLog>> rule_holds;
  std::shared_ptr<HoldLog> holds[2];  // By direction.
  double rate[2] = {0, 0};
  double stall = 0;
  double leak = 0;
  uint64_t seed = 0;
};

// Written by one thread, read by any.
struct Counters {
  using Count = std::atomic<uint64_t>;
  Count accepted = 0, open = 0, refused = 0, encrypted = 0, lost = 0, leaked = 0, stalled = 0;
  Count reset = 0, requests = 0, failed = 0, unmatched = 0, cut = 0;
  Count encrypted_open = 0, lost_open = 0;
  Count bytes[2] = {0, 0};   // By direction.
  Count waited[2] = {0, 0};  // By direction.

  static void Add(Count& count, uint64_t more) {
    count.store(count.load(std::memory_order_relaxed) + more, std::memory_order_relaxed);
  }
  static void Less(Count& count) { Add(count, ~uint64_t{0}); }
};

// What all lanes of a proxy share; outlives them.
struct Settings {
  sockaddr_storage server = {};
  socklen_t server_length = 0;
  v1::Protocol protocol = v1::PROTOCOL_UNSPECIFIED;
  size_t max_held = 0;
  std::function<std::unique_ptr<Codec>()> make_codec;
  std::function<absl::Status(int fd)> prepare_socket;
  std::function<void()> on_refused;
  std::shared_ptr<Cancels> cancels;
  std::vector<UniqueFd> listeners;
  // Numbers connections in the order of their arrival: chance picks by it.
  std::atomic<uint64_t> next_id = 0;
};

class Lane final : private Watcher {
 public:
  // Bytes that are read at once; by one thread at a time, so there is one buffer for all.
  static constexpr size_t kScratch = 128 * 1024;

  explicit Lane(Settings& settings);
  ~Lane() override;
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

  absl::Status Start();
  // Resets what is open, and joins the thread.
  void Stop();

  // On the loop's thread, as everything below but for the counters.
  void Obey(std::shared_ptr<const Orders> orders);
  size_t Reset(double share, uint64_t seed);
  void StopAccepting();
  // Whether a session of this key held something that is cancelled now.
  bool Cancel(uint64_t key);
  // That is what a relay has asked for, which may have gone.
  void Tell(uint64_t relay, bool cancelled);

  Loop& loop() { return loop_; }
  const Settings& settings() const { return settings_; }
  const Orders& orders() const { return *orders_; }
  char* scratch() { return scratch_.get(); }

  // For relays. A relay that is removed is destroyed after its turn.
  void Remove(Relay* relay);
  void NoteLost(absl::string_view why);
  // There is no descriptor left: nobody is taken in for a while.
  void PauseAccepting();

  Counters counters;
  Pipes pipes;
  HoldLogs holds[2];  // By direction.
  // Of the latest codec that lost track. Any thread.
  std::string lost_why() const FD_EXCLUDES(mutex_);

 private:
  void OnEvents(int slot, uint32_t events) override;
  void OnAlarm() override;
  void Listen();
  void ForgetListeners();
  // Gives back to the system what many closed connections leave behind.
  void Trim();

  Settings& settings_;
  std::unique_ptr<char[]> scratch_;
  std::shared_ptr<const Orders> orders_;
  std::vector<Relay*> relays_;
  size_t most_ = 0;  // Relays since the last Trim().
  bool listening_ = false;
  bool accepting_ = true;

  mutable Mutex mutex_;
  std::string lost_why_ FD_GUARDED_BY(mutex_);

  Loop loop_;  // Last: its thread ends before the rest goes.
};

}  // namespace firedrill::wire
