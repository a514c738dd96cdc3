// Carries intercepted traffic, as its injector says.
#include "injector/wire/worker.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/clock.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "injector/os/socket_destroy.h"
#include "injector/wire/control.h"
#include "injector/wire/way_in.h"

namespace firedrill::wire {
namespace {

constexpr absl::Duration kAnswerWithin = absl::Seconds(1);
// Of the lease: then it heals by itself; at its end the kernel kills what could not.
constexpr double kHealAt = 0.8;
constexpr absl::Duration kAskServerEvery = absl::Milliseconds(100);
constexpr absl::Duration kServerAnswersWithin = absl::Milliseconds(300);
// Whoever has been led to the listener but was not taken in yet.
constexpr absl::Duration kBacklogWithin = absl::Milliseconds(50);
constexpr absl::Duration kLookWhetherEmpty = absl::Milliseconds(50);
constexpr absl::Duration kForEver = absl::Hours(24);

absl::Duration Boot() { return RealClock().Boot(); }

absl::StatusOr<sockaddr_storage> ReadAddress(const std::string& bytes) {
  sockaddr_storage address{};
  if (bytes.size() > sizeof(address) || bytes.size() < sizeof(sa_family_t)) {
    return absl::InvalidArgumentError("an address of the wrong length");
  }
  std::memcpy(&address, bytes.data(), bytes.size());
  return address;
}

void AddCounters(const ProxyCounters& from, ProxyCounters* to) {
  to->accepted += from.accepted;
  to->open += from.open;
  to->refused += from.refused;
  to->encrypted += from.encrypted;
  to->lost += from.lost;
  to->encrypted_open += from.encrypted_open;
  to->lost_open += from.lost_open;
  if (!from.lost_why.empty()) to->lost_why = from.lost_why;
  to->leaked += from.leaked;
  to->stalled += from.stalled;
  to->reset += from.reset;
  to->bytes_to_server += from.bytes_to_server;
  to->bytes_to_client += from.bytes_to_client;
  to->requests += from.requests;
  to->delayed += from.delayed;
  to->failed += from.failed;
  to->unmatched += from.unmatched;
  to->cut += from.cut;
  to->waited_to_server += from.waited_to_server;
  to->waited_to_client += from.waited_to_client;
}

}  // namespace

KillTimer::KillTimer() {
  sigevent event{};
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = SIGKILL;
  if (timer_create(CLOCK_BOOTTIME, &event, &timer_) != 0) {
    made_ = absl::UnavailableError(
        absl::StrCat("arming the lease in the kernel: ", std::strerror(errno)));
  }
}

KillTimer::~KillTimer() {
  if (made_.ok()) timer_delete(timer_);
}

void KillTimer::Arm(absl::Duration at) {
  itimerspec when{};
  when.it_value = absl::ToTimespec(at);
  if (made_.ok()) timer_settime(timer_, TIMER_ABSTIME, &when, nullptr);
}

void KillTimer::Disarm() {
  const itimerspec never{};
  if (made_.ok()) timer_settime(timer_, 0, &never, nullptr);
}

Worker::Worker(UniqueFd line, ProxyMaker make)
    : line_(std::move(line)),
      woken_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      make_(std::move(make)),
      heard_(Boot()) {}

Worker::~Worker() { proxies_.clear(); }

int Worker::Run() {
  while (true) {
    const absl::Duration now = Boot();
    pollfd waits[] = {{line_.get(), POLLIN, 0}, {woken_.get(), POLLIN, 0}};
    const int64_t sleep = absl::ToInt64Milliseconds(NextDue(now) - now) + 1;
    poll(waits, 2, static_cast<int>(std::clamp<int64_t>(sleep, 0, 86'400'000)));
    if (waits[1].revents != 0) {
      uint64_t count = 0;
      (void)!read(woken_.get(), &count, sizeof(count));
    }
    if (line_.valid() && waits[0].revents != 0) HandleLine();
    DropEnded(Boot());
    if (!wishes_.empty() && Boot() - heard_ >= lease_ * kHealAt) {
      Heal(absl::StrCat("nothing was heard of the injector for ",
                        firedrill::FormatDuration(Boot() - heard_)));
    }
    LookAfterServer();
    ForgetDrained();
    if (!line_.valid() && proxies_.empty()) return 0;
  }
}

absl::Duration Worker::NextDue(absl::Duration now) const {
  absl::Duration due = now + kForEver;
  if (!wishes_.empty()) due = std::min(due, heard_ + lease_ * kHealAt);
  for (const auto& [stamp, wish] : wishes_.all()) {
    due = std::min(due, absl::Nanoseconds(wish.ends_at_nanos()));
  }
  if (server_refuses_) due = std::min(due, server_asked_ + kAskServerEvery);
  if (!line_.valid() || proxies_.size() > 1) due = std::min(due, now + kLookWhetherEmpty);
  return due;
}

void Worker::HandleLine() {
  v1::WireRequest request;
  absl::Status status = ReceiveMessage(line_.get(), &request, kAnswerWithin);
  if (status.ok()) {
    heard_ = Boot();
    v1::WireReply reply;
    const absl::Status obeyed = Obey(request, &reply);
    reply.set_code(static_cast<int>(obeyed.code()));
    reply.set_message(std::string(obeyed.message()));
    Renew(heard_);
    Report(reply.mutable_status());
    status = SendMessage(line_.get(), reply, kAnswerWithin);
  }
  if (status.ok()) return;
  // Nobody can order anything any more.
  line_.Reset();
  Heal("the injector is gone");
  CloseListener();
}

absl::Status Worker::Obey(const v1::WireRequest& request, v1::WireReply* reply) {
  switch (request.what_case()) {
    case v1::WireRequest::kSetup:
      return SetUp(request.setup());
    case v1::WireRequest::kWishes:
      return SetWishes(request.wishes());
    case v1::WireRequest::kReset: {
      uint64_t touched = 0;
      for (const auto& proxy : proxies_) {
        touched += proxy->Reset(request.reset().share(), request.reset().seed());
      }
      reply->set_touched(touched);
      return absl::OkStatus();
    }
    case v1::WireRequest::kReconnect: {
      SocketSelection selection;
      selection.destinations = servers_;
      if (setup_.has_uid()) selection.uid = setup_.uid();
      selection.cgroup = setup_.cgroup();
      selection.spared = OwnSockets();
      selection.share = request.reconnect().share();
      selection.seed = request.reconnect().seed();
      ASSIGN_OR_RETURN(const DestroyedSockets done, DestroySockets(selection));
      reply->set_touched(static_cast<uint64_t>(done.destroyed));
      return absl::OkStatus();
    }
    case v1::WireRequest::kBeat:
    case v1::WireRequest::WHAT_NOT_SET:
      return absl::OkStatus();
  }
  return absl::OkStatus();
}

absl::Status Worker::SetUp(const v1::WireSetup& setup) {
  if (!servers_.empty()) return absl::FailedPreconditionError("it is set up already");
  RETURN_IF_ERROR(kill_.made());
  std::vector<sockaddr_storage> servers;
  for (const std::string& bytes : setup.servers()) {
    ASSIGN_OR_RETURN(const sockaddr_storage address, ReadAddress(bytes));
    servers.push_back(address);
  }
  if (servers.empty()) return absl::InvalidArgumentError("no server was named");
  setup_ = setup;
  servers_ = std::move(servers);
  lease_ = absl::Nanoseconds(setup.lease_nanos());
  server_ = servers_.front();
  if (servers_.size() > 1) {
    const auto answers = std::find_if(servers_.begin(), servers_.end(),
                                      [this](const auto& one) { return ServerAnswers(one); });
    if (answers != servers_.end()) server_ = *answers;
  }
  // Clients that were told to come to it find it until the injector is gone.
  return setup_.listen().empty() ? absl::OkStatus() : Open();
}

absl::Status Worker::Open() {
  if (accepting_) return absl::OkStatus();
  std::vector<sockaddr_storage> ways_in = LoopbacksFor(servers_);
  if (!setup_.listen().empty()) {
    ways_in.resize(1);
    ASSIGN_OR_RETURN(ways_in.front(), ReadAddress(setup_.listen()));
  }
  ProxyOptions options;
  std::vector<UniqueFd> watched;
  for (sockaddr_storage& address : ways_in) {
    ASSIGN_OR_RETURN(UniqueFd listener, ListenAt(&address));
    watched.emplace_back(fcntl(listener.get(), F_DUPFD_CLOEXEC, 0));
    options.listeners.push_back(std::move(listener));
  }

  std::shared_ptr<ConnectRedirect> redirect;
  if (setup_.listen().empty()) {
    RedirectOptions leading;
    leading.destinations = servers_;
    leading.listeners = ways_in;
    if (setup_.has_uid()) leading.uid = setup_.uid();
    leading.cgroup = setup_.cgroup();
    leading.name = setup_.name();
    ASSIGN_OR_RETURN(redirect, ConnectRedirect::Attach(leading));
  }
  options.server = server_;
  options.protocol = setup_.protocol();
  options.cancels = cancels_;
  if (redirect != nullptr) {
    options.prepare_socket = [redirect](int fd) { return redirect->Exempt(fd); };
    options.on_refused = [this] {
      if (refused_.exchange(true)) return;
      const uint64_t wake = 1;
      (void)!write(woken_.get(), &wake, sizeof(wake));
    };
  }
  ASSIGN_OR_RETURN(std::unique_ptr<Proxy> proxy, make_(std::move(options)));
  proxies_.push_back(std::move(proxy));
  redirect_ = std::move(redirect);
  listeners_ = std::move(watched);
  port_ = PortOf(ways_in.front());
  accepting_ = true;
  return absl::OkStatus();
}

absl::Status Worker::SetWishes(const v1::WireWishes& wishes) {
  if (servers_.empty()) return absl::FailedPreconditionError("it is not set up");
  if (wishes.only_check()) return Wishes::Check(setup_.protocol(), wishes);
  const Wishes::ByStamp before = wishes_.all();
  Wishes::ByStamp wanted;
  for (const v1::WireWish& wish : wishes.wishes()) wanted[wish.stamp()] = wish;
  wishes_.Set(std::move(wanted), wishes.seed());
  healed_.clear();
  if (wishes_.empty()) {
    Heal("");
    return absl::OkStatus();
  }
  const absl::Status applied = Apply();
  if (applied.ok()) return applied;
  wishes_.Set(before, wishes.seed());
  if (wishes_.empty() || !Apply().ok()) Heal(std::string(applied.message()));
  return applied;
}

// Everything is disturbed before anybody is led to it.
absl::Status Worker::Apply() {
  ASSIGN_OR_RETURN(const Disturbance disturbance, wishes_.Compose(setup_.protocol()));
  kill_.Arm(Boot() + lease_);
  RETURN_IF_ERROR(Open());
  for (const auto& proxy : proxies_) RETURN_IF_ERROR(proxy->Set(disturbance));
  if (redirect_ != nullptr && !server_refuses_) redirecting_ = true;
  Renew(Boot());
  return absl::OkStatus();
}

// Nobody is led here any more before anything else is done.
void Worker::Heal(const std::string& why) {
  if (redirect_ != nullptr) {
    redirect_->SetUntil(absl::ZeroDuration()).IgnoreError();
    redirect_->Detach();
  }
  redirecting_ = false;
  server_refuses_ = false;
  refused_ = false;
  for (const auto& proxy : proxies_) proxy->Set({}).IgnoreError();
  wishes_.Clear();
  healed_ = why;
  if (setup_.listen().empty()) CloseListener();
  kill_.Disarm();
}

void Worker::CloseListener() {
  if (!accepting_) return;
  const absl::Duration end = Boot() + kBacklogWithin;
  for (const UniqueFd& listener : listeners_) {
    while (Waiting(listener) > 0 && Boot() < end) absl::SleepFor(absl::Milliseconds(1));
  }
  listeners_.clear();
  proxies_.back()->StopAccepting();
  accepting_ = false;
  port_ = 0;
  redirect_ = nullptr;
}

void Worker::ForgetDrained() {
  for (auto it = proxies_.begin(); it != proxies_.end();) {
    const bool takes_in = accepting_ && *it == proxies_.back();
    const ProxyCounters counters = (*it)->Read();
    if (takes_in || counters.open > 0 || counters.leaked > 0) {
      ++it;
      continue;
    }
    AddCounters(counters, &past_);
    it = proxies_.erase(it);
  }
}

void Worker::DropEnded(absl::Duration now) {
  if (!wishes_.DropEnded(now)) return;
  if (wishes_.empty() || !Apply().ok()) Heal("its time was over");
}

// The lease in the kernel: of the redirect, and of this process.
void Worker::Renew(absl::Duration now) {
  if (wishes_.empty()) return;
  absl::Duration last = now;
  for (const auto& [stamp, wish] : wishes_.all()) {
    last = std::max(last, absl::Nanoseconds(wish.ends_at_nanos()));
  }
  kill_.Arm(now + lease_);
  if (redirect_ == nullptr) return;
  redirect_->SetUntil(redirecting_ ? std::min(now + lease_, last) : absl::ZeroDuration())
      .IgnoreError();
}

// Clients are to see for themselves that the server refuses them.
void Worker::LookAfterServer() {
  if (redirect_ == nullptr || wishes_.empty()) return;
  if (refused_.exchange(false) && !server_refuses_) {
    server_refuses_ = true;
    redirecting_ = false;
    redirect_->SetUntil(absl::ZeroDuration()).IgnoreError();
    server_asked_ = Boot();
    return;
  }
  if (!server_refuses_ || Boot() - server_asked_ < kAskServerEvery) return;
  server_asked_ = Boot();
  if (!ServerAnswers(server_)) return;
  server_refuses_ = false;
  redirecting_ = true;
  Renew(heard_);
}

bool Worker::ServerAnswers(const sockaddr_storage& server) const {
  const UniqueFd fd(socket(server.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return false;
  if (redirect_ != nullptr) redirect_->Exempt(fd.get()).IgnoreError();
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&server), LengthOf(server)) == 0) {
    return true;
  }
  if (errno != EINPROGRESS) return false;
  pollfd wait{fd.get(), POLLOUT, 0};
  if (poll(&wait, 1, static_cast<int>(absl::ToInt64Milliseconds(kServerAnswersWithin))) <= 0) {
    return false;
  }
  int error = 0;
  socklen_t length = sizeof(error);
  return getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &length) == 0 && error == 0;
}

void Worker::Report(v1::WireStatus* status) const {
  ProxyCounters all = past_;
  for (const auto& proxy : proxies_) AddCounters(proxy->Read(), &all);
  status->set_port(port_);
  status->set_redirecting(redirecting_);
  status->set_server_refuses(server_refuses_);
  status->set_healed(healed_);
  wishes_.Report(status);
  status->set_accepted(all.accepted);
  status->set_open(all.open);
  status->set_refused(all.refused);
  status->set_encrypted(all.encrypted);
  status->set_lost(all.lost);
  status->set_lost_why(all.lost_why);
  status->set_encrypted_open(all.encrypted_open);
  status->set_lost_open(all.lost_open);
  status->set_leaked(all.leaked);
  status->set_stalled(all.stalled);
  status->set_reset(all.reset);
  status->set_bytes_to_server(all.bytes_to_server);
  status->set_bytes_to_client(all.bytes_to_client);
  status->set_requests(all.requests);
  status->set_delayed(all.delayed);
  status->set_failed(all.failed);
  status->set_unmatched(all.unmatched);
  status->set_cut(all.cut);
  status->set_waited_to_server(all.waited_to_server);
  status->set_waited_to_client(all.waited_to_client);
}

}  // namespace firedrill::wire
