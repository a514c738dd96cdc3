// Links between simulated processes: in order, with latency, and with everything that a network
// does to them. What is under way when a link is cut is lost; what is sent while it stalls arrives
// late, or never.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "base/link.h"
#include "controller/fleet.h"
#include "firedrill/v1/injector.pb.h"
#include "tests/testing/sim_executor.h"

namespace firedrill {

class SimNetwork {
 public:
  SimNetwork(SimTime& time, uint64_t seed) : time_(time), random_(seed) {}

  // Sees what passes, from outside both ends. Any may be empty.
  struct Observer {
    std::function<void(const SimExecutor& injector, const SimExecutor& controller,
                       const v1::ConnectRequest&)>
        sent_up;
    std::function<void(const SimExecutor&injector, const SimExecutor&controller,
                       const v1::ConnectResponse&)>
        sent_down, arriving_down, arrived_down;
    // The injector hears that a link has closed, which it did not close itself.
    std::function<void(const SimExecutor& injector)> lost;
  };
  Observer observer;

  absl::Duration min_latency = absl::Microseconds(50);
  absl::Duration max_latency = absl::Milliseconds(5);
  // Registrations do not arrive with the group whose epoch they name: the controllers cannot see
  // that they are superseded, and only the injector's own look at epochs is left.
  bool controllers_see_epochs = true;

  // A link from an injector to the controller's fleet, as seen by the injector. `reachable` false:
  // it closes at once, as a refused connection does.
  std::shared_ptr<Link<v1::ConnectRequest>> Dial(SimExecutor& injector,
                                                 LinkEvents<v1::ConnectResponse> events,
                                                 SimExecutor* controller, Fleet* fleet) {
    auto wire = std::make_shared<Wire>(*this, injector, controller);
    std::erase_if(wires_, [](const auto& weak) { return weak.expired(); });
    wires_.push_back(wire);
    if (const auto stalled = stalled_.find(&injector); stalled != stalled_.end()) {
      wire->last_up = wire->last_down = stalled->second;
    }
    wire->to_injector = std::move(events);
    if (controller == nullptr || fleet == nullptr || controller->killed()) {
      wire->Cut(absl::UnavailableError("connection refused"));
    } else {
      controller->After(Due(wire->last_up) - time_.boot(), [wire, fleet] {
        if (wire->open) wire->to_controller = fleet->Accept(std::make_shared<DownEnd>(wire));
      });
    }
    return std::make_shared<UpEnd>(wire);
  }

  // Every link of this injector is cut.
  void CutAll(const SimExecutor& injector) {
    for (const auto& weak : wires_) {
      if (auto wire = weak.lock(); wire != nullptr && &wire->injector == &injector) {
        wire->Cut(absl::UnavailableError("the link was cut"));
      }
    }
  }
  // A process has died: its ends of all links close.
  void Died(const SimExecutor& process) {
    for (const auto& weak : wires_) {
      auto wire = weak.lock();
      if (wire != nullptr && (&wire->injector == &process || wire->controller == &process)) {
        wire->Cut(absl::UnavailableError("the other end has died"));
      }
    }
  }
  // Nothing arrives on this injector's links, also not on new ones, until `length` has passed.
  void Stall(const SimExecutor& injector, absl::Duration length) {
    absl::Duration& until = stalled_[&injector];
    until = std::max(until, time_.boot() + length);
    for (const auto& weak : wires_) {
      auto wire = weak.lock();
      if (wire == nullptr || &wire->injector != &injector) continue;
      wire->last_up = std::max(wire->last_up, until);
      wire->last_down = std::max(wire->last_down, until);
    }
  }
  // No stall lasts any longer; what had waited is lost with its link.
  void EndStall(const SimExecutor& injector) {
    if (stalled_.erase(&injector) > 0) CutAll(injector);
  }

 private:
  struct Wire : std::enable_shared_from_this<Wire> {
    Wire(SimNetwork& network, SimExecutor& injector, SimExecutor* controller)
        : network(network), injector(injector), controller(controller) {}

    // `by_injector`: it knows already.
    void Cut(const absl::Status& why, bool by_injector = false) {
      if (!std::exchange(open, false)) return;
      auto self = shared_from_this();
      injector.After(network.Latency(), [self, why, by_injector] {
        if (!by_injector && self->network.observer.lost)
          self->network.observer.lost(self->injector);
        if (self->to_injector.closed) self->to_injector.closed(why);
      });
      if (controller == nullptr) return;
      controller->After(network.Latency(), [self, why] {
        if (self->to_controller.closed) self->to_controller.closed(why);
      });
    }

    SimNetwork& network;
    SimExecutor& injector;
    SimExecutor* controller;
    LinkEvents<v1::ConnectResponse> to_injector;
    LinkEvents<v1::ConnectRequest> to_controller;
    absl::Duration last_up, last_down;
    bool open = true;
  };

  class UpEnd final : public Link<v1::ConnectRequest> {
   public:
    explicit UpEnd(std::shared_ptr<Wire> wire) : wire_(std::move(wire)) {}
    void Send(const v1::ConnectRequest& message) override {
      if (!wire_->open || wire_->controller == nullptr) return;
      const auto& seen = wire_->network.observer.sent_up;
      if (seen) seen(wire_->injector, *wire_->controller, message);
      const absl::Duration due = wire_->network.Due(wire_->last_up);
      v1::ConnectRequest arriving = message;
      if (!wire_->network.controllers_see_epochs && arriving.has_registration()) {
        arriving.mutable_registration()->clear_group();
      }
      wire_->controller->After(due - wire_->network.time_.boot(),
                               [wire = wire_, arriving = std::move(arriving)] {
                                 if (wire->open && wire->to_controller.message)
                                   wire->to_controller.message(arriving);
                               });
    }
    void Close(absl::Status why) override { wire_->Cut(why, /*by_injector=*/true); }

   private:
    std::shared_ptr<Wire> wire_;
  };
  class DownEnd final : public Link<v1::ConnectResponse> {
   public:
    explicit DownEnd(std::shared_ptr<Wire> wire) : wire_(std::move(wire)) {}
    void Send(const v1::ConnectResponse& message) override {
      if (!wire_->open) return;
      const Observer& observer = wire_->network.observer;
      if (observer.sent_down) observer.sent_down(wire_->injector, *wire_->controller, message);
      const absl::Duration due = wire_->network.Due(wire_->last_down);
      wire_->injector.After(due - wire_->network.time_.boot(), [wire = wire_, message, &observer] {
        if (!wire->open || !wire->to_injector.message) return;
        if (observer.arriving_down)
          observer.arriving_down(wire->injector, *wire->controller, message);
        wire->to_injector.message(message);
        if (observer.arrived_down)
          observer.arrived_down(wire->injector, *wire->controller, message);
      });
    }
    // What was sent before is delivered first.
    void Close(absl::Status why) override {
      const absl::Duration due = wire_->network.Due(wire_->last_down);
      wire_->injector.After(due - wire_->network.time_.boot(),
                            [wire = wire_, why] { wire->Cut(why); });
    }

   private:
    std::shared_ptr<Wire> wire_;
  };

  absl::Duration Latency() {
    const double share = std::uniform_real_distribution<double>(0, 1)(random_);
    return min_latency + (max_latency - min_latency) * share;
  }
  // In order: never before what was sent earlier.
  absl::Duration Due(absl::Duration& last) {
    last = std::max(last + absl::Nanoseconds(1), time_.boot() + Latency());
    return last;
  }

  SimTime& time_;
  std::mt19937_64 random_;
  std::vector<std::weak_ptr<Wire>> wires_;
  // Until when nothing arrives, by injector.
  std::map<const SimExecutor*, absl::Duration> stalled_;
};

}  // namespace firedrill
