// What becomes of each step of a codec, with a codec of lines that the tests can see through.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "injector/wire/cancels.h"
#include "tests/injector/wire/proxy_stage.h"

namespace firedrill::wire {
namespace {

constexpr auto Ms = [](double ms) { return absl::Milliseconds(ms); };

// Every line is a message. "?..." is a request; "=..." is replaced by its length; "-..." is
// dropped;
// "@7" says the session's key; "x7" asks to cancel what that one does, and so does its end when the
// server says it. "!..." cuts; "." closes; "#..." encrypts; "~..." loses track; "%..." breaks the
// codec's own promises.
class LineCodec final : public Codec {
 public:
  Piece FromClient(absl::string_view bytes) override { return Next(bytes); }
  Piece FromServer(absl::string_view bytes) override { return Next(bytes); }
  std::optional<Substitute> Fail(const v1::QueryFailure& failure) override {
    if (failure.error() == "NOMEANS") return std::nullopt;
    to_client_ = absl::StrCat("error ", failure.error(), "\n");
    Substitute substitute;
    if (failure.error() == "INSTEAD") substitute.to_server = "nothing\n";
    substitute.to_client = to_client_;
    substitute.cut = failure.error() == "CUT";
    substitute.close = failure.error() == "CLOSE";
    return substitute;
  }
  uint64_t key() const override { return key_; }
  uint32_t Ticket() const override { return ++tickets_; }
  std::optional<Cancelled> Cancel(uint32_t, absl::string_view bytes) override {
    if (absl::StrContains(bytes, "busy")) return std::nullopt;
    return Cancelled{bytes.find('\n') + 1, "cancelled\n"};
  }
  bool Quiet() const override { return true; }
  bool encrypted() const override { return encrypted_; }
  absl::string_view lost() const override { return lost_; }

 private:
  Piece Next(absl::string_view bytes) {
    if (encrypted_ || !lost_.empty()) return {Step::kPass, bytes.size()};
    const size_t end = bytes.find('\n');
    if (end == absl::string_view::npos) return {Step::kMore};
    Piece piece = {Step::kPass, end + 1};
    switch (bytes[0]) {
      case '?':
        piece.step = Step::kRequest;
        piece.request.text = bytes.substr(1, end - 1);
        break;
      case '=':
        piece.step = Step::kReplace;
        instead_ = absl::StrCat(end + 1, "\n");
        piece.instead = instead_;
        break;
      case '-':
        piece.step = Step::kReplace;
        break;
      case '@':
        key_ = static_cast<uint64_t>(bytes[1]);
        break;
      case 'x':
        piece.step = Step::kCancel;
        piece.cancels = static_cast<uint64_t>(bytes[1]);
        break;
      case '!':
        piece.step = Step::kCut;
        piece.instead = "goodbye\n";
        break;
      case '.':
        piece.step = Step::kClose;
        piece.instead = "see you\n";
        break;
      case '#':
        encrypted_ = true;
        break;
      case '~':
        lost_ = "a line of waves";
        break;
      case '%':
        piece.length = bytes.size() + 1;
        break;
    }
    return piece;
  }

  std::string instead_, to_client_, lost_;
  bool encrypted_ = false;
  uint64_t key_ = 0;
  mutable uint32_t tickets_ = 0;
};

// "slow..." is held for `delay`; "fail NAME" fails with that error; "slow fail NAME" does both.
class WordRules final : public Rules {
 public:
  explicit WordRules(absl::Duration delay) : delay_(delay) {}
  Decision Decide(const Request& request) const override {
    ++asked;
    Decision decision;
    if (absl::StartsWith(request.text, "slow")) decision.delay = delay_;
    const size_t fail = request.text.find("fail ");
    if (fail != absl::string_view::npos) {
      failure_.set_error(std::string(request.text.substr(fail + 5)));
      decision.failure = &failure_;
      decision.failing = 3;
    }
    return decision;
  }
  void NoteFailed(size_t rule) const override { noted += static_cast<int>(rule); }
  Count CountOf(size_t) const override { return {}; }
  mutable std::atomic<int> asked = 0;
  mutable std::atomic<int> noted = 0;

 private:
  absl::Duration delay_;
  mutable v1::QueryFailure failure_;
};

class RelayTest : public ::testing::Test {
 protected:
  void Obey(absl::Duration delay) {
    rules_ = std::make_shared<WordRules>(delay);
    Disturbance disturbance;
    disturbance.rules = rules_;
    ASSERT_TRUE(stage_.proxy->Set(disturbance).ok());
  }
  void Say(absl::string_view bytes) { Send(pair_.first.get(), bytes); }
  void Reply(absl::string_view bytes) { Send(pair_.second.get(), bytes); }
  // What the server, or the client, hears next: exactly this.
  void ServerHears(const std::string& bytes) {
    EXPECT_EQ(Receive(pair_.second.get(), bytes.size()), bytes);
  }
  void ClientHears(const std::string& bytes) {
    EXPECT_EQ(Receive(pair_.first.get(), bytes.size()), bytes);
  }
  Heard Server(absl::Duration time) { return Listen(pair_.second.get(), time); }
  Heard Client(absl::Duration time) { return Listen(pair_.first.get(), time); }

  Stage stage_{[](ProxyOptions& options) {
    options.make_codec = [] { return std::make_unique<LineCodec>(); };
  }};
  std::pair<UniqueFd, UniqueFd> pair_ = stage_.Pair();
  std::shared_ptr<WordRules> rules_;
};

TEST_F(RelayTest, WithoutRulesEverythingPasses) {
  Say("?select\nplain\n");
  ServerHears("?select\nplain\n");
  Reply("row\n");
  ClientHears("row\n");
  EXPECT_EQ(stage_.proxy->Read().requests, 1u);
}

TEST_F(RelayTest, TheBeginningOfAMessageWaitsForItsEnd) {
  Say("pass\nhal");
  ServerHears("pass\n");
  EXPECT_EQ(Server(Ms(20)), Heard::kSilence);
  Say("f");
  EXPECT_EQ(Server(Ms(20)), Heard::kSilence);
  Say("\n");
  ServerHears("half\n");
}

TEST_F(RelayTest, TheBeginningOfAMessageIsNotLostAtTheEnd) {
  Say("half");
  shutdown(pair_.first.get(), SHUT_WR);
  ServerHears("half");
  EXPECT_EQ(Server(absl::Seconds(5)), Heard::kFin);
}

TEST_F(RelayTest, LongMessagesInAnyPiecesArriveWhole) {
  std::string all;
  for (int i = 0; i < 300; ++i) all += absl::StrCat("?", std::string(i * 7 % 900, 'q'), "\n");
  Obey(Ms(1));
  for (size_t at = 0, step = 1; at < all.size(); at += step, step = step * 5 % 1009 + 1) {
    Say(absl::string_view(all).substr(at, step));
  }
  ServerHears(all);
  EXPECT_EQ(rules_->asked, 300);
}

TEST_F(RelayTest, ADelayedRequestHoldsEverythingBehindIt) {
  Obey(Ms(60));
  const absl::Time begin = absl::Now();
  Say("before\n?slow one\n?fast\nafter\n");
  ServerHears("before\n");
  EXPECT_LT(absl::Now() - begin, Ms(60));
  ServerHears("?slow one\n?fast\nafter\n");
  EXPECT_GE(absl::Now() - begin, Ms(60));
  // The other direction is not held.
  Say("?slow two\n");
  Reply("answer\n");
  EXPECT_EQ(Client(Ms(40)), Heard::kBytes);
}

TEST_F(RelayTest, ChangedRulesLetDelayedRequestsGo) {
  Obey(absl::Minutes(5));
  Say("?slow\nafter\n");
  EXPECT_EQ(Server(Ms(20)), Heard::kSilence);
  Obey(absl::Minutes(5));
  ServerHears("?slow\nafter\n");
  Say("?slow again\n");
  // The same rules with another disturbance beside them go on holding.
  Disturbance more;
  more.rules = rules_;
  more.delay_to_client = FixedDelay(Ms(1));
  ASSERT_TRUE(stage_.proxy->Set(more).ok());
  EXPECT_EQ(Server(Ms(20)), Heard::kSilence);
  ASSERT_TRUE(stage_.proxy->Set({}).ok());
  ServerHears("?slow again\n");
}

TEST_F(RelayTest, AFailedRequestNeverReachesTheServer) {
  Obey({});
  Say("before\n?fail E1\nafter\n");
  ServerHears("before\nafter\n");
  ClientHears("error E1\n");
  Say("?fail INSTEAD\n");
  ServerHears("nothing\n");
  ClientHears("error INSTEAD\n");
  EXPECT_EQ(stage_.proxy->Read().failed, 2u);
  // Noted once it is on its way.
  for (int i = 0; i < 1000 && rules_->noted != 6; ++i) absl::SleepFor(Ms(1));
  EXPECT_EQ(rules_->noted, 6);
}

TEST_F(RelayTest, ARequestThatCannotFailGoesOn) {
  Obey(Ms(30));
  const absl::Time begin = absl::Now();
  Say("?fail NOMEANS\n?slow fail NOMEANS\n");
  ServerHears("?fail NOMEANS\n");
  ServerHears("?slow fail NOMEANS\n");
  EXPECT_GE(absl::Now() - begin, Ms(30));
  EXPECT_EQ(stage_.proxy->Read().failed, 0u);
  EXPECT_EQ(rules_->noted, 0);
}

TEST_F(RelayTest, ARequestCanBeHeldAndThenFail) {
  Obey(Ms(40));
  const absl::Time begin = absl::Now();
  Say("?slow fail E2\nafter\n");
  ClientHears("error E2\n");
  EXPECT_GE(absl::Now() - begin, Ms(40));
  ServerHears("after\n");
}

TEST_F(RelayTest, AFailureComesAfterWhatWasSentBefore) {
  Disturbance both;
  both.rules = rules_ = std::make_shared<WordRules>(Ms(0));
  both.delay_to_client = FixedDelay(Ms(40));
  ASSERT_TRUE(stage_.proxy->Set(both).ok());
  Reply("earlier\n");
  absl::SleepFor(Ms(5));
  Say("?fail E3\n");
  ClientHears("earlier\nerror E3\n");
}

TEST_F(RelayTest, AFailureThatCutsIsHeardAndThenResets) {
  Obey({});
  Say("?fail CUT\nafter\n");
  ClientHears("error CUT\n");
  EXPECT_EQ(Client(absl::Seconds(5)), Heard::kReset);
  EXPECT_EQ(Server(absl::Seconds(5)), Heard::kReset);
  EXPECT_EQ(stage_.proxy->Read().reset, 1u);
}

TEST_F(RelayTest, AFailureThatClosesEndsWithoutAReset) {
  Obey({});
  Say("?fail CLOSE\nafter\n");
  ClientHears("error CLOSE\n");
  EXPECT_EQ(Client(absl::Seconds(5)), Heard::kFin);
  EXPECT_NE(Server(absl::Seconds(5)), Heard::kSilence);
  // What the client says meanwhile does not make a reset of it.
  Say(std::string(100000, 'x'));
  EXPECT_EQ(Client(Ms(50)), Heard::kFin);
  pair_.first.Reset();
  EXPECT_TRUE(Eventually([&] { return stage_.proxy->Read().open == 0; }));
  EXPECT_EQ(stage_.proxy->Read().reset, 0u);
}

TEST_F(RelayTest, ACloseInTheStreamComesAfterAllThatWasHeld) {
  Disturbance slow = {.delay_to_client = FixedDelay(Ms(40))};
  ASSERT_TRUE(stage_.proxy->Set(slow).ok());
  Reply("row\n.\nrow\n");
  EXPECT_EQ(Client(Ms(20)), Heard::kSilence);
  ClientHears("row\nsee you\n");
  EXPECT_EQ(Client(absl::Seconds(5)), Heard::kFin);
}

TEST_F(RelayTest, ReplacedMessagesKeepTheirPlace) {
  Say("a\n=123\nb\n-gone\nc\n");
  ServerHears("a\n5\nb\nc\n");
  Reply("x\n=1\n");
  ClientHears("x\n3\n");
}

TEST_F(RelayTest, ACutOfTheServersStreamResetsBoth) {
  Reply("row\n!\nrow\n");
  ClientHears("row\ngoodbye\n");
  EXPECT_EQ(Client(absl::Seconds(5)), Heard::kReset);
  EXPECT_EQ(Server(absl::Seconds(5)), Heard::kReset);
}

TEST_F(RelayTest, AnEncryptedStreamPassesAndIsCounted) {
  Obey(absl::Minutes(5));
  Say("#\nraw");
  ServerHears("#\nraw");
  Say("?slow\n-gone\n");
  ServerHears("?slow\n-gone\n");
  EXPECT_EQ(stage_.proxy->Read().encrypted, 1u);
  EXPECT_EQ(stage_.proxy->Read().lost, 0u);
}

TEST_F(RelayTest, ALostCodecSaysWhyAndBreaksNothing) {
  Say("~\nraw");
  ServerHears("~\nraw");
  Reply("half");
  ClientHears("half");
  EXPECT_EQ(stage_.proxy->Read().lost, 1u);
  EXPECT_EQ(stage_.proxy->Read().lost_why, "a line of waves");
}

TEST_F(RelayTest, ACodecThatBreaksItsPromisesBreaksNothing) {
  Say("a\n%b\n?c\n");
  ServerHears("a\n%b\n?c\n");
  Say("half");
  ServerHears("half");
  EXPECT_EQ(stage_.proxy->Read().lost_why, "the codec contradicts itself");
  // Nor does one that asks for more without an end.
  const auto pair = stage_.Pair();
  Send(pair.first.get(), std::string(kMaxText, 'x'));
  EXPECT_EQ(Receive(pair.second.get(), kMaxText).size(), kMaxText);
  EXPECT_TRUE(Eventually([&] { return stage_.proxy->Read().lost == 2; }));
}

TEST_F(RelayTest, WhatIsCancelledGoesAtOnceAndWhoAskedIsAnsweredAsByAServer) {
  Obey(absl::Minutes(5));
  Say("@7\n?slow one\nbehind\n?slow two\n");
  ServerHears("@7\n");
  const auto other = stage_.Pair();
  Send(other.first.get(), "x7\n");
  ServerHears("cancelled\nbehind\n");
  EXPECT_EQ(Listen(other.first.get()), Heard::kFin);
  EXPECT_EQ(Listen(other.second.get()), Heard::kFin);
  EXPECT_EQ(Server(Ms(50)), Heard::kSilence) << "the second one is held as before";
  const auto third = stage_.Pair();
  Send(third.first.get(), "x7\n");
  ServerHears("cancelled\n");
  Say("more\n");
  ServerHears("more\n");
}

TEST_F(RelayTest, ACancelOfWhatIsNotHeldGoesOn) {
  Obey(absl::Minutes(5));
  Say("@7\n");
  ServerHears("@7\n");
  for (const std::string asked : {"x7\n", "x8\n"}) {
    const auto other = stage_.Pair();
    Send(other.first.get(), asked);
    EXPECT_EQ(Receive(other.second.get(), 3), asked);
    Send(other.first.get(), "more\n");
    EXPECT_EQ(Receive(other.second.get(), 5), "more\n");
    // While something is held, it is about another session, or the server is busy.
    if (asked == "x7\n") Say("?slow and busy\n");
  }
  const auto other = stage_.Pair();
  Send(other.first.get(), "x7\n");
  EXPECT_EQ(Receive(other.second.get(), 3), "x7\n");
  EXPECT_EQ(Server(Ms(50)), Heard::kSilence);
}

TEST_F(RelayTest, WhatTheServerAgreesToCancelIsCancelledAndGoesOn) {
  Obey(absl::Minutes(5));
  Say("@7\n?slow one\n");
  ServerHears("@7\n");
  const auto other = stage_.Pair();
  Send(other.second.get(), "x7\nmore\n");
  EXPECT_EQ(Receive(other.first.get(), 8), "x7\nmore\n");
  ServerHears("cancelled\n");
}

// A worker's later proxy takes connections in while the one before it carries on what it has.
TEST(RelayOfManyProxies, ACancelReachesTheSessionsOfAnother) {
  const auto cancels = std::make_shared<Cancels>();
  const auto options = [&](ProxyOptions& options) {
    options.make_codec = [] { return std::make_unique<LineCodec>(); };
    options.cancels = cancels;
  };
  Stage one(options);
  auto later = std::make_unique<Stage>(options);
  Disturbance disturbance;
  disturbance.rules = std::make_shared<WordRules>(absl::Minutes(5));
  ASSERT_TRUE(one.proxy->Set(disturbance).ok());
  const auto [client, server] = one.Pair();
  Send(client.get(), "@7\n?slow one\n?slow two\n");
  EXPECT_EQ(Receive(server.get(), 3), "@7\n");
  const auto other = later->Pair();
  Send(other.first.get(), "x7\n");
  EXPECT_EQ(Receive(server.get(), 10), "cancelled\n");
  EXPECT_EQ(Listen(other.first.get()), Heard::kFin);
  // Nobody is asked, or told, that has gone.
  later.reset();
  Send(one.Pair().first.get(), "x7\n");
  EXPECT_EQ(Receive(server.get(), 10), "cancelled\n");
}

}  // namespace
}  // namespace firedrill::wire
