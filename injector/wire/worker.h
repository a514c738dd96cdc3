// The process that carries intercepted traffic for one injector: it parses foreign bytes, so that
// nothing but connections is lost when it dies. It obeys its line, heals when nobody speaks on it
// any more, and is killed by the kernel when it hangs while it disturbs.
#pragma once

#include <signal.h>
#include <time.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/unique_fd.h"
#include "firedrill/v1/wire_control.pb.h"
#include "injector/os/connect_redirect.h"
#include "injector/wire/cancels.h"
#include "injector/wire/proxy.h"
#include "injector/wire/wishes.h"

namespace firedrill::wire {

// How a worker makes its proxies; Proxy::Start() but in tests.
using ProxyMaker = std::function<absl::StatusOr<std::unique_ptr<Proxy>>(ProxyOptions)>;

// A timer of the kernel that kills this process, also where it is stopped.
class KillTimer {
 public:
  KillTimer();
  ~KillTimer();
  KillTimer(const KillTimer&) = delete;
  absl::Status made() const { return made_; }
  // Boot time.
  void Arm(absl::Duration at);
  void Disarm();

 private:
  absl::Status made_;
  timer_t timer_ = {};
};

class Worker {
 public:
  // `line` is the socket to the injector.
  Worker(UniqueFd line, ProxyMaker make);
  ~Worker();

  // Until the injector is gone and everything that was open has closed. The process's exit code.
  int Run();

 private:
  void HandleLine();
  absl::Status Obey(const v1::WireRequest& request, v1::WireReply* reply);
  absl::Status SetUp(const v1::WireSetup& setup);
  absl::Status SetWishes(const v1::WireWishes& wishes);
  absl::Status Apply();
  // Takes connections in, at `listen` or for a redirect.
  absl::Status Open();
  // Redirect off, nothing disturbed, the listener closed once nobody waits at it.
  void Heal(const std::string& why);
  void CloseListener();
  void ForgetDrained();
  void DropEnded(absl::Duration now);
  void Renew(absl::Duration now);
  void LookAfterServer();
  bool ServerAnswers(const sockaddr_storage& server) const;
  absl::Duration NextDue(absl::Duration now) const;
  void Report(v1::WireStatus* status) const;

  UniqueFd line_;
  UniqueFd woken_;
  const ProxyMaker make_;
  KillTimer kill_;

  v1::WireSetup setup_;
  std::vector<sockaddr_storage> servers_;
  sockaddr_storage server_ = {};
  absl::Duration lease_ = absl::Seconds(3);
  absl::Duration heard_;

  std::shared_ptr<ConnectRedirect> redirect_;
  bool redirecting_ = false;
  std::atomic<bool> refused_{false};
  bool server_refuses_ = false;
  absl::Duration server_asked_;

  // Whoever cancels may come to another proxy than the one that holds.
  const std::shared_ptr<Cancels> cancels_ = std::make_shared<Cancels>();
  // The one that takes connections in is the last; those before it only carry on.
  std::vector<std::unique_ptr<Proxy>> proxies_;
  bool accepting_ = false;
  std::vector<UniqueFd> listeners_;
  uint16_t port_ = 0;
  // What proxies that are gone have counted.
  ProxyCounters past_;

  Wishes wishes_;
  std::string healed_;
};

}  // namespace firedrill::wire
