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

namespace firedrill {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

sockaddr_storage Loopback(uint16_t port) {
  sockaddr_storage storage{};
  auto& address = reinterpret_cast<sockaddr_in&>(storage);
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return storage;
}

sockaddr_storage Loopback6(uint16_t port) {
  sockaddr_storage storage{};
  auto& address = reinterpret_cast<sockaddr_in6&>(storage);
  address.sin6_family = AF_INET6;
  address.sin6_port = htons(port);
  address.sin6_addr = in6addr_loopback;
  return storage;
}

sockaddr_in6 Mapped(uint16_t port) {
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_port = htons(port);
  inet_pton(AF_INET6, "::ffff:127.0.0.1", &address.sin6_addr);
  return address;
}

// Greets everybody who comes with one letter, from the backlog: no thread is needed.
class Greeter {
 public:
  explicit Greeter(char letter, uint16_t port = 0) : letter_(letter) {
    fd_ = UniqueFd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int one = 1;
    setsockopt(fd_.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    sockaddr_storage address = Loopback(port);
    EXPECT_EQ(bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(sockaddr_in)), 0);
    EXPECT_EQ(listen(fd_.get(), 64), 0);
    socklen_t length = sizeof(address);
    getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&address), &length);
    port_ = ntohs(reinterpret_cast<sockaddr_in&>(address).sin_port);
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
  uint16_t port() const { return port_; }

 private:
  const char letter_;
  UniqueFd fd_;
  uint16_t port_ = 0;
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
    options.listener = reinterpret_cast<const sockaddr_in&>(listener_);
    options.name = absl::StrCat("fdt_", server_.port());
    return options;
  }
  Greeter server_{'s'};
  Greeter worker_{'w'};
  const sockaddr_storage listener_ = Loopback(worker_.port());
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
  auto redirect = ConnectRedirect::Attach(Options());
  ASSERT_TRUE(redirect.ok()) << redirect.status();
  ASSERT_TRUE((*redirect)->SetUntil(Boot() + absl::Seconds(30)).ok());
  const UniqueFd fd(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) GTEST_SKIP() << "no IPv6 here";
  const sockaddr_in6 address = Mapped(server_.port());
  ASSERT_EQ(connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  EXPECT_EQ(Letter(fd), 'w');
}

TEST_F(RedirectTest, BringsIpv6DestinationsToAnIpv4Listener) {
  const sockaddr_storage six = Loopback6(server_.port());
  RedirectOptions beside = Options();
  beside.destinations.push_back(six);
  RedirectOptions alone = Options();
  alone.destinations = {six};
  for (const RedirectOptions& options : {beside, alone}) {
    const bool is_alone = options.destinations.size() == 1;
    auto redirect = ConnectRedirect::Attach(options);
    ASSERT_TRUE(redirect.ok()) << is_alone << redirect.status();
    ASSERT_TRUE((*redirect)->SetUntil(Boot() + absl::Seconds(30)).ok());
    const UniqueFd fd(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!fd.valid()) GTEST_SKIP() << "no IPv6 here";
    ASSERT_EQ(connect(fd.get(), reinterpret_cast<const sockaddr*>(&six), sizeof(sockaddr_in6)), 0);
    EXPECT_EQ(Letter(fd), 'w');
    EXPECT_EQ(WhoAnswers(server_.port()), is_alone ? 's' : 'w') << "this is the IPv4 address";
    EXPECT_EQ(CountRedirects(options.name).value(), is_alone ? 1 : 2);
  }
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
