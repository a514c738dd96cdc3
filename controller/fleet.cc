// The injectors that have dialled in.
#include "controller/fleet.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "controller/run.h"

namespace firedrill {
namespace {

// Links that have not registered yet; more are closed at once.
constexpr size_t kMostPending = 256;
constexpr size_t kMostNodes = 10000;
constexpr size_t kMostPingsKept = 16;
// A node that was away for longer has ended everything by itself: no lease is longer than 60 s.
constexpr absl::Duration kLastOrders = absl::Seconds(65);

absl::Duration LessSince(const google::protobuf::Duration& remaining, absl::Duration elapsed) {
  return std::max(FromProto(remaining) - elapsed, absl::ZeroDuration());
}

// The absolute end does not move: what has passed since the command was issued is taken off.
v1::Command WithElapsed(v1::Command command, absl::Duration elapsed) {
  if (elapsed <= absl::ZeroDuration()) return command;
  switch (command.action_case()) {
    case v1::Command::kApply:
      *command.mutable_apply()->mutable_remaining() =
          ToProto(LessSince(command.apply().remaining(), elapsed));
      break;
    case v1::Command::kPrepare:
      *command.mutable_prepare()->mutable_remaining() =
          ToProto(LessSince(command.prepare().remaining(), elapsed));
      break;
    case v1::Command::kStartLoad:
      *command.mutable_start_load()->mutable_remaining() =
          ToProto(LessSince(command.start_load().remaining(), elapsed));
      break;
    case v1::Command::kStartProbe:
      *command.mutable_start_probe()->mutable_remaining() =
          ToProto(LessSince(command.start_probe().remaining(), elapsed));
      break;
    default:
      break;
  }
  return command;
}

// A node's times as the controller's clock would have shown them.
void MoveTimes(v1::Event& event, absl::Duration offset) {
  const auto move = [offset](google::protobuf::Timestamp* time) {
    *time = ToProto(FromProto(*time) - offset);
  };
  if (event.has_load() && event.load().has_start()) move(event.mutable_load()->mutable_start());
  if (event.has_sample() && event.sample().has_asked())
    move(event.mutable_sample()->mutable_asked());
}

}  // namespace

Fleet::Fleet(Executor& executor, Options options)
    : executor_(executor), options_(std::move(options)) {
  ping_timer_ = executor_.After(options_.ping_every, [this, alive = alive_] {
    if (*alive) Ping();
  });
}

Fleet::~Fleet() {
  *alive_ = false;
  executor_.Cancel(ping_timer_);
  for (auto& [id, pending] : links_)
    pending.link->Close(absl::CancelledError("the controller ends"));
}

Fleet::UpEvents Fleet::Accept(std::shared_ptr<Down> link, std::string proven) {
  const uint64_t id = next_link_++;
  const auto unregistered = std::count_if(
      links_.begin(), links_.end(), [](const auto& entry) { return entry.second.node.empty(); });
  if (static_cast<size_t>(unregistered) >= kMostPending) {
    link->Close(
        absl::ResourceExhaustedError("too many injectors are registering; try again later"));
  } else {
    links_[id] = {std::move(link), std::move(proven), ""};
  }
  return {.message =
              [this, id, alive = alive_](const v1::ConnectRequest& message) {
                if (*alive) OnMessage(id, message);
              },
          .closed =
              [this, id, alive = alive_](const absl::Status& why) {
                if (*alive) OnClosed(id, why);
              }};
}

void Fleet::OnMessage(uint64_t link_id, const v1::ConnectRequest& message) {
  auto found = links_.find(link_id);
  if (found == links_.end()) return;
  if (message.has_registration()) return Register(link_id, found->second, message.registration());
  if (found->second.node.empty()) {
    return Refuse(link_id, "the first message of an injector must be its registration",
                  "use an injector of the controller's version");
  }
  NodeEntry& node = nodes_[found->second.node];
  if (node.link_id != link_id) return;
  node.heard = executor_.clock().Boot();
  node.seen = executor_.clock().Now();
  if (message.has_report()) TakeReport(node, message.report());
  if (message.has_pong()) TakePong(node, message.pong());
  if (message.has_subjects_told()) TakeSubjects(found->second.node, message.subjects_told());
}

void Fleet::Refuse(uint64_t link_id, const std::string& reason, const std::string& next) {
  v1::ConnectResponse response;
  response.mutable_refused()->set_reason(reason);
  response.mutable_refused()->set_next(next);
  std::shared_ptr<Down> link = links_[link_id].link;
  links_.erase(link_id);
  link->Send(response);
  link->Close(absl::FailedPreconditionError(reason));
}

void Fleet::SendToSuccessor(uint64_t link_id, const v1::Registration& registration) {
  const std::string why =
      absl::StrCat("epoch ", options_.epoch, " of the controller group ", options_.group,
                   " is over: the node ", registration.node(), " has seen ", registration.epoch(),
                   "; another controller has taken over: end this one, or start it again if it is "
                   "the one that should serve");
  if (registration.epoch() > superseded_by_) spdlog::warn("{}", why);
  superseded_by_ = std::max(superseded_by_, registration.epoch());
  const std::shared_ptr<Down> link = links_[link_id].link;
  links_.erase(link_id);
  link->Close(absl::FailedPreconditionError(why));
}

void Fleet::Register(uint64_t link_id, Pending& pending, const v1::Registration& registration) {
  const std::string& name = registration.node();
  if (name.empty())
    return Refuse(link_id, "an injector without a node name", "give it --node NAME");
  if (!pending.proven.empty() && pending.proven != name) {
    return Refuse(link_id,
                  absl::StrCat("the certificate is that of the injector ", pending.proven,
                               ", and the node says that it is ", name),
                  absl::StrCat("issue a certificate for ", name, ", or correct the node's name"));
  }
  if (registration.group() == options_.group && registration.epoch() > options_.epoch) {
    return SendToSuccessor(link_id, registration);
  }
  if (nodes_.size() >= kMostNodes && nodes_.count(name) == 0) {
    return Refuse(link_id, "this controller has as many nodes as it can hold",
                  "use another controller");
  }
  NodeEntry& node = nodes_[name];
  const bool same = node.registration.instance() == registration.instance();
  if (node.link != nullptr && !same) {
    return Refuse(link_id,
                  absl::StrCat("a node named ", name, " is connected already (process ",
                               node.registration.pid(), ")"),
                  "end that injector, or give this one another --node");
  }
  // Whom a controller before this one knew, this one cannot tell from another process of that node.
  const bool restarted = !same && (!node.registration.instance().empty() ||
                                   (registration.fresh() && !resumed_.empty()));
  if (node.link != nullptr) {
    const std::shared_ptr<Down> old = node.link;
    links_.erase(node.link_id);
    old->Close(absl::CancelledError("the injector has dialled again"));
  }
  pending.node = name;
  if (!same) {
    node.reports_taken = 0;
    node.fresh = true;
  }
  if (restarted) {
    // What was asked of the process before may not happen in this one; only undoing is repeated.
    // Its runs hear of it, and ask anew for what they still want.
    std::erase_if(node.kept, [](const Kept& kept) { return !kept.command.has_revert(); });
  }
  node.registration = registration;
  *node.figures.mutable_faults() = registration.active();
  node.figures.set_stopped(registration.stopped());
  // Before it is asked whether the lever is pulled: who pulls it now reaches this node, too.
  SetLink(name, node, pending.link);
  node.link_id = link_id;
  node.heard = executor_.clock().Boot();
  node.seen = executor_.clock().Now();

  v1::ConnectResponse response;
  v1::Registered& registered = *response.mutable_registered();
  registered.set_group(options_.group);
  registered.set_epoch(options_.epoch);
  *registered.mutable_ping_every() = ToProto(options_.ping_every);
  registered.set_acknowledged(node.reports_taken);
  for (const std::string& run : resumed_) {
    if (listeners_.count(run) > 0) registered.add_runs(run);
  }
  if (options_.halt) {
    if (const std::optional<v1::Halt> halt = options_.halt()) *registered.mutable_halt() = *halt;
  }
  node.link->Send(response);
  // Released meanwhile: that may have been sent before this.
  if (registered.has_halt() && !options_.halt().has_value()) {
    v1::ConnectResponse released;
    released.mutable_halt()->set_released(true);
    node.link->Send(released);
  }
  for (const Kept& kept : node.kept) Transmit(node, kept);
  Tell(name, true, restarted ? "its injector was started again" : "", restarted);
}

void Fleet::OnClosed(uint64_t link_id, const absl::Status& why) {
  auto found = links_.find(link_id);
  if (found == links_.end()) return;
  const std::string name = found->second.node;
  links_.erase(found);
  if (name.empty()) return;
  NodeEntry& node = nodes_[name];
  if (node.link_id != link_id) return;
  SetLink(name, node, nullptr);
  Tell(name, false, why.ok() ? "the injector ended its stream" : std::string(why.message()));
}

void Fleet::SetLink(const std::string& name, NodeEntry& node, std::shared_ptr<Down> link) {
  node.link = std::move(link);
  MutexLock lock(lines_mutex_);
  if (node.link == nullptr) {
    lines_.erase(name);
  } else {
    lines_[name] = node.link;
  }
}

size_t Fleet::Halt(const v1::Halt& halt) {
  v1::ConnectResponse response;
  *response.mutable_halt() = halt;
  MutexLock lock(lines_mutex_);
  for (const auto& [name, link] : lines_) link->Send(response);
  return lines_.size();
}

void Fleet::Tell(const std::string& node, bool connected, const std::string& reason,
                 bool restarted) {
  v1::NodeReport report;
  report.set_node(node);
  report.set_connected(connected);
  report.set_reason(reason);
  report.set_restarted(restarted);
  // A listener may end its subscription when it hears this.
  const std::map<std::string, FleetListener> listeners = listeners_;
  for (const auto& [run, listener] : listeners) listener.node(report);
}

void Fleet::TakeReport(NodeEntry& node, const v1::Report& report) {
  const bool next = report.number() == node.reports_taken + 1 || node.fresh;
  const bool seen = !node.fresh && report.number() <= node.reports_taken;
  if (!next && !seen) return;  // One before it is missing: it comes again after a reconnect.
  if (!seen) {
    v1::Event event = report.event();
    event.set_source(absl::StrCat("injector/", node.registration.node()));
    if (node.error != absl::InfiniteDuration()) {
      *event.mutable_clock_offset() = ToProto(node.offset);
      *event.mutable_clock_error() = ToProto(node.error);
      MoveTimes(event, node.offset);
    }
    auto listener = listeners_.find(event.run());
    // A report of a run that is over has nowhere to go, and need not come again.
    if (listener != listeners_.end() && !listener->second.report(std::move(event))) return;
    node.reports_taken = report.number();
    node.fresh = false;
  }
  if (node.link == nullptr) return;
  v1::ConnectResponse response;
  response.mutable_report_ack()->set_number(node.reports_taken);
  node.link->Send(response);
}

void Fleet::TakePong(NodeEntry& node, const v1::Pong& pong) {
  node.figures = pong.figures();
  node.registration.set_stopped(node.figures.stopped());
  *node.registration.mutable_active() = node.figures.faults();
  auto sent = ping_sent_.find(pong.number());
  if (sent == ping_sent_.end()) return;
  const absl::Duration round = executor_.clock().Boot() - sent->second.first;
  const absl::Duration error = round / 2;
  // A quick answer bounds the error better than the mean of many: keep it, but let it age.
  if (error > node.error) {
    node.error += absl::Milliseconds(1);
    return;
  }
  node.error = error;
  node.offset = FromProto(pong.node_time()) - (sent->second.second + error);
}

void Fleet::Ping() {
  const absl::Duration now = executor_.clock().Boot();
  std::vector<std::pair<std::string, uint64_t>> silent;
  for (auto& [name, node] : nodes_) {
    if (node.link != nullptr && now - node.heard > options_.silent_after) {
      silent.emplace_back(name, node.link_id);
    }
  }
  for (auto& [name, node] : nodes_) {
    std::erase_if(node.kept, [now](const Kept& kept) { return now >= kept.until; });
  }
  for (const auto& [name, link_id] : silent) {
    const std::shared_ptr<Down> link = nodes_[name].link;
    const std::string why = absl::StrCat("nothing was heard from it for ",
                                         firedrill::FormatDuration(options_.silent_after));
    OnClosed(link_id, absl::DeadlineExceededError(why));
    link->Close(absl::DeadlineExceededError(why));
  }
  v1::ConnectResponse response;
  v1::Ping& ping = *response.mutable_ping();
  ping.set_number(++pings_);
  ping.set_epoch(options_.epoch);
  *ping.mutable_controller_time() = ToProto(executor_.clock().Now());
  ping_sent_[pings_] = {now, executor_.clock().Now()};
  if (ping_sent_.size() > kMostPingsKept) ping_sent_.erase(ping_sent_.begin());
  for (auto& [name, node] : nodes_) {
    if (node.link != nullptr) node.link->Send(response);
  }
  ping_timer_ = executor_.After(options_.ping_every, [this, alive = alive_] {
    if (*alive) Ping();
  });
}

void Fleet::Send(const v1::Command& command) {
  NodeEntry& node = nodes_[command.id().node()];
  const v1::CommandId& id = command.id();
  if (command.has_revert()) {
    std::erase_if(node.kept, [&id](const Kept& kept) {
      return (kept.command.has_apply() || kept.command.has_prepare()) &&
             kept.command.id().run() == id.run() && kept.command.id().name() == id.name();
    });
  }
  node.kept.push_back({command, executor_.clock().Boot()});
  if (node.link != nullptr) Transmit(node, node.kept.back());
}

void Fleet::Transmit(NodeEntry& node, const Kept& kept) {
  v1::ConnectResponse response;
  *response.mutable_command() = WithElapsed(kept.command, executor_.clock().Boot() - kept.issued);
  node.link->Send(response);
}

void Fleet::Subscribe(const std::string& run, FleetListener listener) {
  listeners_[run] = std::move(listener);
}

void Fleet::Unsubscribe(const std::string& run) {
  listeners_.erase(run);
  const absl::Duration until = executor_.clock().Boot() + kLastOrders;
  for (auto& [name, node] : nodes_) {
    std::erase_if(node.kept, [&run](const Kept& kept) {
      return kept.command.id().run() == run && !EndsSomething(kept.command);
    });
    for (Kept& kept : node.kept) {
      if (kept.command.id().run() == run) kept.until = std::min(kept.until, until);
    }
  }
}

std::vector<v1::Registration> Fleet::Connected() const {
  std::vector<v1::Registration> connected;
  for (const auto& [name, node] : nodes_) {
    if (node.link != nullptr) connected.push_back(node.registration);
  }
  return connected;
}

std::string Fleet::MemoryOf(const std::string& node) const {
  const auto found = nodes_.find(node);
  if (found == nodes_.end() || found->second.link == nullptr) return "";
  return found->second.registration.memory();
}

void Fleet::ForgetFault(const std::string& node, const std::string& run, const std::string& fault) {
  const auto found = nodes_.find(node);
  if (found == nodes_.end() || found->second.link != nullptr) return;
  const auto forget = [&](auto& things) {
    things.erase(std::remove_if(
                     things.begin(), things.end(),
                     [&](const auto& each) { return each.run() == run && each.fault() == fault; }),
                 things.end());
  };
  forget(*found->second.figures.mutable_faults());
  forget(*found->second.registration.mutable_active());
  forget(*found->second.registration.mutable_leftovers());
}

std::vector<v1::InjectorSummary> Fleet::Seen() const {
  std::vector<v1::InjectorSummary> seen;
  for (const auto& [name, node] : nodes_) {
    if (node.registration.node().empty()) continue;
    v1::InjectorSummary& summary = seen.emplace_back();
    *summary.mutable_registration() = node.registration;
    summary.set_connected(node.link != nullptr);
    *summary.mutable_last_seen() = ToProto(node.seen);
    *summary.mutable_clock_offset() = ToProto(node.offset);
    *summary.mutable_figures() = node.figures;
  }
  return seen;
}

}  // namespace firedrill
