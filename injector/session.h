// The injector's side of the stream: dials, registers, obeys, reports, and notices when its
// controller is gone. On the executor only; never blocks.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "base/executor.h"
#include "base/link.h"
#include "firedrill/v1/injector.pb.h"
#include "injector/dialler.h"
#include "injector/epochs.h"
#include "injector/node_work.h"
#include "injector/outbox.h"
#include "injector/unreached.h"
#include "injector/warden.h"

namespace firedrill {

class Session {
 public:
  struct Options {
    // From the loss of the stream until it counts as lost. A stream that is open but silent is a
    // matter of the leases.
    absl::Duration grace = absl::Milliseconds(500);
    // From dialling to the answer to the registration.
    absl::Duration registered_within = absl::Seconds(3);
    // Nothing heard for so long: dial again.
    absl::Duration silent_after = absl::Seconds(4);
    // Pause before dialling again; doubled up to the second after each failure.
    absl::Duration first_pause = absl::Milliseconds(50);
    absl::Duration longest_pause = absl::Seconds(2);
    // After a refusal, which another try will hardly change.
    absl::Duration refused_pause = absl::Seconds(30);
    // Reports without an acknowledgement for so long are sent again.
    absl::Duration resend_after = absl::Seconds(2);
    // Belongs to one controller: ends when that is gone, refuses it, or was not there within the
    // time.
    bool is_private = false;
    // Where it dials, as messages name it.
    std::string controller;
    absl::Duration first_contact = absl::Seconds(10);
    // When this node's certificate ends; not set where it has none.
    std::function<absl::Time()> certificate_expires;
  };
  struct End {
    // Nothing is on, and nothing is stuck.
    bool clean = true;
    // The controller refused this injector.
    bool refused = false;
    std::string reason;
  };
  struct Parts {
    Executor& executor;
    Dialler& dialler;
    Warden& warden;
    NodeWork& work;
    Epochs& epochs;
    // Without what changes from one registration to the next (active, leftovers, epoch).
    v1::Registration registration;
  };

  // `ended` is called once when a private session is over and everything is off; never otherwise.
  Session(Parts parts, Options options, std::function<void(End)> ended);
  ~Session();

  void Start();
  // For warden and work: goes to the controller, and is kept until it has taken it.
  void Send(v1::Report report);
  // Everything off, the last reports out (for at most a second), the stream closed. `done` once;
  // may be called again meanwhile, and afterwards.
  void Close(const std::string& reason, std::function<void(End)> done);

  bool registered() const { return registered_; }
  // What was lost because nobody took it.
  uint64_t dropped_reports() const { return outbox_.dropped(); }

 private:
  void Dial();
  void DialLater();
  void OnMessage(uint64_t number, const v1::ConnectResponse& message);
  void OnClosed(uint64_t number, const absl::Status& why);
  void OnRegistered(const v1::Registered& registered);
  void OnPing(const v1::Ping& ping);
  void OnHalt(const v1::Halt& halt);
  v1::NodeFigures Figures() const;
  void OnCommand(const v1::Command& command);
  void OnSubjectsAsked(const v1::SubjectsAsked& asked);
  void OnRefused(const v1::Refused& refused);
  // Ends the link as if the other side had; the leases decide what becomes of the faults.
  void Drop(const std::string& why);
  void LetGo(const std::string& why);
  // A try to reach the controller has failed.
  void Tell(const absl::Status& why);
  void BeginGrace();
  // What it has on goes off, but for the runs in `kept`.
  void OnLost(const std::string& why, const std::set<std::string>& kept = {});
  void EndPrivate(End end);
  void OnWatch();
  void AwaitRemedies(bool clean, absl::Duration until);
  void FinishClose(bool clean, absl::Duration until);
  void Flush();
  // Calls `task` after `delay`, unless the session is gone.
  Executor::TimerId Later(absl::Duration delay, std::function<void()> task);

  const Parts parts_;
  const Options options_;
  std::function<void(End)> ended_;
  std::vector<std::function<void(End)>> closing_;
  bool closed_ = false;
  std::string close_reason_;
  bool clean_ = true;

  std::shared_ptr<Link<v1::ConnectRequest>> link_;
  // Numbers the links: what an old one says late is not heard.
  uint64_t link_number_ = 0;
  bool registered_ = false;
  // It was registered, and the stream was given up for silence; nothing was heard of the controller
  // since.
  bool dropped_ = false;
  bool ever_registered_ = false;
  // The first failure to reach any controller.
  std::optional<absl::Duration> unreachable_since_;
  Unreached unreached_;
  // Of whoever answered a registration last, obeyed or not: what the next one is about.
  std::string heard_of_;
  // Of the controller that was registered with last.
  std::string group_;
  uint64_t epoch_ = 0;
  Outbox outbox_;
  absl::Duration started_;
  absl::Duration dialled_;
  absl::Duration heard_;
  // When the oldest report went out, or something was acknowledged.
  absl::Duration progressed_;
  absl::Duration pause_;
  Executor::TimerId dial_timer_ = 0;
  Executor::TimerId grace_timer_ = 0;
  Executor::TimerId watch_timer_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace firedrill
