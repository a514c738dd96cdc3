// The two doors to others' connections: new ones are sent elsewhere, established ones are ended.
// Both need root; without it the refusal is what is tested.
#include <arpa/inet.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/clock.h"
#include "injector/os/connect_redirect.h"
#include "injector/os/socket_destroy.h"
#include "tests/testing/client_sockets.h"

namespace firedrill {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

sockaddr_storage Loopback(uint16_t port) { return NumericAddress("127.0.0.1", port); }

// Greets everybody who comes with one letter, from the backlog: no thread is needed.
class Greeter {
 public:
  explicit Greeter(char letter, uint16_t port = 0) : Greeter(letter, Loopback(port)) {}
  Greeter(char letter, sockaddr_storage address) : letter_(letter), fd_(ListenOn(&address)) {
    EXPECT_TRUE(fd_.valid());
    address_ = address;
    thread_ = std::jthread([this](std::stop_token stop) {
      std::vector<UniqueFd> open;
      while (!stop.stop_requested()) {
        pollfd wait{fd_.get(), POLLIN, 0};
        if (poll(&wait, 1, 20) <= 0) continue;
        open.emplace_back(accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC));
        (void)!write(open.back().get(), &letter_, 1);
      }
    });
  }
  const sockaddr_storage& address() const { return address_; }
  uint16_t port() const { return ntohs(reinterpret_cast<const sockaddr_in&>(address_).sin_port); }

 private:
  const char letter_;
  const UniqueFd fd_;
  sockaddr_storage address_ = {};
  std::jthread thread_;
};

char Letter(const UniqueFd& fd) {
  pollfd wait{fd.get(), POLLIN, 0};
  char letter = '?';
  if (poll(&wait, 1, 2000) > 0) (void)!read(fd.get(), &letter, 1);
  return letter;
}

UniqueFd Connect(uint16_t port) {
  UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_storage address = Loopback(port);
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(sockaddr_in)) != 0) {
    return UniqueFd();
  }
  return fd;
}
char WhoAnswers(uint16_t port) {
  const UniqueFd fd = Connect(port);
  return fd.valid() ? Letter(fd) : '!';
}

absl::Duration Boot() { return RealClock().Boot(); }

class RedirectTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const absl::Status may = ConnectRedirect::Check(""); !may.ok()) {
      EXPECT_THAT(std::string(may.message()), HasSubstr("`listen`"));
      EXPECT_TRUE(!absl::IsUnavailable(may)) << may;
      GTEST_SKIP() << may;
    }
  }
  RedirectOptions Options() {
    RedirectOptions options;
    options.destinations.push_back(Loopback(server_.port()));
    options.listeners.push_back(worker_.address());
    options.name = absl::StrCat("fdt_", server_.port());
    return options;
  }
  Greeter server_{'s'};
  Greeter worker_{'w'};
};

TEST_F(RedirectTest, SendsNewConnectionsWhileTheLeaseLasts) {
  auto redirect = ConnectRedirect::Attach(Options());
  ASSERT_TRUE(redirect.ok()) << redirect.status();
  EXPECT_EQ(WhoAnswers(server_.port()), 's') << "it is off until it has a lease";
  const UniqueFd before = Connect(server_.port());
  ASSERT_TRUE((*redirect)->SetUntil(Boot() + absl::Seconds(30)).ok());
  EXPECT_EQ(WhoAnswers(server_.port()), 'w');
  EXPECT_EQ(Letter(before), 's') << "an established connection stays where it is";
  ASSERT_TRUE((*redirect)->SetUntil(absl::ZeroDuration()).ok());
  EXPECT_EQ(WhoAnswers(server_.port()), 's');
  ASSERT_TRUE((*redirect)->SetUntil(Boot() + absl::Milliseconds(100)).ok());
  absl::SleepFor(absl::Milliseconds(150));
  EXPECT_EQ(WhoAnswers(server_.port()), 's') << "nobody had to end it";
}

TEST_F(RedirectTest, IsGoneWhenItIsDetachedAndCanBeSeenByOthers) {
  const std::string name = Options().name;
  EXPECT_EQ(CountRedirects(name).value(), 0);
  auto redirect = ConnectRedirect::Attach(Options());
  ASSERT_TRUE(redirect.ok()) << redirect.status();
  ASSERT_TRUE((*redirect)->SetUntil(Boot() + absl::Seconds(30)).ok());
  EXPECT_EQ(CountRedirects(name).value(), 2) << "one for each family of addresses";
  (*redirect)->Detach();
  (*redirect)->Detach();
  EXPECT_EQ(CountRedirects(name).value(), 0);
  EXPECT_EQ(WhoAnswers(server_.port()), 's');
}

TEST_F(RedirectTest, LetsItsOwnSocketsThrough) {
  auto redirect = ConnectRedirect::Attach(Options());
  ASSERT_TRUE(redirect.ok()) << redirect.status();
  ASSERT_TRUE((*redirect)->SetUntil(Boot() + absl::Seconds(30)).ok());
  const UniqueFd own(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_TRUE((*redirect)->Exempt(own.get()).ok());
  const sockaddr_storage address = Loopback(server_.port());
  ASSERT_EQ(connect(own.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(sockaddr_in)),
            0);
  EXPECT_EQ(Letter(own), 's');
  EXPECT_EQ(WhoAnswers(server_.port()), 'w');
}

TEST_F(RedirectTest, MeansOneUserWhereOneIsNamed) {
  RedirectOptions options = Options();
  options.uid = geteuid() + 1;
  auto others = ConnectRedirect::Attach(options);
  ASSERT_TRUE(others.ok()) << others.status();
  ASSERT_TRUE((*others)->SetUntil(Boot() + absl::Seconds(30)).ok());
  EXPECT_EQ(WhoAnswers(server_.port()), 's');
  options.uid = geteuid();
  auto ours = ConnectRedirect::Attach(options);
  ASSERT_TRUE(ours.ok()) << ours.status();
  ASSERT_TRUE((*ours)->SetUntil(Boot() + absl::Seconds(30)).ok());
  EXPECT_EQ(WhoAnswers(server_.port()), 'w') << "two of them stand beside each other";
}

// Linux 6.1 takes no null check by a register, and a newer one none from who has no CAP_PERFMON.
TEST_F(RedirectTest, TellsByAConstantWhetherThereIsAValue) {
  absl::StatusOr<std::unique_ptr<ConnectRedirect>> redirect = absl::UnknownError("no capset");
  std::thread([&] {
    __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    __user_cap_data_struct sets[2];
    if (syscall(SYS_capget, &header, sets) != 0) return;
    sets[0].effective = 1u << CAP_NET_ADMIN;
    sets[1].effective = 1u << (CAP_BPF - 32);
    if (syscall(SYS_capset, &header, sets) != 0) return;
    redirect = ConnectRedirect::Attach(Options());
  }).join();
  ASSERT_FALSE(absl::IsUnknown(redirect.status()));
  EXPECT_THAT(std::string(redirect.status().message()), Not(HasSubstr("pointer comparison")));
}

// What a Java program does.
TEST_F(RedirectTest, FindsIpv6SocketsThatConnectToAnIpv4Address) {
  if (!UniqueFd(socket(AF_INET6, SOCK_STREAM, 0)).valid()) GTEST_SKIP() << "no IPv6 here";
  auto redirect = ConnectRedirect::Attach(Options());
  ASSERT_TRUE(redirect.ok()) << redirect.status();
  ASSERT_TRUE((*redirect)->SetUntil(Boot() + absl::Seconds(30)).ok());
  for (const ClientSocket& one : kSocketsToFour) {
    const UniqueFd fd = one.Connect(server_.port());
    EXPECT_EQ(fd.valid() ? Letter(fd) : '!', 'w') << one;
  }
}

TEST_F(RedirectTest, LeadsEachSocketToTheLoopbackThatItReaches) {
  if (!HasLoopback6()) GTEST_SKIP() << "this machine has no ::1";
  const Greeter six('6', NumericAddress("::1", 0));
  const auto expect = [&](const RedirectOptions& options, char to_four, char to_six, int links) {
    auto redirect = ConnectRedirect::Attach(options);
    ASSERT_TRUE(redirect.ok()) << redirect.status();
    ASSERT_TRUE((*redirect)->SetUntil(Boot() + absl::Seconds(60)).ok());
    for (const bool of_six : {false, true}) {
      for (const ClientSocket& one : of_six ? kSocketsToSix : kSocketsToFour) {
        const UniqueFd fd = one.Connect(server_.port());
        const int error = errno;
        EXPECT_EQ(fd.valid() ? Letter(fd) : '!', of_six ? to_six : to_four)
            << one << ": " << std::strerror(error);
      }
    }
    EXPECT_EQ(CountRedirects(options.name).value(), links);
  };
  RedirectOptions options = Options();
  options.listeners.push_back(six.address());
  expect(options, 'w', '!', 2);
  options.destinations.push_back(NumericAddress("::1", server_.port()));
  expect(options, 'w', '6', 2);
  options.listeners.pop_back();
  expect(options, 'w', '!', 2);
  options.listeners = {six.address()};
  expect(options, 's', '6', 2);
  options.destinations.erase(options.destinations.begin());
  expect(options, 's', '6', 1);
}

TEST_F(RedirectTest, LeavesOtherNetworkNamespacesAlone) {
  auto redirect = ConnectRedirect::Attach(Options());
  ASSERT_TRUE(redirect.ok()) << redirect.status();
  ASSERT_TRUE((*redirect)->SetUntil(Boot() + absl::Seconds(30)).ok());
  char answer = '-';
  std::thread([&] {
    if (unshare(CLONE_NEWNET) != 0) return;
    const UniqueFd control(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ifreq up{};
    std::strcpy(up.ifr_name, "lo");
    up.ifr_flags = IFF_UP | IFF_RUNNING;
    if (ioctl(control.get(), SIOCSIFFLAGS, &up) != 0) return;
    const Greeter theirs('t', server_.port());
    answer = WhoAnswers(server_.port());
  }).join();
  if (answer == '-') GTEST_SKIP() << "no network namespace can be made here";
  EXPECT_EQ(answer, 't');
}

TEST_F(RedirectTest, DiesWithItsProcess) {
  const RedirectOptions options = Options();
  int ready[2];
  ASSERT_EQ(pipe2(ready, O_CLOEXEC), 0);
  const UniqueFd in(ready[0]), out(ready[1]);
  const pid_t child = fork();
  if (child == 0) {
    auto redirect = ConnectRedirect::Attach(options);
    const bool good = redirect.ok() && (*redirect)->SetUntil(Boot() + absl::Seconds(30)).ok();
    (void)!write(out.get(), good ? "+" : "-", 1);
    pause();
    _exit(0);
  }
  EXPECT_EQ(Letter(in), '+');
  EXPECT_EQ(WhoAnswers(server_.port()), 'w');
  // A stopped one is no different.
  kill(child, SIGSTOP);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  const absl::Duration end = Boot() + absl::Seconds(2);
  while (CountRedirects(options.name).value_or(1) != 0 && Boot() < end) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  EXPECT_EQ(CountRedirects(options.name).value(), 0);
  EXPECT_EQ(WhoAnswers(server_.port()), 's');
}

TEST(ConnectRedirect, NamesACgroupThatIsNotThere) {
  const absl::Status status = ConnectRedirect::Check("/nonexistent/cgroup");
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), HasSubstr("/nonexistent/cgroup"));
}

bool IsBroken(const UniqueFd& fd) {
  char byte;
  const ssize_t got = recv(fd.get(), &byte, 1, MSG_DONTWAIT);
  return got < 0 && errno != EAGAIN;
}

TEST(SocketDestroy, EndsOnlyWhatIsMeant) {
  Greeter server{'s'}, other{'o'};
  const UniqueFd one = Connect(server.port()), two = Connect(server.port());
  const UniqueFd elsewhere = Connect(other.port());
  for (const UniqueFd* fd : {&one, &two, &elsewhere}) ASSERT_NE(Letter(*fd), '?');
  SocketSelection selection;
  selection.destinations.push_back(Loopback(server.port()));
  EXPECT_EQ(CountSockets(selection).value(), 2);

  selection.spared = OwnSockets();
  EXPECT_EQ(CountSockets(selection).value(), 0) << "these are our own";
  selection.spared.clear();
  selection.uid = geteuid() + 1;
  EXPECT_EQ(CountSockets(selection).value(), 0);
  selection.uid = geteuid();

  const auto done = DestroySockets(selection);
  if (geteuid() != 0) {
    EXPECT_TRUE(absl::IsPermissionDenied(done.status())) << done.status();
    return;
  }
  ASSERT_TRUE(done.ok()) << done.status();
  EXPECT_EQ(done->matched, 2);
  EXPECT_EQ(done->destroyed, 2);
  EXPECT_TRUE(IsBroken(one));
  EXPECT_TRUE(IsBroken(two));
  EXPECT_FALSE(IsBroken(elsewhere));
}

TEST(SocketDestroy, ChecksByAConnectionOfItsOwn) {
  Greeter server{'s'};
  const UniqueFd client = Connect(server.port());
  ASSERT_EQ(Letter(client), 's');
  const absl::Status status = CheckDestroySockets();
  EXPECT_EQ(status.code(),
            geteuid() == 0 ? absl::StatusCode::kOk : absl::StatusCode::kPermissionDenied)
      << status;
  EXPECT_FALSE(IsBroken(client));
}

// Told by the order of their addresses and ports, since who connects gets another port each time.
// The addresses are many: by them the kernel's own order differs from server to server.
std::string WhoIsEnded(uint64_t seed) {
  Greeter server{'s'};
  std::map<std::pair<uint32_t, uint16_t>, UniqueFd> clients;
  for (int i = 0; i < 60; ++i) {
    UniqueFd client(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_storage its = Loopback(0);
    auto& four = reinterpret_cast<sockaddr_in&>(its);
    four.sin_addr.s_addr = htonl(INADDR_LOOPBACK + static_cast<uint32_t>(i % 20));
    EXPECT_EQ(bind(client.get(), reinterpret_cast<sockaddr*>(&its), sizeof(four)), 0);
    const sockaddr_storage to = Loopback(server.port());
    EXPECT_EQ(connect(client.get(), reinterpret_cast<const sockaddr*>(&to), sizeof(four)), 0);
    EXPECT_EQ(Letter(client), 's');
    socklen_t length = sizeof(its);
    getsockname(client.get(), reinterpret_cast<sockaddr*>(&its), &length);
    clients[{ntohl(four.sin_addr.s_addr), ntohs(four.sin_port)}] = std::move(client);
  }
  SocketSelection selection;
  selection.destinations.push_back(Loopback(server.port()));
  selection.share = 0.5;
  selection.seed = seed;
  const auto done = DestroySockets(selection);
  EXPECT_TRUE(done.ok()) << done.status();
  std::string ended;
  for (const auto& [from, client] : clients) ended += IsBroken(client) ? 'x' : '.';
  EXPECT_EQ(std::count(ended.begin(), ended.end(), 'x'), done->destroyed);
  return ended;
}

TEST(SocketDestroy, TheShareIsPickedBySeed) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  const std::string first = WhoIsEnded(7);
  const auto count = std::count(first.begin(), first.end(), 'x');
  EXPECT_GT(count, 10);
  EXPECT_LT(count, 50);
  EXPECT_EQ(first, WhoIsEnded(7));
  EXPECT_NE(first, WhoIsEnded(8));
}

}  // namespace
}  // namespace firedrill
