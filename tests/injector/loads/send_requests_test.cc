// send_requests against a small HTTP server on the loopback: what arrives, and what is measured.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "absl/strings/str_split.h"
#include "base/time_proto.h"
#include "injector/loads/latency.h"
#include "injector/loads/load.h"
#include "tests/testing/fault_stage.h"
#include "tests/testing/sanitized.h"

namespace firedrill {
namespace {

using ::testing::HasSubstr;

// Answers as the path says: /ok, /status/503, /slow (never), /reset (closes), /delay/20
// (milliseconds).
class HttpServer {
 public:
  HttpServer() {
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    bind(listener_, reinterpret_cast<sockaddr*>(&address), size);
    listen(listener_, 1024);
    getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    thread_ = std::jthread([this](std::stop_token stop) { Serve(stop); });
  }
  ~HttpServer() {
    thread_.request_stop();
    thread_.join();
    for (const auto& [fd, client] : clients_) close(fd);
    close(listener_);
  }
  std::string url() const { return absl::StrCat("http://127.0.0.1:", port_); }
  int connections() const { return connections_; }
  std::vector<std::string> requests() {
    std::lock_guard lock(mutex_);
    return requests_;
  }

 private:
  struct Client {
    std::string in;
    absl::Duration answer_at = absl::InfiniteDuration();
    std::string answer;
  };

  void Serve(std::stop_token stop) {
    while (!stop.stop_requested()) {
      std::vector<pollfd> waits = {{listener_, POLLIN, 0}};
      for (const auto& [fd, client] : clients_) waits.push_back({fd, POLLIN, 0});
      poll(waits.data(), waits.size(), 1);
      if (waits[0].revents != 0) {
        const int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
        if (fd >= 0) clients_[fd];
        ++connections_;
      }
      for (size_t i = 1; i < waits.size(); ++i) {
        if (waits[i].revents != 0 && !Read(waits[i].fd)) {
          close(waits[i].fd);
          clients_.erase(waits[i].fd);
        }
      }
      for (auto& [fd, client] : clients_) {
        if (client.answer_at > RealClock().Boot()) continue;
        (void)!write(fd, client.answer.data(), client.answer.size());
        client.answer_at = absl::InfiniteDuration();
      }
    }
  }

  bool Read(int fd) {
    char buffer[4096];
    const ssize_t got = read(fd, buffer, sizeof buffer);
    if (got <= 0) return false;
    Client& client = clients_[fd];
    client.in.append(buffer, got);
    const size_t end = client.in.find("\r\n\r\n");
    if (end == std::string::npos) return true;
    {
      std::lock_guard lock(mutex_);
      requests_.push_back(client.in.substr(0, end));
    }
    const std::vector<std::string> line =
        absl::StrSplit(client.in.substr(0, client.in.find('\r')), ' ');
    client.in.clear();
    const std::vector<std::string> path = absl::StrSplit(line.at(1), absl::ByAnyChar("/?"));
    if (path[1] == "reset") return false;
    const std::string status = path[1] == "status" ? path[2] : "200";
    client.answer = "HTTP/1.1 " + status + " x\r\nContent-Length: 2\r\n\r\nhi";
    client.answer_at = RealClock().Boot();
    if (path[1] == "delay") client.answer_at += absl::Milliseconds(std::stoi(path[2]));
    if (path[1] == "slow") client.answer_at = absl::InfiniteDuration();
    return true;
  }

  int listener_ = -1;
  uint16_t port_ = 0;
  std::map<int, Client> clients_;
  std::atomic<int> connections_ = 0;
  std::mutex mutex_;
  std::vector<std::string> requests_;
  std::jthread thread_;
};

class SendRequestsTest : public ::testing::Test {
 protected:
  v1::PlannedLoad Load(double rate, absl::Duration timeout,
                       const std::vector<std::pair<std::string, int>>& paths) {
    v1::PlannedLoad planned;
    planned.set_name("shoppers");
    auto* message = planned.mutable_load()->mutable_send_requests();
    message->set_rate(rate);
    *message->mutable_timeout() = ToProto(timeout);
    for (const auto& [path, weight] : paths) {
      auto* request = message->add_requests();
      request->set_name(absl::StrCat("r", message->requests_size()));
      request->set_path(path);
      request->set_weight(weight);
    }
    return planned;
  }
  // Runs the load until `seconds` windows of every request are there, then stops it.
  std::vector<v1::LoadWindow> Run(const v1::PlannedLoad& load, size_t seconds, uint64_t seed = 7,
                                  const std::string& url = "") {
    v1::Endpoint endpoint;
    endpoint.set_name("shop");
    endpoint.set_url(url.empty() ? server_.url() : url);
    std::mutex mutex;
    std::vector<v1::LoadWindow> windows;
    auto run = StartLoad(load, endpoint, seed, node_, [&](v1::LoadWindow window) {
      std::lock_guard lock(mutex);
      windows.push_back(std::move(window));
    });
    EXPECT_TRUE(run.ok()) << run.status();
    if (!run.ok()) return {};
    const size_t wanted = seconds * load.load().send_requests().requests_size();
    EXPECT_TRUE(Within(absl::Seconds(seconds + 3), [&] {
      std::lock_guard lock(mutex);
      return windows.size() >= wanted;
    }));
    const absl::Duration begin = RealClock().Boot();
    run->reset();
    EXPECT_LT(RealClock().Boot() - begin, absl::Milliseconds(500));
    return windows;
  }
  static v1::LoadWindow Sum(const std::vector<v1::LoadWindow>& windows,
                            const std::string& request) {
    v1::LoadWindow sum;
    for (const auto& window : windows) {
      if (window.request() != request) continue;
      sum.set_due(sum.due() + window.due());
      sum.set_sent(sum.sent() + window.sent());
      sum.set_ok(sum.ok() + window.ok());
      for (const auto& [name, count] : window.errors()) (*sum.mutable_errors())[name] += count;
      for (const auto& [bound, count] : window.latency()) (*sum.mutable_latency())[bound] += count;
    }
    return sum;
  }

  HttpServer server_;
  StageNode node_;
};

TEST_F(SendRequestsTest, SendsAtTheRateByWeight) {
  const auto windows = Run(Load(100, absl::Seconds(2), {{"/ok", 80}, {"/status/302", 20}}), 3);
  const auto heavy = Sum(windows, "r1");
  const auto light = Sum(windows, "r2");
  EXPECT_EQ(heavy.due() + light.due(), 300u);
  EXPECT_EQ(heavy.sent(), heavy.due());
  EXPECT_GT(heavy.due(), 210u);
  EXPECT_LT(heavy.due(), 270u);
  // Below 400 is ok; those under way at the end of the last second are not told any more.
  EXPECT_GE(heavy.ok() + light.ok(), 290u);
  EXPECT_TRUE(heavy.errors().empty());
  EXPECT_EQ(windows.at(0).load(), "shoppers");
  EXPECT_EQ(FromProto(windows.at(0).length()), absl::Seconds(1));
  EXPECT_NEAR(
      absl::ToDoubleSeconds(FromProto(windows.at(2).start()) - FromProto(windows.at(0).start())), 1,
      0.05);
}

TEST_F(SendRequestsTest, ArrivalsDoNotWaitForAnswers) {
  const auto windows = Run(Load(50, absl::Milliseconds(1500), {{"/slow", 1}}), 4);
  const auto sum = Sum(windows, "r1");
  EXPECT_EQ(sum.due(), 200u);
  EXPECT_EQ(sum.sent(), 200u);
  EXPECT_EQ(sum.ok(), 0u);
  // The first time-outs come 1.5 s after the first arrival, in the second second.
  EXPECT_TRUE(windows.at(0).errors().empty());
  EXPECT_NEAR(static_cast<double>(windows.at(1).errors().at("timeout")), 25, 5);
  EXPECT_NEAR(static_cast<double>(windows.at(2).errors().at("timeout")), 50, 8);
  EXPECT_TRUE(sum.latency().empty());
}

TEST_F(SendRequestsTest, NamesTheErrors) {
  // The server closes descriptors whose numbers the sender is given next: to TSan that is a race.
  if (kSanitized) GTEST_SKIP() << "both ends in one process";
  const auto windows = Run(Load(60, absl::Seconds(1), {{"/status/503", 1}, {"/reset", 1}}), 2);
  EXPECT_EQ(Sum(windows, "r1").errors().size(), 1u);
  EXPECT_GT(Sum(windows, "r1").errors().at("status-503"), 30u);
  EXPECT_EQ(Sum(windows, "r2").errors().size(), 1u);
  EXPECT_GT(Sum(windows, "r2").errors().at("reset"), 30u);
  EXPECT_EQ(Sum(windows, "r1").ok(), 0u);
  // An answer has a latency, whatever it says; a broken connection has none.
  EXPECT_FALSE(Sum(windows, "r1").latency().empty());
  EXPECT_TRUE(Sum(windows, "r2").latency().empty());
  const auto refused = Run(Load(30, absl::Seconds(1), {{"/", 1}}), 1, 7, "http://127.0.0.1:1");
  EXPECT_GT(Sum(refused, "r1").errors().at("refused"), 20u);
}

TEST_F(SendRequestsTest, MeasuresLatencyFromDue) {
  const auto windows = Run(Load(50, absl::Seconds(2), {{"/delay/60", 1}}), 3);
  uint64_t count = 0, below = 0, far_above = 0;
  const auto sum = Sum(windows, "r1");
  for (const auto& [bound, answers] : sum.latency()) {
    count += answers;
    if (bound < 60'000) below += answers;
    if (bound > 120'000) far_above += answers;
  }
  EXPECT_GT(count, 130u);
  EXPECT_EQ(below, 0u);
  EXPECT_LE(far_above, count / 4);
}

TEST_F(SendRequestsTest, DrawsValuesWithTheSeed) {
  const std::string file = (std::filesystem::temp_directory_path() / "fd-values-XXXXXX").string();
  std::string path = file;
  close(mkstemp(path.data()));
  std::ofstream(path) << "a b@example.com\n\nü&x=1\nplain-1.2_3~\n";
  auto* values = node_.mutable_spec.add_values();
  values->set_name("emails");
  values->set_file(path);
  // What the server had of one run, which its requests are marked with: the last ones of a run may
  // be read when the next has begun. Of several that wait at once any may be read first.
  const auto drawn = [this](const std::string& mark, uint64_t seed) {
    auto load =
        Load(60, absl::Seconds(1),
             {{absl::StrCat("/ok?email={email}&again={email}&", mark), 3}, {"/ok?x&" + mark, 1}});
    (*load.mutable_load()->mutable_send_requests()->mutable_values())["email"] = "emails";
    Run(load, 1, seed);
    std::multiset<std::string> first;
    for (const std::string& request : server_.requests()) {
      const std::string line = request.substr(0, request.find('\r'));
      const size_t at = line.find("&" + mark);
      if (at != std::string::npos && first.size() < 50) first.insert(line.substr(0, at));
    }
    EXPECT_EQ(first.size(), 50u);
    return first;
  };
  const auto differ = [](const std::multiset<std::string>& a, const std::multiset<std::string>& b) {
    std::vector<std::string> only;
    std::set_symmetric_difference(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(only));
    return only.size();
  };
  const auto once = drawn("one", 42), again = drawn("two", 42), other = drawn("three", 43);
  // Two for each that has changed places over the end of the fifty.
  EXPECT_LE(differ(once, again), 8u);
  EXPECT_GT(differ(once, other), 12u);
  const std::set<std::string> all(once.begin(), once.end());
  EXPECT_TRUE(all.count("GET /ok?email=a%20b%40example.com&again=%C3%BC%26x%3D1") == 1)
      << ::testing::PrintToString(all);
  std::filesystem::remove(path);
}

TEST_F(SendRequestsTest, KeepsConnectionsOpenAndSendsWhatIsAsked) {
  auto load = Load(100, absl::Seconds(1), {{"/ok", 1}});
  auto* request = load.mutable_load()->mutable_send_requests()->mutable_requests(0);
  request->set_method("POST");
  request->set_body("name=x");
  Run(load, 2);
  EXPECT_LT(server_.connections(), 40);
  EXPECT_GT(server_.requests().size(), 180u);
  EXPECT_THAT(server_.requests().at(0), HasSubstr("POST /ok HTTP/1.1"));
  EXPECT_THAT(server_.requests().at(0), HasSubstr("Content-Length: 6"));
}

TEST_F(SendRequestsTest, KeepsUpWithFiveHundredASecond) {
  rusage before{}, after{};
  getrusage(RUSAGE_SELF, &before);
  const auto windows = Run(Load(500, absl::Seconds(2), {{"/ok", 1}}), 4);
  getrusage(RUSAGE_SELF, &after);
  const auto sum = Sum(windows, "r1");
  EXPECT_EQ(sum.due(), 2000u);
  EXPECT_EQ(sum.sent(), 2000u);
  EXPECT_GE(sum.ok(), 1900u);
  absl::Duration worst;
  for (const auto& window : windows) worst = std::max(worst, FromProto(window.lateness()));
  const double cpu = absl::ToDoubleSeconds(
      absl::DurationFromTimeval(after.ru_utime) + absl::DurationFromTimeval(after.ru_stime) -
      absl::DurationFromTimeval(before.ru_utime) - absl::DurationFromTimeval(before.ru_stime));
  std::cout << "500/s: " << cpu / 4 * 100 << " % of a core with the server, worst lateness "
            << worst << "\n";
}

TEST_F(SendRequestsTest, RefusesWhatItCannotSend) {
  v1::Endpoint endpoint;
  endpoint.set_name("db");
  endpoint.set_url("tcp://127.0.0.1:5432");
  const auto start = [&](const v1::PlannedLoad& load) {
    return std::string(
        StartLoad(load, endpoint, 1, node_, [](v1::LoadWindow) {}).status().message());
  };
  EXPECT_THAT(start(Load(1, absl::Seconds(1), {{"/", 1}})), HasSubstr("no HTTP address"));
  endpoint.set_url(server_.url());
  EXPECT_THAT(start(Load(1, absl::Seconds(1), {{"/{x}", 1}})),
              HasSubstr("request r1: `{x}` in its path is not one of `values`"));
  EXPECT_THAT(start(Load(0, absl::Seconds(1), {{"/", 1}})), HasSubstr("rate above 0"));
  auto load = Load(1, absl::Seconds(1), {{"/{x}", 1}});
  (*load.mutable_load()->mutable_send_requests()->mutable_values())["x"] = "nothing";
  EXPECT_THAT(start(load), HasSubstr("there is no nothing"));
}

TEST(LatencyBound, IsNeverBelowAndHardlyAbove) {
  uint64_t last = 0;
  for (uint64_t micros = 0; micros < 200'000'000; micros += 1 + micros / 97) {
    const uint64_t bound = LatencyBound(micros);
    ASSERT_GE(bound, micros);
    ASSERT_LE(static_cast<double>(bound), static_cast<double>(micros) * 1.0625 + 1) << micros;
    ASSERT_GE(bound, last);
    ASSERT_EQ(LatencyBound(bound), bound);
    last = bound;
  }
}

}  // namespace
}  // namespace firedrill
