// The undo journal: on disk before the change, whole after any crash, readable by a person.
#include "injector/journal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "tests/testing/memory_disk.h"
#include "tests/testing/sim_fault.h"

namespace firedrill {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

Undo UndoOf(const std::string& resource, const std::string& before, const std::string& after) {
  return {"sim", resource, before, after, absl::StrCat("set ", resource, " ", before)};
}

class JournalTest : public testing::Test {
 protected:
  void SetUp() override { CurrentSimSystem() = &system_; }
  void TearDown() override { CurrentSimSystem() = nullptr; }

  std::unique_ptr<Journal> Open() {
    auto journal = Journal::Open(disk_, "db-1");
    EXPECT_TRUE(journal.ok()) << journal.status();
    return *std::move(journal);
  }
  // Sets "a", "b" and "c" as a fault would.
  void BreakThree(Journal& journal) {
    journal.Begin("r1", "leak", "{}").IgnoreError();
    for (const char* name : {"a", "b", "c"}) {
      const auto recorded = journal.Record("r1", "leak", UndoOf(name, "normal", "broken"));
      if (!recorded.ok()) return;
      MaybeDie();
      system_.settings[name] = "broken";
      MaybeDie();
    }
  }
  void MaybeDie() {
    if (die_in_.has_value() && (*die_in_)-- == 0) throw Killed();
  }

  MemoryDisk disk_;
  SimSystem system_{.settings = {{"a", "normal"}, {"b", "normal"}, {"c", "normal"}}};
  std::optional<int> die_in_;
};

TEST_F(JournalTest, AnAmendedRecordIsTheNewOneOrTheOldOne) {
  for (const double torn : {0.0, 0.5, 0.99, 1.0}) {
    disk_ = MemoryDisk();
    auto journal = Open();
    const uint64_t number = *journal->Record("r1", "leak", UndoOf("a", "normal", "broken"));
    disk_.kill_in = 0;
    disk_.torn_share = torn;
    EXPECT_THROW(journal->Amend(number, UndoOf("a", "kept", "broken")).IgnoreError(), Killed);
    disk_.kill_in.reset();
    journal = Open();
    ASSERT_THAT(journal->open(), SizeIs(1));
    EXPECT_EQ(journal->open()[0].undo.before, torn < 1 ? "normal" : "kept") << torn;
    EXPECT_TRUE(journal->Amend(number, UndoOf("a", "kept", "broken")).ok());
    journal = Open();
    ASSERT_THAT(journal->open(), SizeIs(1));
    EXPECT_EQ(journal->open()[0].undo.before, "kept");
    journal->Forget(number);
    EXPECT_TRUE(Open()->empty());
  }
}

TEST_F(JournalTest, WhatCouldNotBeAmendedIsUndoneAsItWasRecorded) {
  auto journal = Open();
  const uint64_t number = *journal->Record("r1", "leak", UndoOf("a", "normal", "broken"));
  disk_.space = 10;
  EXPECT_FALSE(journal->Amend(number, UndoOf("a", "kept", "broken")).ok());
  EXPECT_EQ(journal->open().at(0).undo.before, "normal");
  EXPECT_EQ(Open()->open().at(0).undo.before, "normal");
  EXPECT_TRUE(absl::IsNotFound(journal->Amend(number + 1, UndoOf("a", "kept", "broken"))));
}

TEST_F(JournalTest, KeepsWhatIsOpenOverARestart) {
  {
    auto journal = Open();
    ASSERT_TRUE(journal->Begin("r1", "leak", "{\"name\":\"leak\"}").ok());
    ASSERT_TRUE(journal->Record("r1", "leak", UndoOf("a", "no\"rm\\al\n", "br=\"oken\"")).ok());
  }
  auto journal = Open();
  ASSERT_THAT(journal->open(), SizeIs(1));
  const Journal::Entry entry = journal->open()[0];
  EXPECT_EQ(entry.run, "r1");
  EXPECT_EQ(entry.fault, "leak");
  EXPECT_EQ(entry.undo.resource, "a");
  EXPECT_EQ(entry.undo.before, "no\"rm\\al\n");
  EXPECT_EQ(entry.undo.after, "br=\"oken\"");
  ASSERT_THAT(journal->begun(), SizeIs(1));
  EXPECT_EQ(journal->begun()[0].planned, "{\"name\":\"leak\"}");
}

TEST_F(JournalTest, SaysHowToUndoByHand) {
  auto journal = Open();
  ASSERT_TRUE(journal->Record("r1", "leak", UndoOf("/sys/x", "100", "50")).ok());
  const std::string& text = disk_.files["journal"];
  EXPECT_THAT(text, HasSubstr("# To undo by hand"));
  EXPECT_THAT(
      text, HasSubstr("resource=\"/sys/x\" before=\"100\" after=\"50\" by_hand: set /sys/x 100\n"));
}

TEST_F(JournalTest, UndoesNewestFirstAndGoesOnPastAFailure) {
  auto journal = Open();
  BreakThree(*journal);
  system_.settings["a"] = "normal";
  // Two changes of one setting: only in reverse order do they lead back.
  ASSERT_TRUE(journal->Record("r1", "leak", UndoOf("a", "normal", "first")).ok());
  ASSERT_TRUE(journal->Record("r1", "leak", UndoOf("a", "first", "second")).ok());
  system_.settings["a"] = "second";
  ASSERT_TRUE(journal->Record("r1", "leak", {"nonsense", "x", "", "", "do something"}).ok());
  const auto result = journal->RollBack("r1", "leak");
  EXPECT_EQ(system_.settings["a"], "normal");
  EXPECT_EQ(system_.settings["b"], "normal");
  EXPECT_EQ(system_.settings["c"], "normal");
  ASSERT_THAT(result.problems, SizeIs(1));
  EXPECT_TRUE(result.failed());
  EXPECT_THAT(result.problems[0].why, HasSubstr("cannot undo changes of kind \"nonsense\""));
  EXPECT_THAT(journal->open(), SizeIs(1));
}

TEST_F(JournalTest, LeavesAloneWhatSomebodyElseHasChanged) {
  auto journal = Open();
  BreakThree(*journal);
  system_.settings["b"] = "set by a person";
  const auto result = journal->RollBackAll();
  EXPECT_TRUE(result.superseded());
  EXPECT_FALSE(result.failed());
  EXPECT_EQ(system_.settings["b"], "set by a person");
  EXPECT_EQ(system_.settings["a"], "normal");
  EXPECT_THAT(journal->open(), IsEmpty());
}

TEST_F(JournalTest, OtherFaultsStayOn) {
  auto journal = Open();
  BreakThree(*journal);
  ASSERT_TRUE(journal->Record("r1", "other", UndoOf("d", "normal", "broken")).ok());
  system_.settings["d"] = "broken";
  journal->RollBack("r1", "leak");
  EXPECT_EQ(system_.settings["d"], "broken");
  EXPECT_EQ(system_.settings["a"], "normal");
}

TEST_F(JournalTest, AnEmptyJournalHasNoFile) {
  auto journal = Open();
  BreakThree(*journal);
  journal->RollBack("r1", "leak");
  EXPECT_FALSE(journal->empty());
  journal->End("r1", "leak");
  EXPECT_TRUE(journal->empty());
  EXPECT_FALSE(disk_.Exists("journal"));
}

TEST_F(JournalTest, AFullDiskRefusesAndTouchesNothing) {
  auto journal = Open();
  disk_.space = 700;
  BreakThree(*journal);
  int broken = 0;
  for (const auto& [name, value] : system_.settings) broken += value == "broken" ? 1 : 0;
  EXPECT_LT(broken, 3);
  EXPECT_THAT(journal->open(), SizeIs(broken));
  const auto refused = journal->Record("r1", "leak", UndoOf("c", "normal", "broken"));
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("writing the undo journal"));
  // What was written before the disk was full is undone on the full disk.
  journal->RollBackAll();
  EXPECT_TRUE(system_.Clean());
  journal->End("r1", "leak");
  EXPECT_FALSE(disk_.Exists("journal"));
}

TEST_F(JournalTest, WritesOnAfterADiskThatWasFull) {
  auto journal = Open();
  ASSERT_TRUE(journal->Record("r1", "leak", UndoOf("a", "normal", "broken")).ok());
  disk_.space = 30;
  EXPECT_FALSE(journal->Record("r1", "leak", UndoOf("b", "normal", "broken")).ok());
  disk_.space.reset();
  ASSERT_TRUE(journal->Record("r1", "leak", UndoOf("c", "normal", "broken")).ok());
  auto again = Open();
  EXPECT_THAT(again->damaged(), IsEmpty()) << disk_.files["journal"];
  ASSERT_THAT(again->open(), SizeIs(2));
  EXPECT_EQ(again->open()[1].undo.resource, "c");
}

// The later of two would keep the earlier one's broken value as the one to put back.
TEST_F(JournalTest, TwoFaultsDoNotChangeTheSameThing) {
  auto journal = Open();
  ASSERT_TRUE(journal->Record("r1", "leak", UndoOf("a", "normal", "broken")).ok());
  for (const auto& [run, fault] : {std::pair("r2", "leak"), std::pair("r1", "cut")}) {
    const absl::Status second =
        journal->Record(run, fault, UndoOf("a", "broken", "worse")).status();
    EXPECT_TRUE(absl::IsAlreadyExists(second)) << second;
    EXPECT_THAT(second.message(),
                HasSubstr("a is changed by the fault leak of the run r1 already"));
  }
  // The same fault may, and what is undone is free again; also for whoever reads the journal later.
  EXPECT_TRUE(journal->Record("r1", "leak", UndoOf("a", "broken", "worse")).ok());
  EXPECT_FALSE(Open()->Record("r2", "leak", UndoOf("a", "worse", "worst")).ok());
  journal->RollBack("r1", "leak");
  EXPECT_TRUE(journal->Record("r2", "leak", UndoOf("a", "normal", "broken")).ok());
}

TEST_F(JournalTest, ADamagedLineInTheMiddleIsNamedAndKept) {
  auto journal = Open();
  BreakThree(*journal);
  std::string& text = disk_.files["journal"];
  text = absl::StrReplaceAll(text, {{"resource=\"b\"", "resource=\"B\""}});
  auto again = Open();
  ASSERT_THAT(again->damaged(), SizeIs(1));
  EXPECT_THAT(again->damaged()[0], HasSubstr("resource=\"B\""));
  again->RollBackAll();
  again->End("r1", "leak");
  EXPECT_EQ(system_.settings["a"], "normal");
  EXPECT_FALSE(again->empty());
  EXPECT_THAT(Open()->damaged(), SizeIs(1));
}

TEST_F(JournalTest, StaysSmallOverManyFaults) {
  auto journal = Open();
  ASSERT_TRUE(journal->Record("r0", "long", UndoOf("d", "normal", "broken")).ok());
  for (int i = 0; i < 3000; ++i) {
    ASSERT_TRUE(journal->Record("r1", "leak", UndoOf("a", "normal", "broken")).ok());
    journal->RollBack("r1", "leak");
  }
  EXPECT_LT(disk_.files["journal"].size(), 400'000u);
  EXPECT_THAT(Open()->open(), SizeIs(1));
}

// Killed at every write and at every step between them, in the change and in the undoing: the next
// one to open the journal restores everything.
TEST_F(JournalTest, NothingIsLeftAfterAKillAtAnyPoint) {
  int points = 0;
  for (const double torn : {0.0, 0.5, 0.97, 1.0}) {
    for (const bool at_write : {true, false}) {
      for (int point = 0;; ++point) {
        disk_ = MemoryDisk();
        disk_.torn_share = torn;
        system_.settings = {{"a", "normal"}, {"b", "normal"}, {"c", "normal"}};
        if (at_write) {
          disk_.kill_in = point;
          die_in_.reset();
        } else {
          die_in_ = point;
        }
        bool killed = false;
        try {
          auto journal = Open();
          BreakThree(*journal);
          journal->RollBack("r1", "leak");
          journal->End("r1", "leak");
        } catch (const Killed&) {
          killed = true;
        }
        disk_.kill_in.reset();
        die_in_.reset();
        if (!killed) {
          EXPECT_GT(point, 5);
          break;
        }
        ++points;
        auto journal = Open();
        const auto result = journal->RollBackAll();
        EXPECT_TRUE(system_.Clean()) << "torn " << torn << ", point " << point << "\n"
                                     << disk_.files["journal"];
        EXPECT_THAT(result.problems, IsEmpty());
        EXPECT_THAT(journal->damaged(), IsEmpty()) << disk_.files["journal"];
        for (const auto& begun : journal->begun()) journal->End(begun.run, begun.fault);
        EXPECT_TRUE(journal->empty());
      }
    }
  }
  EXPECT_GT(points, 40);
}

// Killed while undoing, again and again, each time a little later.
TEST_F(JournalTest, UndoingThatIsKilledIsTakenUpAgain) {
  for (int point = 0; point < 8; ++point) {
    disk_ = MemoryDisk();
    system_.settings = {{"a", "normal"}, {"b", "normal"}, {"c", "normal"}};
    BreakThree(*Open());
    disk_.kill_in = point;
    try {
      Open()->RollBackAll();
    } catch (const Killed&) {
    }
    disk_.kill_in.reset();
    Open()->RollBackAll();
    EXPECT_TRUE(system_.Clean()) << point;
    EXPECT_THAT(Open()->open(), IsEmpty());
  }
}

}  // namespace
}  // namespace firedrill
