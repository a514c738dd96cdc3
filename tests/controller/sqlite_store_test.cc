// What the SQLite store promises beyond the contract of all stores: durability, other processes,
// bad files.
#include "controller/sqlite_store.h"

#include <SQLiteCpp/SQLiteCpp.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/time_proto.h"
#include "tests/testing/child.h"

namespace firedrill {
namespace {

using testing::HasSubstr;

class SqliteStoreTest : public testing::Test {
 protected:
  std::unique_ptr<SqliteStore> Open() {
    auto store = SqliteStore::Open(path_);
    EXPECT_TRUE(store.ok()) << store.status();
    return store.ok() ? *std::move(store) : nullptr;
  }
  static v1::Event Created(const std::string& experiment = "leak") {
    v1::Event event;
    *event.mutable_at() = ToProto(absl::FromUnixSeconds(1000));
    event.mutable_created()->mutable_experiment()->mutable_metadata()->set_name(experiment);
    return event;
  }
  static v1::Event Timer(const std::string& name) {
    v1::Event event;
    event.mutable_timer()->set_name(name);
    return event;
  }

  // Does `work` in so many processes at the same time; the number of those in which it was true.
  // Call it while no store is open here: SQLite's connections do not survive a fork.
  static int InProcesses(int count, const std::function<bool(int)>& work) {
    int ready[2];
    EXPECT_EQ(pipe(ready), 0);
    std::vector<pid_t> children;
    for (int i = 0; i < count; ++i) {
      const pid_t child = fork();
      if (child == 0) {
        close(ready[1]);
        char go = 0;
        (void)!read(ready[0], &go, 1);  // Until the parent closes its end: all begin together.
        _exit(work(i) ? 0 : 1);
      }
      children.push_back(child);
    }
    close(ready[0]);
    close(ready[1]);
    int good = 0;
    for (const pid_t child : children) {
      int status = 0;
      waitpid(child, &status, 0);
      good += WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 1 : 0;
    }
    return good;
  }

  TempDir folder_{"firedrill-store"};
  const std::string path_ = folder_.path() + "/history.db";
};

TEST_F(SqliteStoreTest, ReadsBackAfterReopening) {
  auto store = Open();
  ASSERT_TRUE(store->Append("r1", 1, 1, {Created(), Timer("a")}).ok());
  store = Open();
  EXPECT_EQ(store->Read("r1", 2)->front().timer().name(), "a");
  EXPECT_TRUE(store->Append("r1", 3, 1, {Timer("b")}).ok());
}

TEST_F(SqliteStoreTest, EpochsGrowAcrossReopening) {
  EXPECT_EQ(*Open()->TakeEpoch(), 1u);
  EXPECT_EQ(*Open()->TakeEpoch(), 2u);
}

TEST_F(SqliteStoreTest, IsSyncedWriteAheadAndStrictAndTheOwnersAlone) {
  const auto store = Open();
  SQLite::Database other(path_, SQLite::OPEN_READWRITE);
  EXPECT_EQ(other.execAndGet("PRAGMA journal_mode").getString(), "wal");
  SQLite::Statement tables(other,
                           "SELECT name, strict FROM pragma_table_list WHERE schema = 'main' "
                           "AND name NOT LIKE 'sqlite_%'");
  int count = 0;
  for (; tables.executeStep(); ++count) {
    EXPECT_EQ(tables.getColumn(1).getInt(), 1) << tables.getColumn(0).getString();
  }
  EXPECT_EQ(count, 6);
  struct stat info {};
  ASSERT_EQ(stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST_F(SqliteStoreTest, HistoryCannotBeChangedByAnyone) {
  ASSERT_TRUE(Open()->Append("r1", 1, 1, {Created()}).ok());
  SQLite::Database other(path_, SQLite::OPEN_READWRITE);
  EXPECT_THROW(other.exec("DELETE FROM event"), SQLite::Exception);
  EXPECT_THROW(other.exec("UPDATE event SET epoch = 9"), SQLite::Exception);
}

TEST_F(SqliteStoreTest, AFullDiskIsAnErrorAndLosesNothing) {
  auto store = Open();
  ASSERT_TRUE(store->Append("r1", 1, 1, {Created()}).ok());
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  signal(SIGXFSZ, SIG_IGN);
  const rlimit small{200 << 10, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  absl::Status status;
  uint64_t seq = 2;
  for (; seq < 1000 && status.ok(); ++seq) {
    status = store->Append("r1", seq, 1, {Timer(std::string(4096, 'x'))});
  }
  setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(status.message(), HasSubstr(absl::StrCat("appending to the history in ", path_)));
  EXPECT_THAT(status.message(), HasSubstr("check the disk's free space"));
  store = Open();
  EXPECT_EQ(store->Read("r1", 1)->size(), seq - 2);
  EXPECT_TRUE(store->Append("r1", seq - 1, 1, {Timer("after space was made")}).ok());
}

// All of several events or none, also where the disk fills up in the middle of them.
TEST_F(SqliteStoreTest, AnAppendThatDoesNotFitLeavesNothingOfItself) {
  auto store = Open();
  ASSERT_TRUE(store->Append("r1", 1, 1, {Created()}).ok());
  {
    // No larger than it is: as a full disk, with SQLite's own word for it.
    SQLite::Database other(path_, SQLite::OPEN_READWRITE);
    other.exec("PRAGMA wal_checkpoint(TRUNCATE)");
  }
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  signal(SIGXFSZ, SIG_IGN);
  const rlimit small{100 << 10, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  const std::vector<v1::Event> many(100, Timer(std::string(4096, 'x')));
  EXPECT_FALSE(store->Append("r1", 2, 1, many).ok());
  setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_EQ(store->Read("r1", 1)->size(), 1u);
  EXPECT_TRUE(store->Append("r1", 2, 1, many).ok());
  EXPECT_EQ(Open()->Read("r1", 1)->size(), 101u);
}

TEST_F(SqliteStoreTest, RefusesAFileOfANewerVersionAndLeavesItAsItIs) {
  {
    SQLite::Database newer(path_, SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE);
    newer.exec("CREATE TABLE what_comes_next (a INTEGER) STRICT; PRAGMA user_version = 3");
  }
  const std::string before = ReadFile(path_);
  const absl::Status refused = SqliteStore::Open(path_).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
  EXPECT_THAT(refused.message(), HasSubstr(path_));
  EXPECT_THAT(refused.message(),
              HasSubstr("written by a newer firedrill (schema 3, this one knows 2)"));
  EXPECT_EQ(ReadFile(path_), before);
}

// The tables as version 1 made them, with a run that was undone, one that was not, and one that
// goes on.
TEST_F(SqliteStoreTest, AFileOfTheVersionBeforeIsBroughtToThisOne) {
  {
    SQLite::Database older(path_, SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE);
    older.exec(R"sql(
      CREATE TABLE run (
        run TEXT PRIMARY KEY, experiment TEXT NOT NULL, created INTEGER NOT NULL,
        epoch INTEGER NOT NULL, next INTEGER NOT NULL,
        phase INTEGER NOT NULL DEFAULT 0, outcome INTEGER NOT NULL DEFAULT 0
      ) STRICT;
      CREATE TABLE event (
        run TEXT NOT NULL, seq INTEGER NOT NULL, epoch INTEGER NOT NULL, body BLOB NOT NULL,
        PRIMARY KEY (run, seq)
      ) STRICT, WITHOUT ROWID;
      CREATE TRIGGER event_is_never_changed BEFORE UPDATE ON event
        BEGIN SELECT RAISE(ABORT, 'the history is append-only'); END;
      CREATE TRIGGER event_is_never_deleted BEFORE DELETE ON event
        BEGIN SELECT RAISE(ABORT, 'the history is append-only'); END;
      CREATE TABLE epoch (
        only_one INTEGER PRIMARY KEY CHECK (only_one = 1), value INTEGER NOT NULL
      ) STRICT;
      CREATE TABLE inbox (
        receiver TEXT NOT NULL, fingerprint TEXT NOT NULL, starts_at INTEGER NOT NULL,
        status TEXT NOT NULL,
        PRIMARY KEY (receiver, fingerprint, starts_at, status)
      ) STRICT, WITHOUT ROWID;
      INSERT INTO epoch VALUES (1, 41);
      INSERT INTO run VALUES ('undone', 'leak', 1000000, 1, 3, 6, 1);
      INSERT INTO run VALUES ('stuck', 'leak', 2000000, 1, 3, 6, 3);
      INSERT INTO run VALUES ('going', 'leak', 3000000, 1, 2, 3, 0);
      PRAGMA user_version = 1)sql");
    const auto add = [&older](const std::string& run, int seq, const v1::Event& event) {
      SQLite::Statement insert(older, "INSERT INTO event VALUES (?, ?, 1, ?)");
      const std::string body = event.SerializeAsString();
      insert.bind(1, run);
      insert.bind(2, seq);
      insert.bind(3, body.data(), static_cast<int>(body.size()));
      insert.exec();
    };
    v1::Event finished;
    for (const bool confirmed : {true, false}) {
      add(confirmed ? "undone" : "stuck", 1, Created());
      finished.mutable_finished()->set_undo_confirmed(confirmed);
      add(confirmed ? "undone" : "stuck", 2, finished);
    }
    add("going", 1, Created());
  }
  EXPECT_EQ(Open()->Read("undone", 1)->size(), 2u);
  auto store = Open();
  EXPECT_EQ(*store->TakeEpoch(), 42u);
  EXPECT_TRUE(store->Append("going", 2, 1, {Timer("goes on")}).ok());
  v1::Slot slot;
  slot.set_experiment("leak");
  EXPECT_TRUE(*store->ClaimSlot(slot));
  // Only what is known to be undone may go.
  EXPECT_EQ(*store->Forget(0, absl::InfiniteFuture()), 1u);
  EXPECT_TRUE(absl::IsNotFound(store->Read("undone", 1).status()));
  EXPECT_EQ(store->List(10)->size(), 2u);
}

TEST_F(SqliteStoreTest, OfARunThatIsNotUndoneNobodyCanDeleteAnything) {
  v1::Event finished;
  finished.mutable_finished()->set_outcome(v1::OUTCOME_ABORTED);
  ASSERT_TRUE(Open()->Append("r1", 1, 1, {Created(), finished}).ok());
  SQLite::Database other(path_, SQLite::OPEN_READWRITE);
  EXPECT_THROW(other.exec("DELETE FROM run"), SQLite::Exception);
  EXPECT_THROW(other.exec("DELETE FROM event"), SQLite::Exception);
}

TEST_F(SqliteStoreTest, SaysWhatIsWrongWithAFileThatIsNoHistory) {
  WriteFile(path_, std::string(8192, 'x'));
  const absl::Status refused = SqliteStore::Open(path_).status();
  EXPECT_TRUE(absl::IsDataLoss(refused)) << refused;
  EXPECT_THAT(refused.message(), HasSubstr(absl::StrCat("opening the history in ", path_)));
  EXPECT_THAT(refused.message(), HasSubstr("move the file away"));
  EXPECT_EQ(ReadFile(path_), std::string(8192, 'x'));
  // A folder where the file should be.
  const absl::Status folder = SqliteStore::Open(folder_.path()).status();
  EXPECT_THAT(folder.message(), HasSubstr(absl::StrCat("opening the history in ", folder_.path())));
}

TEST_F(SqliteStoreTest, ManyProcessesMayMakeTheSameFileAtOnce) {
  constexpr int kProcesses = 8;
  for (int round = 0; round < 5; ++round) {
    for (const char* ending : {"", "-wal", "-shm"}) std::filesystem::remove(path_ + ending);
    EXPECT_EQ(InProcesses(kProcesses,
                          [this](int i) {
                            auto store = SqliteStore::Open(path_);
                            if (!store.ok()) return false;
                            return (*store)->TakeEpoch().ok() &&
                                   (*store)->Append(absl::StrCat("r", i), 1, 1, {Created()}).ok();
                          }),
              kProcesses);
    EXPECT_EQ(Open()->List(100)->size(), static_cast<size_t>(kProcesses));
    EXPECT_EQ(*Open()->TakeEpoch(), kProcesses + 1u);
  }
}

// Two writers of one run: each event has one of them, and none is lost between.
TEST_F(SqliteStoreTest, OfTwoProcessesOneAppendsTheNextEvent) {
  constexpr int kEach = 100;
  ASSERT_TRUE(Open()->Append("r1", 1, 1, {Created()}).ok());
  EXPECT_EQ(InProcesses(2,
                        [this](int i) {
                          auto store = SqliteStore::Open(path_);
                          if (!store.ok()) return false;
                          uint64_t next = 2;
                          for (int done = 0; done < kEach; ++next) {
                            const absl::Status status = (*store)->Append(
                                "r1", next, 1, {Timer(absl::StrCat(i, "/", done))});
                            if (status.ok()) ++done;
                            if (!status.ok() && !absl::IsAborted(status)) return false;
                          }
                          return true;
                        }),
            2);
  const auto events = Open()->Read("r1", 2);
  ASSERT_TRUE(events.ok()) << events.status();
  ASSERT_EQ(events->size(), 2u * kEach);
  int next[2] = {0, 0};
  for (const v1::Event& event : *events) {
    const int who = event.timer().name()[0] - '0';
    EXPECT_EQ(event.timer().name(), absl::StrCat(who, "/", next[who]++));
  }
}

TEST_F(SqliteStoreTest, ASecondProcessReadsWhileARunIsWritten) {
  auto writer = Open();
  ASSERT_TRUE(writer->Append("r1", 1, 1, {Created(), Timer("a")}).ok());
  auto reader = Open();
  EXPECT_EQ(reader->Read("r1", 1)->size(), 2u);
  ASSERT_TRUE(writer->Append("r1", 3, 1, {Timer("b")}).ok());
  EXPECT_EQ(reader->Read("r1", 1)->size(), 3u);
}

}  // namespace
}  // namespace firedrill
