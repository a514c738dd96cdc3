// Who makes room in a flood: the decision, and what the system tells of a connection.
#include "identity/listening.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <deque>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/unique_fd.h"

namespace firedrill {
namespace {

TEST(Origin, OfIpv6ItIsTheNetworkThatOneMachineHas) {
  EXPECT_EQ(OriginOf("10.0.0.1"), "10.0.0.1");
  EXPECT_EQ(OriginOf("::ffff:10.0.0.1"), "10.0.0.1");
  EXPECT_EQ(OriginOf("2001:db8:1:2:3::4"), "2001:db8:1:2::/64");
  EXPECT_EQ(OriginOf("2001:db8:1:2:ffff::"), OriginOf("2001:db8:1:2::1"));
  EXPECT_NE(OriginOf("2001:db8:1:3::1"), OriginOf("2001:db8:1:2::1"));
  EXPECT_EQ(OriginOf("fe80::1%eth0"), "fe80::/64");
}

// A table of so much room, of which each newcomer that finds it full sends one away.
class Table {
 public:
  explicit Table(size_t room) : room_(room) {}
  // Its name.
  int Comes(std::string origin, Progress progress = Progress::kSilent) {
    if (there_.size() == room_) {
      std::vector<absl::string_view> origins;
      for (const One& each : there_) origins.push_back(each.origin);
      const size_t goes = WhoMakesRoom(origins, [&](size_t i) { return there_[i].progress; });
      there_.erase(there_.begin() + static_cast<std::ptrdiff_t>(goes));
    }
    there_.push_back({++came_, std::move(origin), progress});
    return came_;
  }
  void Gets(int name, Progress progress) {
    for (One& each : there_) {
      if (each.name == name) each.progress = progress;
    }
  }
  bool Has(int name) const {
    for (const One& each : there_) {
      if (each.name == name) return true;
    }
    return false;
  }

 private:
  struct One {
    int name;
    std::string origin;
    Progress progress;
  };
  const size_t room_;
  int came_ = 0;
  std::deque<One> there_;
};

std::string Nth(int i) { return absl::StrCat("127.1.", i / 250, ".", i % 250); }

TEST(Room, WhoSpeaksInTimeOutlastsTheSilentFromAnywhere) {
  for (const bool one_address : {true, false}) {
    Table table(16);
    const auto flood = [&](int count) {
      for (int i = 0; i < count; ++i) table.Comes(one_address ? "127.0.0.2" : Nth(i));
    };
    flood(100);
    const int honest = table.Comes("127.0.0.1");
    flood(7);
    EXPECT_TRUE(table.Has(honest)) << "as long as half the room is younger";
    table.Gets(honest, Progress::kSpoke);
    flood(1000);
    EXPECT_TRUE(table.Has(honest));
    const int never = table.Comes("127.0.0.1");
    flood(1000);
    EXPECT_EQ(table.Has(never), one_address) << "who does not speak is one of them";
  }
}

TEST(Room, WhoIsAnsweredOutlastsThoseWhoOnlyBegin) {
  Table table(16);
  for (int i = 0; i < 100; ++i) table.Comes(Nth(i), Progress::kSpoke);
  const int honest = table.Comes("127.0.0.1");
  for (int i = 0; i < 4; ++i) table.Comes(Nth(i), Progress::kSpoke);
  table.Gets(honest, Progress::kSpoke);
  for (int i = 0; i < 4; ++i) table.Comes(Nth(i), Progress::kSpoke);
  ASSERT_TRUE(table.Has(honest));
  table.Gets(honest, Progress::kAnswered);
  for (int i = 0; i < 1000; ++i) table.Comes(Nth(i), Progress::kSpoke);
  EXPECT_TRUE(table.Has(honest));
  // Nobody stays for ever.
  for (int i = 0; i < 20; ++i) table.Comes(Nth(i), Progress::kAnswered);
  EXPECT_FALSE(table.Has(honest));
}

TEST(Room, WhoCrowdsHasItToThemselves) {
  Table table(16);
  const int elsewhere = table.Comes("10.0.0.9");
  for (int i = 0; i < 100; ++i) table.Comes(i % 2 == 0 ? "10.0.0.1" : "10.0.0.2", Progress::kSpoke);
  EXPECT_TRUE(table.Has(elsewhere)) << "slow, and not one of those who crowd";
  // A whole team behind one address is not sent away for a few of them that reconnect.
  Table wide(64);
  for (int i = 0; i < 60; ++i) wide.Comes(Nth(i));
  std::vector<int> team;
  for (int i = 0; i < 4; ++i) team.push_back(wide.Comes("10.0.0.1"));
  for (int i = 0; i < 25; ++i) wide.Comes(Nth(i));
  for (const int each : team) EXPECT_TRUE(wide.Has(each));
}

TEST(Room, TheSystemTellsHowFarAConnectionHasCome) {
  const UniqueFd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(bind(listener.get(), reinterpret_cast<sockaddr*>(&at), sizeof(at)), 0);
  ASSERT_EQ(listen(listener.get(), 1), 0);
  socklen_t size = sizeof(at);
  getsockname(listener.get(), reinterpret_cast<sockaddr*>(&at), &size);
  const UniqueFd theirs(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(connect(theirs.get(), reinterpret_cast<sockaddr*>(&at), sizeof(at)), 0);
  const UniqueFd ours(accept(listener.get(), nullptr, nullptr));
  EXPECT_EQ(ProgressOf(ours.get()), Progress::kSilent);
  ASSERT_EQ(write(theirs.get(), "x", 1), 1);
  pollfd polled{ours.get(), POLLIN, 0};
  ASSERT_EQ(poll(&polled, 1, 10000), 1);
  EXPECT_EQ(ProgressOf(ours.get()), Progress::kSpoke);
  ASSERT_EQ(write(ours.get(), "y", 1), 1);
  EXPECT_EQ(ProgressOf(ours.get()), Progress::kAnswered);
  EXPECT_EQ(ProgressOf(-1), Progress::kAnswered);
}

}  // namespace
}  // namespace firedrill
