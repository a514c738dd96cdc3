// What every fault promises, asked of each one that is registered, for each of its protocols, on
// the stage that its own example needs. A new fault is tested here without a change, as long as its
// example finds its profile on the stage of its protocol.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <libpq-fe.h>

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

// Of the examples of a kind, the one that is for this protocol.
absl::StatusOr<v1::Fault> ExampleOf(const RegisteredFault& fault) {
  for (const std::string& text : ExamplesOf(RuleOfKind(fault.kind))) {
    ASSIGN_OR_RETURN(v1::Fault example, ParseExample(text));
    if (ProtocolOf(example) == fault.protocol) return example;
  }
  return absl::NotFoundError(absl::StrCat(FieldOf(fault.kind)->json_name(), " has no example for ",
                                          v1::Protocol_Name(fault.protocol)));
}

// "holdConnections", "holdConnectionsMysql".
std::string NameOf(const RegisteredFault& fault) {
  std::string name = FieldOf(fault.kind)->json_name();
  if (fault.protocol == v1::PROTOCOL_UNSPECIFIED || fault.protocol == v1::PROTOCOL_POSTGRESQL) {
    return name;
  }
  for (const EnumWord& word : WordsOf(v1::Protocol_descriptor())) {
    if (word.value->number() != fault.protocol) continue;
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

class FaultContract : public ::testing::TestWithParam<RegisteredFault> {
 protected:
  static void SetUpTestSuite() { WireWorker::SetProgram(FIREDRILL_BINARY_DIR "/firedrill-wire"); }
  static void TearDownTestSuite() { StrikeStages(); }
  void SetUp() override {
    stage_ = StageOf(GetParam().protocol);
    ASSERT_NE(stage_, nullptr);
    stage_->Furnish(node_);
    stage_->Populate();
    auto example = ExampleOf(GetParam());
    ASSERT_TRUE(example.ok()) << example.status();
    message_ = *std::move(example);
    auto fault = MakeFault(message_);
    ASSERT_TRUE(fault.ok()) << fault.status();
    fault_ = *std::move(fault);
    if (on_the_wire()) {
      node_.mutable_spec.set_name("contract");
      node_.AddProfile("shop-db", "127.0.0.1", stage_->port(), "postgres", "");
      const absl::Status may = ConnectRedirect::Check("");
      if (!may.ok()) GTEST_SKIP() << may;
      StartTraffic();
    }
    // What the test before has let go of.
    Within(absl::Seconds(5), [this] { return Snapshot().find("firedrill") == std::string::npos; });
    before_ = Snapshot();
  }
  void TearDown() override {
    fault_.reset();
    Undo();
    traffic_ = std::jthread();
  }

  const google::protobuf::Message& body() const {
    return message_.GetReflection()->GetMessage(message_, FieldOf(GetParam().kind));
  }
  // Faults on live traffic need some, and hit nothing that the server itself would show.
  bool on_the_wire() const {
    return body().GetDescriptor()->FindFieldByName("client_user") != nullptr;
  }
  // Clients that come, ask, and go, beside one that stays.
  void StartTraffic() {
    const std::string target = absl::StrCat(
        "host=127.0.0.1 port=", stage_->port(), " user=postgres password=postgres dbname=postgres",
        " application_name=traffic connect_timeout=2 sslmode=disable gssencmode=disable");
    idle_ = {PQconnectdb(target.c_str()), PQfinish};
    ASSERT_EQ(PQstatus(idle_.get()), CONNECTION_OK) << PQerrorMessage(idle_.get());
    traffic_ = std::jthread([target](std::stop_token stop) {
      while (!stop.stop_requested()) {
        PGconn* session = PQconnectdb(target.c_str());
        // Whether there is such a table does not matter to who listens on the wire.
        for (const char* sql : {"SELECT count(*) FROM users", "SELECT repeat('x', 100000)"}) {
          PQclear(PQexec(session, sql));
        }
        PQfinish(session);
        absl::SleepFor(absl::Milliseconds(20));
      }
    });
  }

  bool one_shot() const { return RuleOfKind(GetParam().kind).ending() == v1::ENDING_ONE_SHOT; }

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
    if (RuleOfKind(GetParam().kind).ending() == v1::ENDING_JOURNALLED) return journalled_;
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
  std::unique_ptr<PGconn, decltype(&PQfinish)> idle_{nullptr, PQfinish};
  std::jthread traffic_;
};

TEST_P(FaultContract, DocumentsItself) {
  const v1::KindRule& rule = RuleOfKind(GetParam().kind);
  EXPECT_FALSE(rule.summary().empty());
  EXPECT_EQ(rule.summary().back(), '.');
  EXPECT_NE(rule.ending(), v1::ENDING_UNSPECIFIED);
  EXPECT_FALSE(rule.ends().empty());
  EXPECT_EQ(message_.kind_case(), GetParam().kind);
  EXPECT_EQ(ProtocolOf(message_), GetParam().protocol);
  EXPECT_EQ(KindName(message_), FieldOf(GetParam().kind)->json_name());
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
    EXPECT_TRUE(Within(absl::Seconds(2), [this] { return Snapshot() == before_; })) << Snapshot();
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
  if (seen->unit() != "bytes/s") EXPECT_GE(seen->real(), seen->requested());
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
    EXPECT_TRUE(Within(absl::Seconds(1), [this] { return Snapshot() == before_; })) << Snapshot();
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

INSTANTIATE_TEST_SUITE_P(Every, FaultContract, ::testing::ValuesIn(RegisteredFaults()),
                         [](const auto& info) { return NameOf(info.param); });

}  // namespace
}  // namespace firedrill
