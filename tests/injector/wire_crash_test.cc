// Faults on live traffic, and an injector, or the worker that carries the traffic, that dies at
// every step of applying and reverting them: connections go direct again, and nobody is hampered.
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include <cstdlib>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "injector/faults/wire/interception.h"
#include "injector/os/connect_redirect.h"
#include "tests/injector/doomed_injector.h"
#include "tests/testing/child.h"
#include "tests/testing/redis_server.h"

namespace firedrill {
namespace {

// An answer takes longer than this while a fault holds it.
constexpr absl::Duration kHeld = absl::Milliseconds(60);
constexpr size_t kAnswer = 1000;

struct Kind {
  const char* name;
  const char* fault;
};
constexpr Kind kKinds[] = {
    {"delayQueries", "delay_queries { profile: 'cache' delay { nanos: 80000000 } }"},
    {"failQueries", "fail_queries { profile: 'cache' error: 'LOADING' }"},
    {"leakConnections", "leak_connections { profile: 'cache' }"},
    {"stallConnections", "stall_connections { profile: 'cache' }"},
    {"resetConnections", "reset_connections { profile: 'cache' }"},
    {"throttleBytes", "throttle_bytes { profile: 'cache' rate: 4000 }"},
    {"delayBytes", "delay_bytes { profile: 'cache' delay { nanos: 80000000 } }"}};

// A client of Redis that asks for one and the same value.
class Asker {
 public:
  explicit Asker(int port) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<uint16_t>(port));
    broken_ = connect(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0;
  }
  bool broken() const { return broken_; }
  // Whether the right answer came within this time.
  bool Ask(absl::Duration patience) {
    const std::string words = "GET answer\r\n";
    broken_ = broken_ || send(fd_.get(), words.data(), words.size(), MSG_NOSIGNAL) <= 0;
    ++owed_;
    const absl::Duration end = RealClock().Boot() + patience;
    // One that comes while a busy machine is late to wake us is late, too.
    return Settle(patience) && good_ && RealClock().Boot() <= end;
  }
  // Waits for the answers to all that was asked; false where one is missing.
  bool Settle(absl::Duration patience) {
    const absl::Duration end = RealClock().Boot() + patience;
    while (!broken_ && owed_ > 0) {
      if (TakeAnswer()) continue;
      pollfd wait{fd_.get(), POLLIN, 0};
      const absl::Duration left = end - RealClock().Boot();
      if (left <= absl::ZeroDuration()) return false;
      if (poll(&wait, 1, static_cast<int>(absl::ToInt64Milliseconds(left)) + 1) <= 0) continue;
      char bytes[4096];
      const ssize_t got = recv(fd_.get(), bytes, sizeof(bytes), 0);
      broken_ = got <= 0;
      if (got > 0) heard_.append(bytes, static_cast<size_t>(got));
    }
    return !broken_;
  }

 private:
  bool TakeAnswer() {
    static const std::string good =
        absl::StrCat("$", kAnswer, "\r\n", std::string(kAnswer, 'x'), "\r\n");
    size_t whole = heard_.size() >= good.size() ? good.size() : 0;
    if (absl::StartsWith(heard_, "-")) {
      const size_t line = heard_.find("\r\n");
      whole = line == std::string::npos ? 0 : line + 2;
    }
    if (whole == 0) return false;
    good_ = heard_.substr(0, whole) == good;
    heard_.erase(0, whole);
    --owed_;
    return true;
  }

  const UniqueFd fd_;
  bool broken_ = false, good_ = false;
  int owed_ = 0;
  std::string heard_;
};

class WireCrashTest : public ::testing::TestWithParam<Kind> {
 protected:
  static void SetUpTestSuite() {
    server_ = RedisServer::Start().release();
    ASSERT_NE(server_, nullptr);
    server_->Run({"SET", "answer", std::string(kAnswer, 'x')});
  }
  static void TearDownTestSuite() {
    delete server_;
    server_ = nullptr;
  }
  void SetUp() override {
    ASSERT_NE(server_, nullptr);
    if (const absl::Status may = ConnectRedirect::Check(""); !may.ok()) GTEST_SKIP() << may;
    // Orphaned reapers and workers come to us, so that their end can be seen.
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    StageNode node;
    Furnish(node);
    Interception interception;
    interception.profile = "cache";
    const auto way = FindWay(StageContext("it"), node, interception);
    ASSERT_TRUE(way.ok()) << way.status();
    redirect_ = way->setup.name();
    text_ =
        absl::StrCat("name: 'it' ending: ", once() ? "ENDING_ONE_SHOT" : "ENDING_DIES_WITH_PROCESS",
                     " fault { ", GetParam().fault, " }");
  }
  void TearDown() override { prctl(PR_SET_CHILD_SUBREAPER, 0); }

  static void Furnish(StageNode& node) {
    node.mutable_spec.set_name(DoomedInjector::kName);
    v1::Profile& profile = *node.mutable_spec.add_profiles();
    profile.set_name("cache");
    profile.mutable_redis()->set_host("127.0.0.1");
    profile.mutable_redis()->set_port(server_->port());
    WireWorker::SetProgram(FIREDRILL_BINARY_DIR "/firedrill-wire");
  }
  bool is(absl::string_view name) const { return GetParam().name == name; }
  bool once() const { return is("resetConnections"); }

  // A fresh injector; the traffic is as nobody disturbs it.
  void Begin() {
    came_.reset();
    if (pooled_ == nullptr || pooled_->broken()) pooled_ = std::make_unique<Asker>(server_->port());
    ASSERT_TRUE(pooled_->Ask(absl::Seconds(5)));
    // `pooled_`, and who looks.
    ASSERT_TRUE(Within(absl::Seconds(3), [] { return Connections() == 2; })) << Connections();
    injector_ = std::make_unique<DoomedInjector>(dir_, DoomedInjector::Then::kRevert, text_.c_str(),
                                                 Furnish);
  }
  static int Connections() {
    const std::string said = server_->Run({"INFO", "clients"});
    const size_t at = said.find("connected_clients:");
    return at == std::string::npos ? -1 : std::atoi(said.c_str() + at + 18);
  }
  // Whether the fault is on now, as the traffic sees it. Leaves a client that came meanwhile.
  bool Bites() {
    if (once()) return !pooled_->Ask(absl::Seconds(5));
    came_ = std::make_unique<Asker>(server_->port());
    const bool good = came_->Ask(kHeld);
    if (!is("leakConnections")) return !good;
    came_.reset();
    return !Within(absl::Milliseconds(20), [] { return Connections() == 2; });
  }
  // Nothing is on any more. Who came while it was is carried on, unless its carrier has died.
  void ExpectHealed(const std::string& when, bool carrier_died) {
    EXPECT_TRUE(Within(absl::Seconds(2), [this] {
      return CountRedirects(redirect_).value_or(-1) == 0;
    })) << when;
    const auto free = [](Asker& asker) {
      return Within(absl::Seconds(3), [&asker] {
        const absl::Duration begin = RealClock().Boot();
        return asker.broken() ||
               (asker.Ask(absl::Seconds(5)) && RealClock().Boot() - begin < kHeld);
      });
    };
    Asker fresh(server_->port());
    EXPECT_TRUE(free(fresh) && !fresh.broken()) << when;
    if (!once()) {
      EXPECT_TRUE(free(*pooled_) && !pooled_->broken()) << when;
    }
    if (came_ == nullptr) return;
    EXPECT_TRUE(free(*came_)) << when;
    if (!carrier_died) {
      EXPECT_FALSE(came_->broken()) << when;
    }
  }
  // When all connections are closed there is no worker any more, and nothing is written down.
  void ExpectNothingLeft(const std::string& when) {
    came_.reset();
    EXPECT_EQ(CodeOfReaper(injector_->reaper()), 0) << when;
    EXPECT_TRUE(Within(absl::Seconds(3), [] { return OrphanedWorkers() == 0; })) << when;
    if (!once()) {
      EXPECT_TRUE(Within(absl::Seconds(3), [] { return Connections() == 2; })) << when;
    }
    EXPECT_EQ(LastingLeftovers(dir_), 0) << when;
  }
  // Of those that have come to us; the ended ones are waited for.
  static int OrphanedWorkers() {
    int lives = 0;
    for (const pid_t child : ChildrenOfUs()) {
      if (ReadFile(absl::StrCat("/proc/", child, "/comm")) != "firedrill-wire\n") continue;
      if (waitpid(child, nullptr, WNOHANG) == 0) ++lives;
    }
    return lives;
  }
  static std::vector<pid_t> ChildrenOfUs() {
    std::vector<pid_t> children;
    for (absl::string_view word :
         absl::StrSplit(ReadFile(absl::StrCat("/proc/self/task/", getpid(), "/children")), ' ')) {
      int pid = 0;
      if (absl::SimpleAtoi(word, &pid)) children.push_back(pid);
    }
    return children;
  }
  void ExpectSteps(int steps, int met) {
    RecordProperty("steps", steps);
    RecordProperty("met", met);
    EXPECT_GT(steps, 20);
    // Else no death was in the middle of anything.
    EXPECT_GT(met, once() ? 0 : 2);
    EXPECT_LT(met, steps);
  }

  static inline RedisServer* server_ = nullptr;
  TempDir folder_{"firedrill-wire-crash"};
  const std::string dir_ = folder_.path() + "/state";
  std::string text_, redirect_;
  std::unique_ptr<DoomedInjector> injector_;
  std::unique_ptr<Asker> pooled_, came_;
};

TEST_P(WireCrashTest, AnInjectorThatDiesAtAnyStep) {
  int steps = 0, met = 0;
  for (int step = 1;; ++step) {
    Begin();
    if (HasFailure()) break;
    const std::string when = absl::StrCat("injector killed at step ", step);
    const bool stopped = RunUntilStep(*injector_, step);
    if (stopped && Bites()) ++met;
    injector_->Kill();
    ExpectHealed(when, /*carrier_died=*/false);
    ExpectNothingLeft(when);
    if (!stopped || HasFailure()) break;
    steps = step;
  }
  ExpectSteps(steps, met);
}

TEST_P(WireCrashTest, AWorkerThatDiesAtAnyStep) {
  int steps = 0, met = 0;
  for (int step = 1;; ++step) {
    Begin();
    if (HasFailure()) break;
    const std::string when = absl::StrCat("worker killed at step ", step);
    const pid_t worker = RunChildUntilStep(*injector_, step);
    if (worker > 0) {
      if (Bites()) ++met;
      kill(worker, SIGKILL);
      waitpid(worker, nullptr, __WALL);
    }
    ExpectHealed(when, /*carrier_died=*/true);
    EXPECT_TRUE(injector_->EndsInGoodOrder(absl::Seconds(20))) << when;
    ExpectNothingLeft(when);
    if (worker <= 0 || HasFailure()) break;
    steps = step;
  }
  ExpectSteps(steps, met);
}

// A new kind has to come here, too.
TEST(WireCrash, KnowsEveryKindOnLiveTraffic) {
  std::set<std::string> known, registered;
  for (const Kind& kind : kKinds) known.insert(kind.name);
  for (const RegisteredFault& fault : RegisteredFaults()) {
    const auto* field = v1::Fault::descriptor()->FindFieldByNumber(fault.kind);
    if (field->message_type()->FindFieldByName("client_user") == nullptr) continue;
    registered.insert(std::string(field->json_name()));
  }
  EXPECT_EQ(known, registered);
}

INSTANTIATE_TEST_SUITE_P(Every, WireCrashTest, ::testing::ValuesIn(kKinds),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace firedrill
