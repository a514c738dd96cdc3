// What every fault promises, asked of each one that is registered, for each of its protocols, on
// the stage that its own example needs; of a fault on live traffic with the traffic of every
// protocol. A new fault is tested here without a change, as long as its example finds its profile
// on the stage of its protocol.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <set>
#include <thread>

#include "absl/strings/ascii.h"
#include "base/status_macros.h"
#include "experiment/mapper.h"
#include "experiment/vocabulary.h"
#include "experiment/yaml_tree.h"
#include "firedrill/v1/options.pb.h"
#include "injector/faults/wire/interception.h"
#include "injector/os/connect_redirect.h"
#include "tests/contract/contract_stage.h"

namespace firedrill {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

const google::protobuf::FieldDescriptor* FieldOf(v1::Fault::KindCase kind) {
  return v1::Fault::descriptor()->FindFieldByNumber(kind);
}
const v1::KindRule& RuleOfKind(v1::Fault::KindCase kind) {
  return FieldOf(kind)->message_type()->options().GetExtension(v1::kind);
}

// The example as the reader of definitions takes it.
absl::StatusOr<v1::Fault> ParseExample(const std::string& text) {
  std::vector<Problem> problems;
  const auto root = ReadYaml(text, &problems);
  Reporter reporter(text);
  v1::Fault fault;
  if (root.has_value()) MapYaml(*root, &fault, &reporter);
  problems.insert(problems.end(), reporter.problems().begin(), reporter.problems().end());
  if (!root.has_value() || !problems.empty()) {
    return absl::InvalidArgumentError(RenderProblems("example", text, problems));
  }
  return fault;
}

// One that is registered, and of a fault on live traffic whose traffic it is to meet.
struct Case {
  RegisteredFault fault;
  v1::Protocol protocol;
};

// Faults on live traffic need some, and hit nothing that the server itself would show.
bool IsOnTheWire(v1::Fault::KindCase kind) {
  return FieldOf(kind)->message_type()->FindFieldByName("client_user") != nullptr;
}
bool LooksIntoRequests(v1::Fault::KindCase kind) {
  return FieldOf(kind)->message_type()->FindFieldByName("match") != nullptr;
}

std::vector<Case> Inside() {
  std::vector<Case> cases;
  for (const RegisteredFault& fault : RegisteredFaults()) {
    if (!IsOnTheWire(fault.kind)) cases.push_back({fault, fault.protocol});
  }
  return cases;
}
std::vector<Case> OnTheWire() {
  std::vector<Case> cases;
  for (const RegisteredFault& fault : RegisteredFaults()) {
    if (!IsOnTheWire(fault.kind)) continue;
    for (const EnumWord& word : WordsOf(v1::Protocol_descriptor())) {
      const auto protocol = static_cast<v1::Protocol>(word.value->number());
      if (protocol == v1::PROTOCOL_TCP && LooksIntoRequests(fault.kind)) continue;
      cases.push_back({fault, protocol});
    }
  }
  return cases;
}

// Of the examples of a kind, the one that is for this protocol.
absl::StatusOr<v1::Fault> ExampleOf(const RegisteredFault& fault) {
  for (const std::string& text : ExamplesOf(RuleOfKind(fault.kind))) {
    ASSIGN_OR_RETURN(v1::Fault example, ParseExample(text));
    if (ProtocolOf(example) == fault.protocol) return example;
  }
  return absl::NotFoundError(absl::StrCat(FieldOf(fault.kind)->json_name(), " has no example for ",
                                          v1::Protocol_Name(fault.protocol)));
}

// What the example of a fault on live traffic says of requests, in the words of a protocol.
void Translate(const TrafficWords& words, v1::Fault* fault) {
  const auto meant = [&words](v1::QueryMatch* match) {
    for (std::string& verb : *match->mutable_verbs()) verb = words.verb;
    for (std::string& table : *match->mutable_tables()) table = words.table;
  };
  if (fault->has_delay_queries()) meant(fault->mutable_delay_queries()->mutable_match());
  if (fault->has_fail_queries()) {
    meant(fault->mutable_fail_queries()->mutable_match());
    fault->mutable_fail_queries()->set_error(words.error);
  }
}

// "holdConnections", "holdConnectionsMysql", "delayQueriesRedis".
std::string NameOf(const Case& its) {
  std::string name = FieldOf(its.fault.kind)->json_name();
  if (its.protocol == v1::PROTOCOL_UNSPECIFIED || its.protocol == v1::PROTOCOL_POSTGRESQL) {
    return name;
  }
  for (const EnumWord& word : WordsOf(v1::Protocol_descriptor())) {
    if (word.value->number() != its.protocol) continue;
    absl::StrAppend(&name, std::string(1, absl::ascii_toupper(word.word[0])), word.word.substr(1));
  }
  return name;
}

// A fault that can be done away with has a field in the oneof and a file that registers it, for
// each protocol that the definition permits.
TEST(FaultRegistry, KnowsEveryKindOfTheVocabulary) {
  std::set<std::pair<int, int>> vocabulary, registered;
  const auto* kinds = v1::Fault::descriptor()->FindOneofByName("kind");
  for (int i = 0; i < kinds->field_count(); ++i) {
    const auto* protocol = kinds->field(i)->message_type()->FindFieldByName("protocol");
    if (protocol == nullptr) {
      vocabulary.emplace(kinds->field(i)->number(), v1::PROTOCOL_UNSPECIFIED);
      continue;
    }
    for (const EnumWord& word : WordsOf(protocol)) {
      vocabulary.emplace(kinds->field(i)->number(), word.value->number());
    }
  }
  for (const RegisteredFault& fault : RegisteredFaults()) {
    registered.emplace(fault.kind, fault.protocol);
  }
  EXPECT_EQ(vocabulary, registered);
}

TEST(FaultRegistry, RefusesAProtocolThatTheKindDoesNotHave) {
  EXPECT_FALSE(ParseExample("loseIndex: {profile: a, index: a.b, protocol: redis}").ok());
  v1::Fault fault;
  fault.mutable_lose_index()->set_protocol(v1::PROTOCOL_REDIS);
  const absl::Status status = MakeFault(fault).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(status.message()), HasSubstr("loseIndex for redis"));
}

TEST(FaultRegistry, RefusesWhatItDoesNotKnow) {
  EXPECT_EQ(MakeFault(v1::Fault()).status().code(), absl::StatusCode::kUnimplemented);
}

class FaultContract : public ::testing::TestWithParam<Case> {
 protected:
  static void SetUpTestSuite() { WireWorker::SetProgram(FIREDRILL_BINARY_DIR "/firedrill-wire"); }
  static void TearDownTestSuite() { StrikeStages(); }
  void SetUp() override {
    stage_ = StageOf(GetParam().protocol);
    ASSERT_NE(stage_, nullptr);
    stage_->Furnish(node_);
    // Whoever comes over TCP is met by faults on live traffic, and would be missed then.
    stage_->Populate(on_the_wire() ? 0 : 3);
    auto example = ExampleOf(GetParam().fault);
    ASSERT_TRUE(example.ok()) << example.status();
    message_ = *std::move(example);
    Translate(stage_->words(), &message_);
    auto fault = MakeFault(message_);
    ASSERT_TRUE(fault.ok()) << fault.status();
    fault_ = *std::move(fault);
    if (on_the_wire()) {
      node_.mutable_spec.set_name("contract");
      stage_->AddTrafficProfile(node_, "shop-db");
      const absl::Status may = ConnectRedirect::Check("");
      if (!may.ok()) GTEST_SKIP() << may;
      idle_ = stage_->NewClient();
      ASSERT_NE(idle_, nullptr);
      StartTraffic();
    }
    if (const auto lack = LackOf(kind()); lack.has_value()) GTEST_SKIP() << lack->reason;
    if (const absl::Status may = fault_->Validate(node_); absl::IsPermissionDenied(may)) {
      GTEST_SKIP() << may;
    }
    // What the test before has let go of.
    Within(absl::Seconds(5), [this] {
      before_ = Snapshot();
      if (!on_the_wire()) absl::SleepFor(absl::Milliseconds(5));
      return before_.find("firedrill") == std::string::npos &&
             (on_the_wire() || before_ == Snapshot());
    });
  }
  void TearDown() override {
    fault_.reset();
    Undo();
    traffic_ = std::jthread();
  }

  const google::protobuf::Message& body() const {
    return message_.GetReflection()->GetMessage(message_, FieldOf(kind()));
  }
  v1::Fault::KindCase kind() const { return GetParam().fault.kind; }
  bool on_the_wire() const { return IsOnTheWire(kind()); }
  // Clients that come, ask, and go, beside `idle_`, which stays.
  void StartTraffic() {
    traffic_ = std::jthread([stage = stage_](std::stop_token stop) {
      while (!stop.stop_requested()) {
        if (const auto client = stage->NewClient(); client != nullptr) {
          client->Ask();
          client->AskMuch();
        }
        absl::SleepFor(absl::Milliseconds(20));
      }
    });
  }
  void StopTraffic() {
    traffic_ = std::jthread();
    idle_.reset();
  }

  bool one_shot() const { return RuleOfKind(kind()).ending() == v1::ENDING_ONE_SHOT; }

  // What journal or reaper do after Release(); nothing for faults without lasting changes.
  void Undo() {
    for (const auto& [result, why] : journalled_.UndoAll()) {
      EXPECT_NE(result, UndoResult::kFailed) << why;
    }
  }

  std::string Snapshot() const {
    std::string snapshot = stage_->Snapshot();
    if (on_the_wire()) {
      const auto way = FindWay(StageContext("it"), node_, InterceptionOf(body()));
      const int redirects = way.ok() ? CountRedirects(way->setup.name()).value_or(-1) : -2;
      absl::StrAppend(&snapshot, "\nredirects: ", redirects);
    }
    return snapshot;
  }

  absl::Status Apply() {
    RETURN_IF_ERROR(fault_->Validate(node_));
    return fault_->Apply(StageContext("it", absl::Seconds(10)), node_, changes());
  }
  // Only a fault that says so may change anything lasting.
  Changes& changes() {
    if (RuleOfKind(kind()).ending() == v1::ENDING_JOURNALLED) return journalled_;
    return none_;
  }
  bool Reached() {
    return Within(absl::Seconds(20), [this] {
      const auto seen = fault_->Observe(StageContext("it"), node_);
      return seen.ok() && seen->reached();
    });
  }

  ContractStage* stage_ = nullptr;
  StageNode node_;
  NoChanges none_;
  StageChanges journalled_;
  v1::Fault message_;
  std::unique_ptr<Fault> fault_;
  std::string before_;
  std::unique_ptr<TrafficClient> idle_;
  std::jthread traffic_;
};

TEST_P(FaultContract, DocumentsItself) {
  const v1::KindRule& rule = RuleOfKind(kind());
  EXPECT_FALSE(rule.summary().empty());
  EXPECT_EQ(rule.summary().back(), '.');
  EXPECT_NE(rule.ending(), v1::ENDING_UNSPECIFIED);
  EXPECT_FALSE(rule.ends().empty());
  EXPECT_EQ(message_.kind_case(), kind());
  EXPECT_EQ(ProtocolOf(message_), GetParam().fault.protocol);
  EXPECT_EQ(KindName(message_), FieldOf(kind())->json_name());
}

TEST_P(FaultContract, TouchesNothingBeforeApply) {
  EXPECT_TRUE(fault_->Validate(node_).ok());
  EXPECT_FALSE(fault_->Observe(StageContext("it"), node_).ok());
  EXPECT_EQ(Snapshot(), before_);
  if (auto* prepares = dynamic_cast<Prepares*>(fault_.get()); prepares != nullptr) {
    ASSERT_TRUE(prepares->Prepare(StageContext("it"), node_).ok());
    // A control connection is all that may be there now, and it goes with Release().
    EXPECT_EQ(stage_->Held(), 0);
    fault_->Release();
    EXPECT_TRUE(Within(absl::Seconds(2), [this] { return Snapshot() == before_; }))
        << Snapshot() << "\nand before:\n"
        << before_;
  }
}

TEST_P(FaultContract, ReleaseIsLegalBeforeApplyAndTwice) {
  fault_->Release();
  fault_->Release();
  EXPECT_TRUE(fault_->ReadBack(StageContext("it"), node_).ok());
  ASSERT_TRUE(Apply().ok());
  fault_->Release();
  fault_->Release();
  Undo();
  EXPECT_TRUE(fault_->ReadBack(StageContext("it"), node_).ok());
  EXPECT_TRUE(fault_->ReadBack(StageContext("it"), node_).ok());
}

TEST_P(FaultContract, MeasuresItself) {
  ASSERT_TRUE(Apply().ok());
  ASSERT_TRUE(Reached());
  const auto seen = fault_->Observe(StageContext("it"), node_);
  ASSERT_TRUE(seen.ok()) << seen.status();
  EXPECT_GT(seen->requested(), 0);
  // What is limited is below what was asked for.
  const bool limits = seen->unit() == "bytes/s" || seen->unit() == "processors";
  EXPECT_TRUE(limits || seen->real() >= seen->requested()) << seen->real();
  EXPECT_FALSE(seen->unit().empty());
  EXPECT_FALSE(seen->detail().empty());
  EXPECT_THAT(seen->subject(), HasSubstr("/"));
}

TEST_P(FaultContract, IsGoneAfterRelease) {
  ASSERT_TRUE(Apply().ok());
  ASSERT_TRUE(Reached());
  if (!one_shot()) {
    // The look must be able to see the fault, by another pair of eyes too, or its OK means nothing.
    auto other = *MakeFault(message_);
    EXPECT_FALSE(fault_->ReadBack(StageContext("it", absl::Milliseconds(300)), node_).ok());
    EXPECT_FALSE(other->ReadBack(StageContext("it", absl::Milliseconds(300)), node_).ok());
    EXPECT_NE(Snapshot(), before_);
  }
  const absl::Duration begin = RealClock().Boot();
  fault_->Release();
  Undo();
  EXPECT_LT(RealClock().Boot() - begin, absl::Seconds(1));
  EXPECT_TRUE(fault_->ReadBack(StageContext("it"), node_).ok());
  EXPECT_LT(RealClock().Boot() - begin, absl::Seconds(2));
  fault_.reset();
  if (one_shot()) {
    EXPECT_THAT(Snapshot(), ::testing::Not(HasSubstr("firedrill")));
  } else {
    EXPECT_TRUE(Within(absl::Seconds(1), [this] { return Snapshot() == before_; }))
        << Snapshot() << "\nand before:\n"
        << before_;
  }
}

TEST_P(FaultContract, IsGoneWithTheObjectToo) {
  ASSERT_TRUE(Apply().ok());
  ASSERT_TRUE(Reached());
  fault_.reset();
  Undo();
  EXPECT_TRUE(Within(absl::Seconds(2),
                     [this] { return Snapshot().find("firedrill") == std::string::npos; }));
}

TEST_P(FaultContract, NamesWhatTheNodeLacks) {
  StageNode empty;
  const absl::Status status = fault_->Validate(empty);
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), HasSubstr("there is no"));
}

TEST_P(FaultContract, HonoursTheStop) {
  std::stop_source source;
  source.request_stop();
  Context context = StageContext("it");
  context.stop = source.get_token();
  const absl::Duration begin = RealClock().Boot();
  EXPECT_FALSE(fault_->Apply(context, node_, changes()).ok());
  EXPECT_LT(RealClock().Boot() - begin, absl::Seconds(1));
  fault_->Release();
  Undo();
  fault_.reset();
  EXPECT_TRUE(Within(absl::Seconds(2),
                     [this] { return Snapshot().find("firedrill") == std::string::npos; }));
}

const auto kName = [](const auto& info) { return NameOf(info.param); };
INSTANTIATE_TEST_SUITE_P(Inside, FaultContract, ::testing::ValuesIn(Inside()), kName);
INSTANTIATE_TEST_SUITE_P(OnTheWire, FaultContract, ::testing::ValuesIn(OnTheWire()), kName);

// What only faults on live traffic promise.
class LiveTrafficContract : public FaultContract {};

// Its word for what it has hit must be able to say no.
TEST_P(LiveTrafficContract, HasHitNothingWhereNobodyComes) {
  StopTraffic();
  ASSERT_TRUE(Apply().ok());
  for (int i = 0; i < 20; ++i) {
    const auto seen = fault_->Observe(StageContext("it"), node_);
    ASSERT_TRUE(seen.ok()) << seen.status();
    EXPECT_FALSE(seen->reached()) << seen->detail();
    absl::SleepFor(absl::Milliseconds(10));
  }
  if (one_shot()) return;
  StartTraffic();
  EXPECT_TRUE(Reached());
}

// Less than the example of a delay.
constexpr absl::Duration kUnhampered = absl::Milliseconds(150);

// A client that came while the fault was on keeps its connection, and is answered whole; who was
// reset was there before, and comes back.
TEST_P(LiveTrafficContract, ConnectionsGoOnAfterIt) {
  ASSERT_TRUE(Apply().ok());
  std::atomic<bool> released{false}, came{false}, whole{false}, unhampered{false};
  {
    const std::jthread thread([&] {
      const auto client = stage_->NewClient();
      came = client != nullptr;
      // Not as fast as it can: an HTTP server ends a connection after so many requests.
      for (; came && !released; absl::SleepFor(absl::Milliseconds(20))) client->Ask();
      whole = came && client->AskMuch();
      for (int i = 0; i < 10; ++i) whole = whole && client->Ask();
      unhampered = came && Within(absl::Seconds(5), [&] {
                     const absl::Duration begin = RealClock().Boot();
                     return client->Ask() && RealClock().Boot() - begin < kUnhampered;
                   });
    });
    EXPECT_TRUE(Reached());
    fault_->Release();
    Undo();
    EXPECT_TRUE(fault_->ReadBack(StageContext("it"), node_).ok());
    released = true;
  }
  EXPECT_TRUE(came);
  EXPECT_TRUE(whole);
  EXPECT_TRUE(unhampered);
  if (!one_shot()) return;
  EXPECT_FALSE(idle_->Ask()) << "it was to be reset";
  EXPECT_TRUE(stage_->NewClient()->Ask());
}

INSTANTIATE_TEST_SUITE_P(Every, LiveTrafficContract, ::testing::ValuesIn(OnTheWire()), kName);

// What is not looked into cannot be matched: that is said before anything is done.
TEST(FaultRegistry, RefusesToMatchRequestsOfPlainTcp) {
  StageNode node;
  v1::Profile& profile = *node.mutable_spec.add_profiles();
  profile.set_name("shop-db");
  profile.mutable_tcp()->set_host("127.0.0.1");
  profile.mutable_tcp()->set_port(1);
  int refused = 0;
  for (const RegisteredFault& fault : RegisteredFaults()) {
    if (!IsOnTheWire(fault.kind) || !LooksIntoRequests(fault.kind)) continue;
    auto example = ExampleOf(fault);
    ASSERT_TRUE(example.ok()) << example.status();
    const absl::Status status = (*MakeFault(*example))->Validate(node);
    if (absl::IsPermissionDenied(status)) GTEST_SKIP() << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("is a TCP server")) << status;
    ++refused;
  }
  EXPECT_EQ(refused, 2);
}

}  // namespace
}  // namespace firedrill
