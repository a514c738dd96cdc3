// What a proxy promises while nothing is done to it, and how connections end.
#include "injector/wire/proxy.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <limits>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "tests/injector/wire/proxy_stage.h"
#include "tests/testing/sanitized.h"

namespace firedrill::wire {
namespace {

using ::testing::HasSubstr;

// Bytes that show where one is missing or doubled.
std::string Pattern(size_t count) {
  std::string bytes(count, '\0');
  uint32_t state = 1;
  for (char& byte : bytes) {
    state = state * 1664525 + 1013904223;
    byte = static_cast<char>(state >> 24);
  }
  return bytes;
}

TEST(Proxy, CarriesBytesBothWays) {
  Stage stage;
  const auto pair = stage.Pair();
  EXPECT_TRUE(Stage::Alive(pair));
  // Bytes are counted just after they have gone.
  EXPECT_TRUE(Eventually([&] { return stage.proxy->Read().bytes_to_server == 1; }));
  EXPECT_TRUE(Eventually([&] { return stage.proxy->Read().bytes_to_client == 1; }));
  EXPECT_EQ(stage.proxy->Read().accepted, 1u);
  EXPECT_EQ(stage.proxy->Read().open, 1u);
}

TEST(Proxy, CarriesMuchBothWaysAtOnceUnchanged) {
  for (const int threads : {1, 3}) {
    Stage stage([&](ProxyOptions& options) { options.threads = threads; });
    const auto pair = stage.Pair();
    const std::string up = Pattern(20 << 20);
    const std::string down(up.rbegin(), up.rend());
    std::thread client([&] { Send(pair.first.get(), up); });
    std::thread server([&] { Send(pair.second.get(), down); });
    std::string received_up;
    std::thread reader([&] { received_up = Receive(pair.second.get(), up.size()); });
    const std::string received_down = Receive(pair.first.get(), down.size());
    client.join();
    server.join();
    reader.join();
    EXPECT_TRUE(received_up == up);
    EXPECT_TRUE(received_down == down);
  }
}

TEST(Proxy, HoldsNoMoreThanItMayForASlowReader) {
  Stage stage;
  const auto pair = stage.Pair();
  fcntl(pair.second.get(), F_SETFL, O_NONBLOCK);
  const std::string chunk = Pattern(1 << 20);
  size_t sent = 0;
  // Until nothing is taken any more for a while: sockets' buffers are full, and the proxy's.
  for (int idle = 0; idle < 20 && sent < (256u << 20);) {
    const ssize_t count = write(pair.second.get(), chunk.data(), chunk.size());
    if (count > 0) sent += static_cast<size_t>(count);
    idle = count > 0 ? 0 : idle + 1;
    if (count <= 0) absl::SleepFor(absl::Milliseconds(10));
  }
  EXPECT_LT(sent, 64u << 20);
  // Nothing of it is lost once the reader goes on.
  EXPECT_EQ(Receive(pair.first.get(), sent).size(), sent);
}

TEST(Proxy, HalfCloseKeepsTheReply) {
  Stage stage;
  const auto pair = stage.Pair();
  Send(pair.first.get(), "question");
  shutdown(pair.first.get(), SHUT_WR);
  EXPECT_EQ(Receive(pair.second.get(), 8), "question");
  EXPECT_EQ(Listen(pair.second.get()), Heard::kFin);
  Send(pair.second.get(), std::string(1000, 'r'));
  EXPECT_EQ(Receive(pair.first.get(), 1000).size(), 1000u);
  EXPECT_EQ(stage.proxy->Read().open, 1u);
  shutdown(pair.second.get(), SHUT_WR);
  EXPECT_EQ(Listen(pair.first.get()), Heard::kFin);
  EXPECT_TRUE(Eventually([&] { return stage.proxy->Read().open == 0; }));
}

TEST(Proxy, HalfCloseOfTheServerKeepsTheClientTalking) {
  Stage stage;
  const auto pair = stage.Pair();
  shutdown(pair.second.get(), SHUT_WR);
  EXPECT_EQ(Listen(pair.first.get()), Heard::kFin);
  Send(pair.first.get(), "still here");
  EXPECT_EQ(Receive(pair.second.get(), 10), "still here");
}

TEST(Proxy, HalfCloseComesAfterDelayedBytes) {
  Stage stage;
  ASSERT_TRUE(stage.proxy->Set(DelayToServer(absl::Milliseconds(50))).ok());
  const auto pair = stage.Pair();
  Send(pair.first.get(), "late");
  shutdown(pair.first.get(), SHUT_WR);
  EXPECT_EQ(Listen(pair.second.get(), absl::Milliseconds(20)), Heard::kSilence);
  EXPECT_EQ(Receive(pair.second.get(), 4), "late");
  EXPECT_EQ(Listen(pair.second.get()), Heard::kFin);
}

TEST(Proxy, PassesResetsOn) {
  Stage stage;
  auto pair = stage.Pair();
  ResetAndClose(std::move(pair.first));
  EXPECT_EQ(Listen(pair.second.get()), Heard::kReset);
  pair = stage.Pair();
  ResetAndClose(std::move(pair.second));
  EXPECT_EQ(Listen(pair.first.get()), Heard::kReset);
  // A plain close is none.
  pair = stage.Pair();
  pair.second.Reset();
  EXPECT_EQ(Listen(pair.first.get()), Heard::kFin);
  pair.first.Reset();
  EXPECT_TRUE(Eventually([&] { return stage.proxy->Read().open == 0; }));
}

TEST(Proxy, WhatTheServerSaidBeforeItsResetIsHeard) {
  Stage stage;
  auto pair = stage.Pair();
  Send(pair.first.get(), "unread");
  Send(pair.second.get(), "too many clients");
  ASSERT_TRUE(Eventually([&] { return stage.proxy->Read().bytes_to_server == 6; }));
  pair.second.Reset();  // With unread bytes this is a reset.
  EXPECT_EQ(Receive(pair.first.get(), 16), "too many clients");
  EXPECT_EQ(Listen(pair.first.get()), Heard::kReset);
}

TEST(Proxy, AResetComesAfterDelayedBytes) {
  Stage stage;
  ASSERT_TRUE(stage.proxy->Set(DelayToClient(absl::Milliseconds(50))).ok());
  auto pair = stage.Pair();
  Send(pair.second.get(), "last words");
  absl::SleepFor(absl::Milliseconds(10));
  ResetAndClose(std::move(pair.second));
  EXPECT_EQ(Receive(pair.first.get(), 10), "last words");
  EXPECT_EQ(Listen(pair.first.get()), Heard::kReset);
}

TEST(Proxy, ARefusedServerResetsTheClient) {
  std::atomic<int> told = 0;
  sockaddr_storage nobody;
  {
    Listener gone;
    nobody = gone.address();
  }
  Stage stage([&](ProxyOptions& options) {
    options.server = nobody;
    options.on_refused = [&] { ++told; };
  });
  for (int i = 1; i <= 3; ++i) {
    const UniqueFd client = stage.Connect();
    EXPECT_EQ(Listen(client.get()), Heard::kReset);
    EXPECT_TRUE(Eventually([&] { return told == i; }));
  }
  EXPECT_EQ(stage.proxy->Read().refused, 3u);
  EXPECT_EQ(stage.proxy->Read().open, 0u);
}

TEST(Proxy, AServerThatAnswersNoConnectHoldsUpNobody) {
  Listener full(0);
  std::vector<UniqueFd> fillers;
  for (int i = 0; i < 4; ++i) {
    fillers.emplace_back(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    (void)!connect(fillers.back().get(), reinterpret_cast<const sockaddr*>(&full.address()), 16);
  }
  Stage stage([&](ProxyOptions& options) { options.server = full.address(); });
  std::vector<UniqueFd> clients;
  for (int i = 0; i < 10; ++i) clients.push_back(stage.Connect());
  ASSERT_TRUE(Eventually([&] { return stage.proxy->Read().accepted == 10; }));
  const absl::Time begin = absl::Now();
  ASSERT_TRUE(stage.proxy->Set(DelayToClient(absl::Milliseconds(5))).ok());
  ASSERT_TRUE(stage.proxy->Set({}).ok());
  EXPECT_EQ(stage.proxy->Reset(1, 1), 10u);
  EXPECT_LT(absl::Now() - begin, absl::Seconds(1));
  for (const UniqueFd& client : clients) EXPECT_EQ(Listen(client.get()), Heard::kReset);
}

TEST(Proxy, PreparesEachSocketToTheServer) {
  std::atomic<int> prepared = 0;
  std::atomic<bool> fail = false;
  Stage stage([&](ProxyOptions& options) {
    options.prepare_socket = [&](int fd) {
      ++prepared;
      return fail ? absl::PermissionDeniedError("no mark") : absl::OkStatus();
    };
  });
  EXPECT_TRUE(Stage::Alive(stage.Pair()));
  EXPECT_EQ(prepared, 1);
  fail = true;
  const UniqueFd client = stage.Connect();
  EXPECT_EQ(Listen(client.get()), Heard::kReset);
  EXPECT_EQ(stage.proxy->Read().refused, 1u);
}

TEST(Proxy, StopAcceptingLeavesOpenConnectionsAlone) {
  Stage stage([](ProxyOptions& options) { options.threads = 2; });
  const auto pair = stage.Pair();
  stage.proxy->StopAccepting();
  stage.proxy->StopAccepting();
  EXPECT_THROW(stage.Connect(), std::runtime_error);
  EXPECT_TRUE(Stage::Alive(pair));
}

TEST(Proxy, EndsWithResets) {
  Stage stage([](ProxyOptions& options) { options.threads = 2; });
  const auto pair = stage.Pair();
  stage.proxy = nullptr;
  EXPECT_EQ(Listen(pair.first.get()), Heard::kReset);
}

TEST(Proxy, RefusesWhatMakesNoSense) {
  const auto refusal = [](const std::function<void(ProxyOptions&)>& change) {
    Listener listener, server;
    ProxyOptions options;
    options.listeners.push_back(listener.Release());
    options.server = server.address();
    change(options);
    return Proxy::Start(std::move(options)).status();
  };
  EXPECT_TRUE(refusal([](ProxyOptions&) {}).ok());
  EXPECT_THAT(refusal([](auto& o) { o.threads = 0; }).message(), HasSubstr("threads, not 0"));
  EXPECT_THAT(refusal([](auto& o) { o.max_held = 10; }).message(), HasSubstr("max_held"));
  EXPECT_THAT(refusal([](auto& o) { o.listeners[0].Reset(); }).message(), HasSubstr("listener"));
  EXPECT_THAT(refusal([](auto& o) { o.listeners.clear(); }).message(), HasSubstr("1 to 2 listen"));
  EXPECT_THAT(refusal([](auto& o) { o.listeners.resize(3); }).message(), HasSubstr("listeners"));
  EXPECT_THAT(refusal([](auto& o) { o.server = {}; }).message(), HasSubstr("family"));

  Stage stage;
  const auto set = [&](const std::function<void(Disturbance&)>& change) {
    Disturbance disturbance;
    change(disturbance);
    const absl::Status status = stage.proxy->Set(disturbance);
    EXPECT_TRUE(status.ok() || absl::IsInvalidArgument(status)) << status;
    return std::string(status.message());
  };
  EXPECT_EQ(set([](auto& d) { d.stall = 1; }), "");
  EXPECT_THAT(set([](auto& d) { d.stall = 7; }), HasSubstr("from 0 to 1, not 7"));
  EXPECT_THAT(set([](auto& d) { d.leak = -0.1; }), HasSubstr("`leak`"));
  EXPECT_THAT(set([](auto& d) { d.leak = std::numeric_limits<double>::quiet_NaN(); }),
              HasSubstr("`leak`"));
  EXPECT_THAT(set([](auto& d) { d.rate_to_server = -5; }), HasSubstr("`rate_to_server`"));
  EXPECT_THAT(set([](auto& d) { d.delay_to_client = FixedDelay(absl::Milliseconds(-50)); }),
              HasSubstr("delay_to_client: a delay's time of -50ms"));
  EXPECT_THAT(set([](auto& d) { d.delay_to_server.emplace(); }), HasSubstr("no shape"));
  // What was refused has changed nothing: everything is stalled.
  EXPECT_EQ(stage.proxy->Read().stalled, 0u);
  const UniqueFd client = stage.Connect();
  EXPECT_TRUE(Eventually([&] { return stage.proxy->Read().stalled == 1; }));
}

// Of every thread of this process; opened while there are descriptors.
std::vector<UniqueFd> OpenSchedstats() {
  std::vector<UniqueFd> files;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    files.emplace_back(open((task.path() / "schedstat").c_str(), O_RDONLY | O_CLOEXEC));
  }
  return files;
}

// Seconds that the threads ran or wanted to: a busy machine does not hide one that spins.
double Runnable(const std::vector<UniqueFd>& schedstats) {
  double sum = 0;
  for (const UniqueFd& file : schedstats) {
    char text[128] = {};
    double ran = 0, waited = 0;
    if (pread(file.get(), text, sizeof text - 1, 0) > 0) sscanf(text, "%lf %lf", &ran, &waited);
    sum += (ran + waited) / 1e9;
  }
  return sum;
}

// `left` descriptors are free when four clients come.
void RunOutOfDescriptors(rlim_t left) {
  Stage stage;
  auto first = stage.Pair();
  const auto schedstats = OpenSchedstats();
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  std::vector<UniqueFd> clients;
  for (int i = 0; i < 4; ++i) {
    clients.emplace_back(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  }
  const int next = dup(0);
  close(next);
  rlimit low = before;
  low.rlim_cur = static_cast<rlim_t>(next) + left;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
  for (const UniqueFd& client : clients) {
    ASSERT_EQ(connect(client.get(), reinterpret_cast<sockaddr*>(&stage.address), 16), 0);
  }
  const double before_it = Runnable(schedstats);
  absl::SleepFor(absl::Milliseconds(300));
  EXPECT_LT(Runnable(schedstats) - before_it, 0.2);
  EXPECT_TRUE(Stage::Alive(first));
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  for (UniqueFd& client : clients) {
    const UniqueFd server = stage.server.Accept();
    (void)client;
  }
  EXPECT_EQ(stage.proxy->Read().refused, 0u);
}

TEST(Proxy, TakesNobodyInWithoutDescriptorsAndGoesOnLater) {
  RunOutOfDescriptors(0);
  // One for the client's end, none for the server's.
  RunOutOfDescriptors(1);
}

TEST(Proxy, IdleConnectionsAreSmallAndTheirMemoryComesBack) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer's own memory is not ours";
  constexpr size_t kCount = 500;
  Stage stage;
  { const auto warm = stage.Pair(); }
  ASSERT_TRUE(Eventually([&] { return stage.proxy->Read().open == 0; }));
  std::vector<std::pair<UniqueFd, UniqueFd>> pairs;
  pairs.reserve(kCount);
  const size_t before = mallinfo2().uordblks;
  for (size_t i = 0; i < kCount; ++i) {
    pairs.push_back(stage.Pair());
    ASSERT_TRUE(Stage::Alive(pairs.back()));
  }
  const size_t with = mallinfo2().uordblks;
  EXPECT_LT((with - before) / kCount, 2048u);
  pairs.clear();
  ASSERT_TRUE(Eventually([&] { return stage.proxy->Read().open == 0; }));
  EXPECT_TRUE(Eventually([&] { return mallinfo2().uordblks < before + kCount * 64; }));
}

}  // namespace
}  // namespace firedrill::wire
