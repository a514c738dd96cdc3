// curl and a real HTTP server through the codec.
#include <gtest/gtest.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "injector/wire/codec.h"
#include "injector/wire/rules.h"
#include "tests/injector/wire/proxy_stage.h"
#include "tests/injector/wire/pump.h"
#include "tests/injector/wire/talk.h"
#include "tests/testing/child.h"

namespace firedrill::wire {
namespace {

// Keeps connections open, reads chunked bodies, and counts what it was asked: /count says it.
constexpr char kServer[] = R"(
import http.server, sys
class Server(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    posts = 0
    def log_message(self, *words): pass
    def say(self, body, chunked=False):
        self.send_response(200)
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for at in range(0, len(body), 50000):
                part = body[at:at + 50000]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD": self.wfile.write(body)
    def do_GET(self):
        if self.path == "/count": self.say(b"%d" % Server.posts)
        elif self.path == "/chunked": self.say(b"c" * 1000000, True)
        elif self.path == "/close":
            self.send_response(200); self.send_header("Connection", "close"); self.end_headers()
            self.wfile.write(b"closing"); self.close_connection = True
        elif self.path.startswith("/big"): self.say(b"b" * 10000000)
        else: self.say(b"you asked for " + self.path.encode())
    do_HEAD = do_GET
    def do_POST(self):
        body = b""
        if self.headers.get("Transfer-Encoding") == "chunked":
            while True:
                size = int(self.rfile.readline().split(b";")[0], 16)
                body += self.rfile.read(size)
                self.rfile.readline()
                if size == 0: break
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        Server.posts += 1
        self.say(b"%d bytes" % len(body))
    do_PUT = do_POST
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Server).serve_forever()
)";

class HttpLive : public testing::Test {
 protected:
  void SetUp() override {
    port_ = static_cast<uint16_t>(FreePort());
    Child::Options options;
    options.arguments = {"/usr/bin/python3", "-c", kServer, absl::StrCat(port_)};
    options.log = folder_.path() + "/log";
    auto child = Child::Start(options);
    ASSERT_TRUE(child.ok());
    server_ = *std::move(child);
    for (int i = 0; i < 500; ++i) {
      Talk talk(port_);
      talk.Send("GET /up HTTP/1.0\r\n\r\n");
      if (absl::StrContains(talk.Rest(), "/up")) return;
      absl::SleepFor(absl::Milliseconds(20));
    }
    FAIL() << ReadFile(options.log);
  }

  std::unique_ptr<Pump> Through(const std::string& word = "", const std::string& error = "",
                                bool after = false) {
    failure_.set_error(error);
    failure_.set_moment(after ? v1::FAILURE_MOMENT_AFTER : v1::FAILURE_MOMENT_BEFORE);
    return std::make_unique<Pump>(v1::PROTOCOL_HTTP, port_, [this, word](const Request& request) {
      const bool hit = !word.empty() && absl::StrContains(request.text, word);
      return hit ? &failure_ : nullptr;
    });
  }

  // Paths on one connection, after further words.
  static std::string Curl(uint16_t port, const std::vector<std::string>& paths,
                          std::vector<std::string> words = {}, const std::string& input = "") {
    words.insert(words.begin(), {"/usr/bin/curl", "-sS", "-w", " <%{http_code} %{num_connects}>"});
    for (const std::string& path : paths) {
      words.push_back(absl::StrCat("http://127.0.0.1:", port, path));
    }
    return RunProgram(words, input);
  }

  std::string Count() const { return Curl(port_, {"/count"}, {"-w", ""}); }

  const TempDir folder_{"fd-http"};
  uint16_t port_ = 0;
  std::unique_ptr<Child> server_;
  v1::QueryFailure failure_;
};

TEST_F(HttpLive, CurlSeesTheSameAsWithoutUsOnOneConnection) {
  const std::vector<std::string> paths = {"/1", "/chunked", "/big", "/2"};
  auto pump = Through();
  const std::string expected = Curl(port_, paths);
  EXPECT_TRUE(absl::EndsWith(expected, "/2 <200 0>"));
  EXPECT_EQ(Curl(pump->port(), paths), expected);
  EXPECT_EQ(pump->requests().size(), 4u);
  EXPECT_EQ(Curl(pump->port(), {"/close"}), "closing <200 1>");
  EXPECT_TRUE(absl::StrContains(Curl(pump->port(), {"/x", "/y"}, {"-I"}), "<200 0>"));
  const std::string body(3'000'000, 'u');
  for (const char* way : {"Transfer-Encoding: chunked", "Expect: 100-continue", "Expect:"}) {
    EXPECT_EQ(Curl(pump->port(), {"/p"}, {"-X", "POST", "--data-binary", "@-", "-H", way}, body),
              "3000000 bytes <200 1>")
        << way;
  }
  EXPECT_TRUE(pump->lost().empty());
  EXPECT_TRUE(pump->broken().empty());
}

TEST_F(HttpLive, BeforeMeansThatTheServerWasNeverAsked) {
  auto pump = Through("POST", "503");
  EXPECT_EQ(Curl(pump->port(), {"/p", "/q"}, {"-d", "x=1"}),
            "Service Unavailable\n <503 1>Service Unavailable\n <503 0>");
  for (const char* way : {"Transfer-Encoding: chunked", "Expect: 100-continue", "Expect:"}) {
    const std::string said =
        Curl(pump->port(), {"/p"}, {"--data-binary", "@-", "-H", way}, std::string(300'000, 'u'));
    EXPECT_TRUE(absl::StrContains(said, "Service Unavailable\n <503 1>")) << way << ": " << said;
  }
  EXPECT_EQ(Count(), "0");
}

TEST_F(HttpLive, AfterMeansThatTheServerHasDoneIt) {
  auto pump = Through("POST", "500", true);
  EXPECT_EQ(Curl(pump->port(), {"/p", "/q"}, {"-d", "x=1"}),
            "Internal Server Error\n <500 1>Internal Server Error\n <500 0>");
  EXPECT_EQ(Count(), "2");
}

TEST_F(HttpLive, RequestsSentAtOnceAreAnsweredInOrder) {
  auto pump = Through("/bad", "429");
  Talk talk(pump->port());
  talk.Send("GET /1 HTTP/1.1\r\n\r\nGET /bad HTTP/1.1\r\n\r\nGET /3 HTTP/1.1\r\n\r\n");
  const std::string said = talk.Until("/3");
  const size_t one = said.find("for /1");
  const size_t failed = said.find("429 Too Many Requests");
  const size_t three = said.find("for /3");
  EXPECT_TRUE(one < failed && failed < three && three != std::string::npos) << said;
}

TEST_F(HttpLive, TheAnswerIsCutInItsMiddle) {
  failure_.set_cut_after(100'000);
  Pump pump(v1::PROTOCOL_HTTP, port_, [this](const Request&) { return &failure_; });
  const std::string said = Curl(pump.port(), {"/big"});
  EXPECT_TRUE(absl::StrContains(said, "curl: (")) << said.substr(0, 200);
  EXPECT_LT(said.size(), 101'000u);
}

// An answer that is not longer than the cut passes whole, however it ends, and has not failed.
TEST(HttpCut, BehindTheAnswerHitsNothing) {
  Stage stage([](ProxyOptions& options) { options.protocol = v1::PROTOCOL_HTTP; });
  Rule rule;
  rule.name = "cut";
  rule.match.set_share(1);
  rule.match.add_tables("/cut");
  rule.failure.emplace().set_cut_after(500'000);
  Disturbance disturbance;
  disturbance.rules = *Rules::Compile(v1::PROTOCOL_HTTP, {rule}, 1);
  ASSERT_TRUE(stage.proxy->Set(disturbance).ok());
  const auto ends = [&](const std::string& path, const std::string& answer, bool closes) {
    auto [client, server] = stage.Pair();
    const std::string asked = absl::StrCat("GET ", path, " HTTP/1.1\r\nHost: x\r\n\r\n");
    Send(client.get(), asked);
    EXPECT_EQ(Receive(server.get(), asked.size()), asked);
    Send(server.get(), answer);
    if (closes) server.Reset();
    EXPECT_EQ(Receive(client.get(), answer.size()), answer);
    return Listen(client.get(), closes ? absl::Seconds(5) : absl::Seconds(1));
  };
  const std::string until_close = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end";
  const std::string with_length = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nall";
  EXPECT_EQ(ends("/other", until_close, true), Heard::kFin);
  EXPECT_EQ(ends("/other", with_length, false), Heard::kSilence);
  EXPECT_EQ(stage.proxy->Read().failed, 0u);
  EXPECT_EQ(stage.proxy->Read().reset, 0u);
  EXPECT_EQ(ends("/cut", with_length, false), Heard::kSilence);
  EXPECT_EQ(ends("/cut", until_close, true), Heard::kFin);
  // A server that dies before its head has come.
  EXPECT_EQ(ends("/cut", "HTTP/1.1 2", true), Heard::kFin);
  EXPECT_EQ(stage.proxy->Read().failed, 0u);
  EXPECT_EQ(stage.proxy->Read().reset, 0u);
  rule.failure->set_cut_after(40);
  disturbance.rules = *Rules::Compile(v1::PROTOCOL_HTTP, {rule}, 1);
  ASSERT_TRUE(stage.proxy->Set(disturbance).ok());
  const auto cut = [&](const std::string& answer) {
    auto [client, server] = stage.Pair();
    const std::string asked = "GET /cut HTTP/1.1\r\nHost: x\r\n\r\n";
    Send(client.get(), asked);
    EXPECT_EQ(Receive(server.get(), asked.size()), asked);
    Send(server.get(), answer);
    EXPECT_EQ(Receive(client.get(), 40), answer.substr(0, 40));
    return Listen(client.get(), absl::Seconds(5));
  };
  EXPECT_EQ(cut(with_length), Heard::kReset);
  EXPECT_EQ(cut(until_close), Heard::kReset);
  EXPECT_EQ(stage.proxy->Read().failed, 2u);
}

}  // namespace
}  // namespace firedrill::wire
