// The injector's side of the stream.
#include "injector/session.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/text.h"
#include "base/time_proto.h"

namespace firedrill {
namespace {

constexpr absl::Duration kWatchEvery = absl::Milliseconds(250);
// For the last reports, when the injector ends.
constexpr absl::Duration kLastWords = absl::Seconds(1);
// And before for remedies, which end a program, or lift a fence.
constexpr absl::Duration kForRemedies = absl::Seconds(8);
constexpr absl::Duration kLastWordsEvery = absl::Milliseconds(10);

}  // namespace

Session::Session(Parts parts, Options options, std::function<void(End)> ended)
    : parts_(std::move(parts)),
      options_(options),
      ended_(std::move(ended)),
      heard_of_(parts_.epochs.Newest()),
      pause_(options.first_pause) {}

Session::~Session() {
  *alive_ = false;
  for (const auto timer : {dial_timer_, grace_timer_, watch_timer_}) parts_.executor.Cancel(timer);
  if (link_ != nullptr) link_->Close(absl::CancelledError("the injector ends"));
}

Executor::TimerId Session::Later(absl::Duration delay, std::function<void()> task) {
  return parts_.executor.After(delay, [alive = alive_, task = std::move(task)] {
    if (*alive) task();
  });
}

void Session::Start() {
  started_ = parts_.executor.clock().Boot();
  Dial();
  OnWatch();
}

// -------------------------------------------------------------------- dialling

void Session::Dial() {
  if (closed_ || link_ != nullptr) return;
  const uint64_t number = ++link_number_;
  dialled_ = heard_ = parts_.executor.clock().Boot();
  // Whoever answers says whether its lever is pulled.
  parts_.warden.Release();
  link_ =
      parts_.dialler.Dial({.message =
                               [this, number, alive = alive_](const v1::ConnectResponse& message) {
                                 if (*alive) OnMessage(number, message);
                               },
                           .closed =
                               [this, number, alive = alive_](absl::Status why) {
                                 if (*alive) OnClosed(number, why);
                               }});
  v1::ConnectRequest request;
  v1::Registration& registration = *request.mutable_registration();
  registration = parts_.registration;
  for (v1::ActiveFault& fault : parts_.warden.active())
    *registration.add_active() = std::move(fault);
  for (const v1::Leftover& leftover : parts_.warden.leftovers())
    *registration.add_leftovers() = leftover;
  registration.set_stopped(parts_.warden.StoppedByFile());
  registration.set_group(heard_of_);
  registration.set_epoch(parts_.epochs.Highest(heard_of_));
  registration.set_fresh(!ever_registered_);
  link_->Send(request);
}

void Session::DialLater() {
  parts_.executor.Cancel(dial_timer_);
  dial_timer_ = Later(pause_, [this] { Dial(); });
  pause_ = std::min(pause_ * 2, options_.longest_pause);
}

void Session::OnClosed(uint64_t number, const absl::Status& why) {
  if (number != link_number_ || link_ == nullptr) return;
  link_ = nullptr;
  const bool was_registered = std::exchange(registered_, false);
  // A silent controller was left, and is not even there any more: that is a loss like any other.
  const bool was_dropped = std::exchange(dropped_, false);
  if (closed_) return;
  if (was_registered || was_dropped) {
    spdlog::warn("the stream to the controller has ended: {}", why);
    BeginGrace();
  } else {
    Tell(why);
    // A private controller listens before its injectors are started: one that refuses was killed
    // before they had reached it.
    const absl::Duration now = parts_.executor.clock().Boot();
    if (!unreachable_since_.has_value()) unreachable_since_ = now;
    if (options_.is_private && !ever_registered_ && now - *unreachable_since_ >= options_.grace) {
      return EndPrivate({.reason = absl::IsFailedPrecondition(why)
                                       ? std::string(why.message())
                                       : "the controller is gone before it was reached"});
    }
  }
  DialLater();
}

void Session::Tell(const absl::Status& why) {
  // Who refuses says what to do; who is not there cannot.
  const bool unknown = absl::IsUnavailable(why) || absl::IsDeadlineExceeded(why);
  // A private controller may not be there yet.
  if (unknown && options_.is_private) return spdlog::debug("no stream to the controller: {}", why);
  const auto words = unreached_.Failed(std::string(why.message()), parts_.executor.clock().Boot());
  if (!words.has_value()) return;
  spdlog::warn("the controller {} is not reached: {}{}", options_.controller, *words,
               unknown
                   ? "; it is tried again and again. Is that its address, does its name resolve "
                     "here, does it run there, and do both certificates come from one "
                     "authority? Whom it refuses stands in its own log"
                   : "");
}

void Session::Drop(const std::string& why) {
  spdlog::warn("dialling again: {}", why);
  LetGo(why);
}

void Session::LetGo(const std::string& why) {
  if (std::exchange(registered_, false)) dropped_ = true;
  const auto link = std::exchange(link_, nullptr);
  ++link_number_;
  if (link != nullptr) link->Close(absl::CancelledError(why));
  DialLater();
}

void Session::BeginGrace() {
  parts_.executor.Cancel(grace_timer_);
  grace_timer_ = Later(options_.grace, [this] {
    OnLost(absl::StrCat("it has been gone for ", firedrill::FormatDuration(options_.grace)));
  });
}

void Session::OnLost(const std::string& why, const std::set<std::string>& kept) {
  spdlog::warn("what the controller has on here goes off: {}", why);
  for (const std::string& run : parts_.work.runs()) {
    if (kept.count(run) > 0) continue;
    parts_.warden.StopRun(run, "the connection to its controller was lost");
  }
  parts_.work.End("the connection to its controller was lost", kept);
  parts_.warden.ControllerLost(kept);
  if (options_.is_private) EndPrivate({.reason = "the controller is gone"});
}

void Session::EndPrivate(End end) {
  if (ended_ == nullptr) return;
  Close(end.reason, [ended = std::exchange(ended_, nullptr), end](End closed) mutable {
    end.clean = closed.clean;
    ended(end);
  });
}

// -------------------------------------------------------------------- messages

void Session::OnMessage(uint64_t number, const v1::ConnectResponse& message) {
  if (number != link_number_ || link_ == nullptr) return;
  heard_ = parts_.executor.clock().Boot();
  switch (message.message_case()) {
    case v1::ConnectResponse::kRegistered:
      return OnRegistered(message.registered());
    case v1::ConnectResponse::kRefused:
      return OnRefused(message.refused());
    case v1::ConnectResponse::kPing:
      return OnPing(message.ping());
    case v1::ConnectResponse::kCommand:
      return OnCommand(message.command());
    case v1::ConnectResponse::kHalt:
      return OnHalt(message.halt());
    case v1::ConnectResponse::kReportAck:
      outbox_.Acknowledge(message.report_ack().number());
      progressed_ = heard_;
      return Flush();
    case v1::ConnectResponse::kSubjectsAsked:
      return OnSubjectsAsked(message.subjects_asked());
    default:
      return;
  }
}

void Session::OnRegistered(const v1::Registered& registered) {
  heard_of_ = registered.group();
  const absl::Status admitted = parts_.epochs.Admit(registered.group(), registered.epoch());
  // A disk that cannot keep the epoch refuses what is applied later, each with its own words.
  if (absl::IsFailedPrecondition(admitted)) return Drop(std::string(admitted.message()));
  registered_ = true;
  dropped_ = false;
  parts_.executor.Cancel(grace_timer_);
  // Nobody conducts the runs of another controller, or of one that has been started again, unless
  // it says that it goes on with them: what that one has on here is as lost as if nobody had come.
  // Before anything of the new one can be on.
  const bool another =
      ever_registered_ && (group_ != registered.group() || epoch_ != registered.epoch());
  std::set<std::string> kept;
  if (group_ == registered.group()) kept = {registered.runs().begin(), registered.runs().end()};
  ever_registered_ = true;
  group_ = registered.group();
  epoch_ = registered.epoch();
  pause_ = options_.first_pause;
  if (another) {
    const std::shared_ptr<bool> alive = alive_;
    OnLost("another controller has taken its place", kept);
    if (!*alive || closed_) return;
    parts_.warden.TakeOver(kept, group_, epoch_);
  }
  if (registered.has_halt()) OnHalt(registered.halt());
  const auto reached = unreached_.Reached(parts_.executor.clock().Boot());
  spdlog::info("registered with the controller group {}, epoch {}{}", group_, registered.epoch(),
               reached.has_value() ? absl::StrCat("; ", *reached) : "");
  // It is there: that is what a lease asks.
  parts_.warden.Renew(group_, registered.epoch());
  parts_.work.Renew();
  outbox_.Acknowledge(registered.acknowledged());
  outbox_.Rewind();
  progressed_ = parts_.executor.clock().Boot();
  Flush();
}

// Past every queue of the controller: it may even come before the answer to the registration.
void Session::OnHalt(const v1::Halt& halt) {
  if (halt.released()) {
    spdlog::warn("the controller's emergency lever is released");
    return parts_.warden.Release();
  }
  const std::string words =
      halt.by().empty() ? halt.reason() : absl::StrCat(halt.by(), ": ", halt.reason());
  spdlog::warn("the controller's emergency lever is pulled ({}): everything goes off", words);
  parts_.warden.Halt(group_, words);
  parts_.work.LookForStop();
}

v1::NodeFigures Session::Figures() const {
  v1::NodeFigures figures;
  for (v1::ActiveFault& fault : parts_.warden.active()) *figures.add_faults() = std::move(fault);
  figures.set_stopped(parts_.warden.StoppedByFile());
  figures.set_reports_dropped(outbox_.dropped());
  if (options_.certificate_expires) {
    *figures.mutable_certificate_expires() = ToProto(options_.certificate_expires());
  }
  return figures;
}

void Session::OnPing(const v1::Ping& ping) {
  if (!registered_) return;
  const absl::Status admitted = parts_.epochs.Admit(group_, ping.epoch());
  if (absl::IsFailedPrecondition(admitted)) return Drop(std::string(admitted.message()));
  parts_.warden.Renew(group_, ping.epoch());
  parts_.work.Renew();
  v1::ConnectRequest request;
  request.mutable_pong()->set_number(ping.number());
  *request.mutable_pong()->mutable_node_time() = ToProto(parts_.executor.clock().Now());
  *request.mutable_pong()->mutable_figures() = Figures();
  link_->Send(request);
}

void Session::OnCommand(const v1::Command& command) {
  if (!registered_) return;
  const v1::CommandId& id = command.id();
  absl::Status obeyed;
  switch (command.action_case()) {
    case v1::Command::kPrepare:
    case v1::Command::kApply:
    case v1::Command::kRevert:
      obeyed = parts_.warden.Handle(command);
      break;
    default:
      obeyed = parts_.epochs.Admit(id.group(), id.epoch());
      if (id.node() != parts_.registration.node()) {
        obeyed = absl::InvalidArgumentError(absl::StrCat("a command for the node ", id.node()));
      }
      // The epoch matters; whether the disk could keep it matters to lasting changes only.
      if (!absl::IsFailedPrecondition(obeyed) && !absl::IsInvalidArgument(obeyed)) {
        parts_.work.Handle(command);
        obeyed = absl::OkStatus();
      }
      break;
  }
  if (obeyed.ok()) return;
  spdlog::error("the command {} of {} (run {}) was not obeyed: {}", id.verb(), id.name(), id.run(),
                obeyed);
  if (absl::IsFailedPrecondition(obeyed)) Drop(std::string(obeyed.message()));
}

void Session::OnSubjectsAsked(const v1::SubjectsAsked& asked) {
  if (!registered_) return;
  parts_.work.FindSubjects(asked, [this, alive = alive_](v1::SubjectsTold told) {
    if (!*alive || !registered_ || link_ == nullptr) return;
    v1::ConnectRequest request;
    *request.mutable_subjects_told() = std::move(told);
    link_->Send(request);
  });
}

void Session::OnRefused(const v1::Refused& refused) {
  const std::string words = absl::StrCat("the controller refuses this injector: ", refused.reason(),
                                         refused.next().empty() ? "" : "; ", refused.next());
  spdlog::error("{}", words);
  if (options_.is_private) return EndPrivate({.refused = true, .reason = words});
  pause_ = options_.refused_pause;
  Drop("after a refusal");
}

// -------------------------------------------------------------------- reports

void Session::Send(v1::Report report) {
  if (outbox_.unacknowledged() == 0) progressed_ = parts_.executor.clock().Boot();
  outbox_.Add(std::move(report));
  Flush();
}

void Session::Flush() {
  if (!registered_ || link_ == nullptr) return;
  outbox_.Flush([this](const v1::Report& report) {
    v1::ConnectRequest request;
    *request.mutable_report() = report;
    link_->Send(request);
  });
}

void Session::OnWatch() {
  watch_timer_ = Later(kWatchEvery, [this] { OnWatch(); });
  if (closed_) return;
  const absl::Duration now = parts_.executor.clock().Boot();
  if (link_ != nullptr && !registered_ && now - dialled_ >= options_.registered_within) {
    constexpr char kSilent[] = "it does not answer";
    Tell(absl::DeadlineExceededError(kSilent));
    return LetGo(kSilent);
  }
  if (registered_ && now - heard_ >= options_.silent_after) {
    return Drop(absl::StrCat("nothing was heard of the controller for ",
                             firedrill::FormatDuration(options_.silent_after)));
  }
  if (registered_ && outbox_.unacknowledged() > 0 && now - progressed_ >= options_.resend_after) {
    progressed_ = now;
    outbox_.Rewind();
    Flush();
  }
  if (options_.is_private && !ever_registered_ && now - started_ >= options_.first_contact) {
    EndPrivate({.reason = absl::StrCat("no controller was there within ",
                                       firedrill::FormatDuration(options_.first_contact))});
  }
}

// --------------------------------------------------------------------- the end

void Session::Close(const std::string& reason, std::function<void(End)> done) {
  if (closed_) return done({.clean = clean_, .reason = close_reason_});
  closing_.push_back(std::move(done));
  if (closing_.size() > 1) return;
  close_reason_ = reason;
  parts_.work.End(reason);
  parts_.warden.Close(reason, [this, alive = alive_](bool clean) {
    if (*alive) AwaitRemedies(clean, parts_.executor.clock().Boot() + kForRemedies);
  });
}

void Session::AwaitRemedies(bool clean, absl::Duration until) {
  const absl::Duration now = parts_.executor.clock().Boot();
  if (!parts_.work.remedies() || now >= until) return FinishClose(clean, now + kLastWords);
  Later(kLastWordsEvery, [this, clean, until] { AwaitRemedies(clean, until); });
}

void Session::FinishClose(bool clean, absl::Duration until) {
  if (registered_ && !outbox_.empty() && parts_.executor.clock().Boot() < until) {
    Later(kLastWordsEvery, [this, clean, until] { FinishClose(clean, until); });
    return;
  }
  closed_ = true;
  clean_ = clean;
  if (link_ != nullptr) link_->Close(absl::OkStatus());
  // The session may be gone after any of these calls.
  const End end{.clean = clean, .reason = close_reason_};
  for (const auto& done : std::exchange(closing_, {})) done(end);
}

}  // namespace firedrill
