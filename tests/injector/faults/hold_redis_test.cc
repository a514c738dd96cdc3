// hold_connections at a real Redis server.
#include <gmock/gmock.h>
#include <sys/stat.h>

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "injector/os/redis.h"
#include "tests/testing/hold_stage.h"
#include "tests/testing/redis_server.h"

namespace firedrill {
namespace {

using ::testing::HasSubstr;

constexpr int kMost = 60;

class HoldRedisTest : public HoldStage {
 protected:
  static void SetUpTestSuite() {
    server_ = RedisServer::Start({.settings = {"--maxclients", absl::StrCat(kMost)}}).release();
    ASSERT_NE(server_, nullptr);
    server_->Run({"ACL", "SETUSER", "leaker", "on", ">secret", "~*", "+@all"});
    server_->Run({"ACL", "SETUSER", "weak", "on", ">secret", "~*", "+@all", "-blpop"});
    WriteFile(server_->folder() + "/good", "secret\n");
    WriteFile(server_->folder() + "/wrong", "guess\n");
    for (const char* file : {"/good", "/wrong"}) {
      chmod((server_->folder() + file).c_str(), 0600);
    }
  }
  static void TearDownTestSuite() {
    delete server_;
    server_ = nullptr;
  }
  void SetUp() override {
    ASSERT_NE(server_, nullptr);
    for (const auto& [name, user, file] :
         std::vector<std::array<const char*, 3>>{{"plain", "", ""},
                                                 {"leaker", "leaker", "/good"},
                                                 {"weak", "weak", "/good"},
                                                 {"wrong", "leaker", "/wrong"}}) {
      v1::RedisServer& redis = *AddProfile(name).mutable_redis();
      redis.set_host("127.0.0.1");
      redis.set_port(server_->port());
      redis.set_user(user);
      if (*file != 0) redis.mutable_password()->set_file(server_->folder() + file);
    }
    AddProfile("queue").mutable_tcp()->set_host("127.0.0.1");
  }
  void TearDown() override {
    fault_.reset();
    if (server_ != nullptr) {
      EXPECT_TRUE(Within(absl::Seconds(2), [] { return Clients("name=firedrill") == 0; }));
    }
  }

  absl::Status ApplyRedis(const std::string& text) {
    return Apply("protocol: PROTOCOL_REDIS " + text);
  }
  // Lines of CLIENT LIST that contain all of these.
  static int Clients(const std::string& what, const std::string& more = "") {
    int count = 0;
    for (absl::string_view line : absl::StrSplit(server_->Run({"CLIENT", "LIST"}), '\n')) {
      count += absl::StrContains(line, what) && absl::StrContains(line, more) ? 1 : 0;
    }
    return count;
  }
  // Ends so many of ours, as an administrator would.
  static void KillSome(int count) {
    for (absl::string_view line : absl::StrSplit(server_->Run({"CLIENT", "LIST"}), '\n')) {
      if (count == 0 || !absl::StrContains(line, kOurs)) continue;
      const std::vector<std::string> words = absl::StrSplit(line, ' ');
      server_->Run({"CLIENT", "KILL", "ID", words[0].substr(3)});
      --count;
    }
  }

  static constexpr char kOurs[] = " name=firedrill:r1a2b3:leak ";
  static inline RedisServer* server_ = nullptr;
};

TEST_F(HoldRedisTest, HoldsSoManyInEveryState) {
  for (const auto& [state, mark] : std::vector<std::pair<std::string, std::string>>{
           {"IDLE", " flags=N "}, {"IDLE_IN_TRANSACTION", " multi=0 "}, {"ACTIVE", " flags=b "}}) {
    ASSERT_TRUE(ApplyRedis("profile: 'leaker' count: 20 state: SESSION_STATE_" + state).ok());
    ASSERT_TRUE(Reached()) << state << Seen().detail();
    EXPECT_EQ(Clients(kOurs), 20);
    EXPECT_EQ(Clients(kOurs, mark), 20) << server_->Run({"CLIENT", "LIST"});
    EXPECT_EQ(Clients(kOurs, " user=leaker "), 20);
    const v1::Observation seen = Seen();
    EXPECT_EQ(seen.real(), 20);
    EXPECT_EQ(seen.figures().at("usable"), kMost);
    EXPECT_THAT(seen.subject(), ::testing::MatchesRegex("redis/[0-9a-f]+/[0-9]+"));
    const absl::Status still = ReadBack(absl::Milliseconds(200));
    EXPECT_THAT(std::string(still.message()),
                HasSubstr("20 connections of firedrill:r1a2b3:leak are still there"));
    fault_->Release();
    EXPECT_TRUE(ReadBack().ok());
    EXPECT_EQ(Clients(kOurs), 0);
  }
}

TEST_F(HoldRedisTest, FillsTheServerCountingEveryone) {
  ASSERT_TRUE(ApplyRedis("profile: 'plain' fill_to: 1 refill: true").ok());
  ASSERT_TRUE(Within(absl::Seconds(10), [this] { return Seen().real() == kMost; }));
  EXPECT_EQ(Seen().requested(), kMost);
  // Nobody else gets in.
  EXPECT_THAT(server_->Run({"PING"}), HasSubstr("max number of clients"));
  // The control connection is one of them.
  EXPECT_EQ(Seen().figures().at("held"), kMost - 1);
  fault_->Release();
  EXPECT_TRUE(ReadBack().ok());
  EXPECT_EQ(server_->Run({"PING"}), "PONG");
}

TEST_F(HoldRedisTest, LeavesSoManyFree) {
  ASSERT_TRUE(ApplyRedis("profile: 'plain' leave_free: 10").ok());
  ASSERT_TRUE(Reached());
  EXPECT_EQ(Seen().real(), kMost - 10);
  EXPECT_EQ(Clients(kOurs), kMost - 10 - 1);
}

TEST_F(HoldRedisTest, TakesBackWithRefillOnly) {
  ASSERT_TRUE(ApplyRedis("profile: 'plain' count: 10").ok());
  ASSERT_TRUE(Reached());
  KillSome(4);
  EXPECT_TRUE(Within(absl::Seconds(5), [this] { return Seen().figures().at("lost") == 4; }));
  EXPECT_EQ(Clients(kOurs), 6);
  EXPECT_FALSE(Seen().reached());

  ASSERT_TRUE(ApplyRedis("profile: 'plain' count: 10 refill: true").ok());
  ASSERT_TRUE(Reached());
  KillSome(4);
  EXPECT_TRUE(Within(absl::Seconds(5), [this] { return Seen().figures().at("lost") == 4; }));
  EXPECT_TRUE(Within(absl::Seconds(5), [] { return Clients(kOurs) == 10; }));
  EXPECT_TRUE(Within(absl::Seconds(5), [this] { return Seen().figures().at("opened") == 14; }));
}

TEST_F(HoldRedisTest, DiesWithItsProcess) {
  std::vector<std::string> texts;
  for (const char* state : {"IDLE", "IDLE_IN_TRANSACTION", "ACTIVE"}) {
    texts.push_back(absl::StrCat(
        "protocol: PROTOCOL_REDIS profile: 'leaker' count: 10 state: SESSION_STATE_", state));
  }
  const pid_t holder = SpawnHolder(texts);
  EXPECT_TRUE(
      Within(absl::Seconds(10), [] { return Clients(" name=firedrill:r1a2b3:leak") == 30; }));
  Kill(holder);
  EXPECT_TRUE(Within(absl::Seconds(2), [] { return Clients(" name=firedrill") == 0; }));
}

TEST_F(HoldRedisTest, NamesAWrongPassword) {
  const absl::Status status = ApplyRedis("profile: 'wrong' count: 3");
  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied) << status;
  EXPECT_EQ(
      status.message(),
      absl::StrCat("opening the control connection of profile wrong to 127.0.0.1:", server_->port(),
                   " as leaker: WRONGPASS invalid username-password pair or user is "
                   "disabled.; check the profile's user and password"));
}

TEST_F(HoldRedisTest, NamesAnAccountThatMayNotWait) {
  const absl::Status status = ApplyRedis("profile: 'weak' count: 3 state: SESSION_STATE_ACTIVE");
  // The server's refusal may come with its other answers, or a moment later.
  if (status.ok()) {
    EXPECT_TRUE(Within(absl::Seconds(5), [this] {
      return Seen().detail().find("NOPERM") != std::string::npos;
    })) << Seen().detail();
    EXPECT_FALSE(Seen().reached());
  } else {
    EXPECT_THAT(std::string(status.message()),
                HasSubstr("holding connections with profile weak: NOPERM"));
  }
}

TEST_F(HoldRedisTest, NamesAServerThatIsFullAlready) {
  ASSERT_TRUE(ApplyRedis("profile: 'plain' fill_to: 1 refill: true").ok());
  ASSERT_TRUE(Within(absl::Seconds(10), [this] { return Seen().real() == kMost; }));
  auto late = *MakeFault(Message("protocol: PROTOCOL_REDIS profile: 'plain' count: 2"));
  NoChanges changes;
  const absl::Status status = late->Apply(StageContext("late"), node_, changes);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("the server is full already"));
}

TEST_F(HoldRedisTest, EndsOnADeadServerAndComesBackWithIt) {
  auto own = RedisServer::Start();
  ASSERT_NE(own, nullptr);
  node_.mutable_spec.mutable_profiles(0)->mutable_redis()->set_port(own->port());
  ASSERT_TRUE(ApplyRedis("profile: 'plain' count: 5 refill: true").ok());
  ASSERT_TRUE(Reached());
  own->Stop();
  EXPECT_FALSE(fault_->Observe(StageContext("leak"), node_).ok());
  ASSERT_TRUE(own->StartAgain());
  EXPECT_TRUE(Reached());
  own->Stop();
  fault_->Release();
  EXPECT_TRUE(ReadBack().ok());
  // From the beginning: nothing to apply to, nothing left.
  const absl::Status status = ApplyRedis("profile: 'plain' count: 5");
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("is the server up"));
}

TEST_F(HoldRedisTest, RefusesAProfileOfAnotherProtocol) {
  EXPECT_THAT(std::string(Validate("protocol: PROTOCOL_REDIS profile: 'queue' count: 3").message()),
              HasSubstr("profile queue is no Redis server"));
  EXPECT_EQ(ApplyRedis("profile: 'plain' count: 61").code(), absl::StatusCode::kInvalidArgument);
}

TEST(RedisAnswers, AreTakenWholeOnly) {
  const std::string whole = "*3\r\n$3\r\na\r\n\r\n:7\r\n*2\r\n+OK\r\n$-1\r\n";
  for (size_t length = 0; length < whole.size(); ++length) {
    std::string part = whole.substr(0, length);
    EXPECT_EQ(TakeRedisAnswer(&part).status().code(), absl::StatusCode::kNotFound) << length;
    EXPECT_EQ(part.size(), length);
  }
  std::string bytes = whole + "+next\r\n-ERR max number of clients reached\r\nHTTP/1.1\r\n";
  EXPECT_EQ(TakeRedisAnswer(&bytes).value_or("?"), "a\r\n\n7\nOK\n");
  EXPECT_EQ(TakeRedisAnswer(&bytes).value_or("?"), "next");
  EXPECT_EQ(TakeRedisAnswer(&bytes).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(TakeRedisAnswer(&bytes).status().code(), absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace firedrill
