// The surroundings of simulated runs.
#include "tests/simulation/sim_surroundings.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/time_proto.h"

namespace firedrill::simulation {
namespace {

using absl::Milliseconds;
using absl::Seconds;

constexpr absl::Duration kEvaluateEvery = absl::Milliseconds(500);
constexpr absl::Duration kHold = absl::Seconds(1);

}  // namespace

void SimSurroundings::Later(absl::Duration delay, std::function<void()> task) {
  executor_.After(delay, [alive = alive_, task = std::move(task)] {
    if (*alive) task();
  });
}

void SimSurroundings::Preflight(const v1::RunCreated& created, Sink sink) {
  Later(dice_.Between(Milliseconds(50), Milliseconds(800)), [this, sink] {
    v1::PreflightFinished finished;
    const auto find = [&](v1::Finding::Kind kind, const char* message) {
      v1::Event event;
      event.mutable_finding()->set_kind(kind);
      event.mutable_finding()->set_message(message);
      sink(std::move(event));
    };
    if (scenario_.defect) {
      find(v1::Finding::KIND_DEFECT, "the rule is not there");
      finished.set_defects(1);
    }
    if (scenario_.circumstance) {
      find(v1::Finding::KIND_CIRCUMSTANCE, "it fires already");
      finished.set_circumstances(1);
    }
    v1::Event event;
    *event.mutable_preflight_finished() = finished;
    sink(std::move(event));
  });
}

void SimSurroundings::StartProbes(const v1::RunCreated& created, Sink sink) {
  for (const v1::PlannedProbe& probe : created.plan().probes()) {
    if (!probe.node().empty()) continue;
    tickers_.push_back(std::make_unique<SimTicker>(
        executor_, FromProto(probe.every()), [this, probe, sink] { Ask(probe, sink); }, running_));
  }
  tickers_.push_back(std::make_unique<SimTicker>(
      executor_, kEvaluateEvery, [this, sink] { Evaluate(sink); }, running_));
}

void SimSurroundings::Ask(const v1::PlannedProbe& probe, const Sink& sink) {
  const absl::Duration now = executor_.clock().Boot();
  ++weather_.samples;
  if (now < weather_.missing) {
    ++weather_.missing_samples;
    return;
  }
  v1::Event event;
  v1::Sample& sample = *event.mutable_sample();
  sample.set_probe(probe.id());
  *sample.mutable_asked() = ToProto(executor_.clock().Now());
  absl::Duration took = dice_.Between(Milliseconds(1), Milliseconds(100));
  if (now < weather_.unknown) {
    ++weather_.unknown_samples;
    sample.set_unknown("connection refused");
  } else {
    (*sample.mutable_values())["status"] = now < weather_.broken ? 500 : 200;
  }
  if (now < weather_.late) {
    ++weather_.late_samples;
    took = FromProto(probe.deadline()) + dice_.Between(Milliseconds(1), Seconds(2));
    sample.set_late(true);
  }
  *sample.mutable_took() = ToProto(took);
  Later(took, [sink, event] { sink(event); });
}

void SimSurroundings::Evaluate(const Sink& sink) {
  const absl::Time now = executor_.clock().Now();
  if (system_.held.empty()) {
    if (firing_)
      SendAlert("SlotsFull", v1::ALERT_STATE_RESOLVED, pending_since_.value_or(now), sink);
    firing_ = false;
    pending_since_.reset();
  } else if (!pending_since_.has_value()) {
    pending_since_ = now;
    SendAlert("SlotsFull", v1::ALERT_STATE_PENDING, now, sink);
  } else if (!firing_ && now - *pending_since_ >= kHold) {
    firing_ = true;
    SendAlert("SlotsFull", v1::ALERT_STATE_FIRING, *pending_since_, sink);
    if (scenario_.unexpected_page && !std::exchange(strange_, true)) {
      SendAlert("Strange", v1::ALERT_STATE_FIRING, now, sink);
    }
  }
}

void SimSurroundings::SendAlert(const std::string& alert, v1::AlertState state,
                                absl::Time active_at, const Sink& sink) {
  ++weather_.alerts;
  const auto send = [&](const char* source, v1::AlertSource kind) {
    v1::Event event;
    event.set_source(source);
    v1::AlertTransition& transition = *event.mutable_alert();
    transition.set_source(kind);
    transition.set_alert(alert);
    transition.set_state(kind == v1::ALERT_SOURCE_PROMETHEUS && state == v1::ALERT_STATE_RESOLVED
                             ? v1::ALERT_STATE_INACTIVE
                             : state);
    (*transition.mutable_labels())["severity"] = "page";
    *transition.mutable_active_at() = ToProto(active_at);
    *transition.mutable_evaluated_at() = ToProto(executor_.clock().Now());
    transition.set_series_present(true);
    Later(dice_.Between(Milliseconds(10), Milliseconds(700)), [sink, event] { sink(event); });
  };
  send("prometheus", v1::ALERT_SOURCE_PROMETHEUS);
  if (state != v1::ALERT_STATE_PENDING) send("webhook/oncall", v1::ALERT_SOURCE_WEBHOOK);
}

void SimSurroundings::Announce(const v1::RunCreated& created, const std::string& what,
                               const std::string& detail, Sink sink) {
  Later(dice_.Between(Milliseconds(1), Milliseconds(200)), [sink, what] {
    v1::Event event;
    event.mutable_announced()->set_what(what);
    event.mutable_announced()->set_delivered(true);
    sink(std::move(event));
  });
}

}  // namespace firedrill::simulation
