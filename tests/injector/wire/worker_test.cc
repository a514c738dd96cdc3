// The worker process by itself, over its line: what becomes of it, and of the traffic, when the
// injector dies, falls silent, or the worker itself hangs.
#include <arpa/inet.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/clock.h"
#include "base/time_proto.h"
#include "firedrill/v1/wire_control.pb.h"
#include "injector/os/connect_redirect.h"
#include "injector/wire/control.h"
#include "tests/testing/client_sockets.h"

extern char** environ;

namespace firedrill::wire {
namespace {

using ::testing::HasSubstr;

constexpr absl::Duration kLease = absl::Seconds(1);
constexpr absl::Duration kDelay = absl::Milliseconds(100);
const ClientSocket kFour{.to = "127.0.0.1"};

absl::Duration Boot() { return RealClock().Boot(); }

template <typename Condition>
bool Within(absl::Duration limit, Condition done) {
  const absl::Duration end = Boot() + limit;
  while (!done()) {
    if (Boot() > end) return false;
    absl::SleepFor(absl::Milliseconds(2));
  }
  return true;
}

// Gives every byte back.
class Echo {
 public:
  explicit Echo(const std::string& host, uint16_t port = 0)
      : address_(NumericAddress(host, port)), fd_(ListenOn(&address_)) {
    if (!fd_.valid()) return;
    thread_ = std::jthread([this](std::stop_token stop) {
      std::vector<UniqueFd> open;
      while (!stop.stop_requested()) {
        std::vector<pollfd> waits = {{fd_.get(), POLLIN, 0}};
        for (const UniqueFd& one : open) waits.push_back({one.get(), POLLIN, 0});
        if (poll(waits.data(), waits.size(), 20) <= 0) continue;
        for (size_t i = 1; i < waits.size(); ++i) {
          char bytes[256];
          if (waits[i].revents == 0) continue;
          const ssize_t got = read(waits[i].fd, bytes, sizeof(bytes));
          if (got > 0) (void)!write(waits[i].fd, bytes, static_cast<size_t>(got));
          if (got <= 0) open[i - 1].Reset();
        }
        std::erase_if(open, [](const UniqueFd& one) { return !one.valid(); });
        if (waits[0].revents != 0)
          open.emplace_back(accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      }
    });
  }
  bool listens() const { return fd_.valid(); }
  std::string address() const {
    return std::string(reinterpret_cast<const char*>(&address_), LengthOf(address_));
  }
  uint16_t port() const { return ntohs(reinterpret_cast<const sockaddr_in&>(address_).sin_port); }

 private:
  sockaddr_storage address_;
  const UniqueFd fd_;
  std::jthread thread_;
};

// There and back; infinite where it does not come back.
absl::Duration RoundTrip(const UniqueFd& fd) {
  const absl::Duration begin = Boot();
  char byte = 'x';
  if (!fd.valid() || write(fd.get(), &byte, 1) != 1) return absl::InfiniteDuration();
  pollfd wait{fd.get(), POLLIN, 0};
  if (poll(&wait, 1, 5000) <= 0 || read(fd.get(), &byte, 1) != 1) return absl::InfiniteDuration();
  return Boot() - begin;
}

class WorkerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    redirects_ = ConnectRedirect::Check("").ok();
    int ends[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    line_ = UniqueFd(ends[0]);
    const UniqueFd theirs(fcntl(ends[1], F_DUPFD_CLOEXEC, 10));
    close(ends[1]);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, theirs.get(), kControlFd);
    std::string program = FIREDRILL_BINARY_DIR "/firedrill-wire";
    char* const argv[] = {program.data(), nullptr};
    ASSERT_EQ(posix_spawn(&pid_, argv[0], &actions, nullptr, argv, environ), 0);
    posix_spawn_file_actions_destroy(&actions);

    v1::WireRequest request;
    v1::WireSetup& setup = *request.mutable_setup();
    setup.set_protocol(v1::PROTOCOL_TCP);
    setup.add_servers(server_.address());
    if (six_.listens()) setup.add_servers(six_.address());
    setup.set_lease_nanos(absl::ToInt64Nanoseconds(kLease));
    name_ = absl::StrCat("fdw_t", server_.port());
    setup.set_name(name_);
    if (!redirects_) {
      sockaddr_in listen{};
      listen.sin_family = AF_INET;
      listen.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      setup.set_listen(std::string(reinterpret_cast<const char*>(&listen), sizeof(listen)));
    }
    const v1::WireReply reply = Say(request);
    ASSERT_EQ(reply.code(), 0) << reply.message();
    port_ = reply.status().port();
  }
  void TearDown() override {
    line_.Reset();
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
  }
  v1::WireReply Say(const v1::WireRequest& request) {
    v1::WireReply reply;
    EXPECT_EQ(SendMessage(line_.get(), request, absl::Seconds(5)), absl::OkStatus());
    EXPECT_EQ(ReceiveMessage(line_.get(), &reply, absl::Seconds(5)), absl::OkStatus());
    return reply;
  }
  void Disturb() {
    v1::WireRequest request;
    v1::WireWish& wish = *request.mutable_wishes()->add_wishes();
    wish.set_stamp("firedrill:r:it");
    wish.set_ends_at_nanos(absl::ToInt64Nanoseconds(Boot() + absl::Seconds(60)));
    *wish.mutable_delay_to_server()->mutable_delay() = ToProto(kDelay);
    const v1::WireReply reply = Say(request);
    ASSERT_EQ(reply.code(), 0) << reply.message();
    port_ = reply.status().port();
  }
  UniqueFd Client() {
    return kFour.Connect(redirects_ ? server_.port() : static_cast<uint16_t>(port_));
  }
  bool Died(absl::Duration limit) {
    return Within(limit, [this] {
      if (pid_ > 0 && waitpid(pid_, &status_, WNOHANG) == pid_) pid_ = 0;
      return pid_ == 0;
    });
  }
  bool Direct() {
    return CountRedirects(name_).value_or(0) == 0 &&
           (!redirects_ || RoundTrip(kFour.Connect(server_.port())) < kDelay);
  }

  Echo server_{"127.0.0.1"};
  // The same server, where the machine has such an address.
  Echo six_{"::1", server_.port()};
  bool redirects_ = false;
  UniqueFd line_;
  pid_t pid_ = 0;
  int status_ = 0;
  std::string name_;
  uint32_t port_ = 0;
};

TEST_F(WorkerTest, HealsWhenItsInjectorIsGoneAndCarriesOnWhatIsOpen) {
  Disturb();
  const UniqueFd open = Client();
  EXPECT_GE(RoundTrip(open), kDelay);
  line_.Reset();
  EXPECT_TRUE(Within(absl::Seconds(2), [&] { return Direct(); }));
  EXPECT_LT(RoundTrip(open), kDelay) << "it is carried on, and not delayed";
  EXPECT_FALSE(Died(absl::Milliseconds(200))) << "somebody still needs it";
  shutdown(open.get(), SHUT_RDWR);
  EXPECT_TRUE(Died(absl::Seconds(3)));
  EXPECT_TRUE(WIFEXITED(status_) && WEXITSTATUS(status_) == 0) << status_;
}

// A socket that is on IPv6 only, or bound to ::1, reached nothing while a fault was on.
TEST_F(WorkerTest, MeetsSocketsOfEitherFamilyAndLetsThemGo) {
  if (!redirects_) GTEST_SKIP() << "needs root";
  if (!six_.listens()) GTEST_SKIP() << "this machine has no ::1";
  std::vector<ClientSocket> kinds = kSocketsToFour;
  kinds.insert(kinds.end(), kSocketsToSix.begin(), kSocketsToSix.end());
  Disturb();
  std::vector<UniqueFd> open;
  v1::WireRequest beat;
  beat.mutable_beat();
  for (const ClientSocket& one : kinds) {
    open.push_back(one.Connect(server_.port()));
    ASSERT_TRUE(open.back().valid()) << one << ": " << std::strerror(errno);
    EXPECT_GE(RoundTrip(open.back()), kDelay) << one;
    EXPECT_EQ(Say(beat).status().accepted(), open.size()) << one;
  }
  line_.Reset();
  EXPECT_TRUE(Within(absl::Seconds(2), [&] { return Direct(); }));
  const auto is_quick = [](const UniqueFd& fd) {
    return Within(absl::Seconds(5), [&] { return RoundTrip(fd) < kDelay; });
  };
  for (size_t i = 0; i < kinds.size(); ++i) {
    EXPECT_TRUE(is_quick(open[i])) << kinds[i] << " is carried on";
    EXPECT_TRUE(is_quick(kinds[i].Connect(server_.port()))) << kinds[i] << " goes direct";
  }
  open.clear();
  EXPECT_TRUE(Died(absl::Seconds(3)));
}

TEST_F(WorkerTest, IsKilledByTheKernelWhenItHangsWhileItDisturbs) {
  Disturb();
  EXPECT_GE(RoundTrip(Client()), kDelay);
  kill(pid_, SIGSTOP);
  // Nobody but the kernel is left to end it.
  line_.Reset();
  EXPECT_TRUE(Died(kLease + absl::Seconds(2)));
  EXPECT_TRUE(WIFSIGNALED(status_) && WTERMSIG(status_) == SIGKILL) << status_;
  EXPECT_TRUE(Within(absl::Seconds(1), [&] { return Direct(); }));
}

TEST_F(WorkerTest, HealsWhenNothingIsHeardOfItsInjector) {
  Disturb();
  const UniqueFd open = Client();
  EXPECT_GE(RoundTrip(open), kDelay);
  EXPECT_TRUE(Within(kLease * 3, [&] { return RoundTrip(open) < kDelay; }));
  EXPECT_TRUE(Direct());
  v1::WireRequest beat;
  beat.mutable_beat();
  const v1::WireReply reply = Say(beat);
  EXPECT_THAT(reply.status().healed(), HasSubstr("nothing was heard"));
  EXPECT_EQ(reply.status().wishes_size(), 0);
}

TEST_F(WorkerTest, IsNotKilledWhileItDisturbsNothing) {
  Disturb();
  v1::WireRequest nothing;
  nothing.mutable_wishes();
  EXPECT_EQ(Say(nothing).code(), 0);
  EXPECT_TRUE(Direct());
  kill(pid_, SIGSTOP);
  EXPECT_FALSE(Died(kLease * 2));
  kill(pid_, SIGCONT);
  v1::WireRequest beat;
  beat.mutable_beat();
  EXPECT_EQ(Say(beat).code(), 0);
}

}  // namespace
}  // namespace firedrill::wire
