// The reaper with real processes: whatever happens to an injector, what it has changed is put back.
#include "injector/reaper.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/clock.h"
#include "base/event_loop.h"
#include "base/unique_fd.h"
#include "injector/journal.h"
#include "injector/leftovers.h"
#include "injector/small_file.h"
#include "injector/state_dir.h"
#include "injector/watchdog.h"
#include "tests/testing/child.h"

namespace firedrill {
namespace {

constexpr char kNode[] = "db-1";
constexpr absl::Duration kLease = absl::Milliseconds(600);
constexpr absl::Duration kLongLease = absl::Seconds(10);
// Generous, for machines under load; what was measured is printed.
constexpr absl::Duration kSlack = absl::Seconds(5);

// The smallest injector there is: it holds the lock, has changed a file, and beats.
class Victim {
 public:
  enum class Then { kBeat, kHangTheLoop, kShortenTheLease, kEndInGoodOrder, kEndWithoutGoodbye };

  Victim(const std::string& state_dir, const std::string& file, Then then = Then::kBeat) {
    int ends[2];
    if (pipe(ends) != 0) abort();
    pid_ = fork();
    if (pid_ == 0) {
      close(ends[0]);
      Live(state_dir, file, then, ends[1]);
    }
    close(ends[1]);
    const UniqueFd answer(ends[0]);
    // Signals go to this number: 0 would be everybody who runs the tests.
    if (read(answer.get(), &reaper_, sizeof(reaper_)) != sizeof(reaper_) || reaper_ <= 0) {
      std::fprintf(stderr, "the injector under test ended, or had no reaper\n");
      abort();
    }
  }
  ~Victim() {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
  }
  pid_t pid() const { return pid_; }
  pid_t reaper() const { return reaper_; }
  void Reap() {
    waitpid(pid_, &status_, 0);
    pid_ = 0;
  }
  int status() const { return status_; }

 private:
  [[noreturn]] static void Live(const std::string& state_dir, const std::string& file, Then then,
                                int answer) {
    {
      auto lock = NodeLock::Take(state_dir, kNode);
      FileDisk disk(NodeFolder(state_dir, kNode));
      auto journal = *Journal::Open(disk, kNode);
      EventLoop loop;
      absl::Duration lease = then == Then::kShortenTheLease ? kLongLease : kLease;
      Watchdog watchdog(loop, {.program = std::string(FIREDRILL_BINARY_DIR) + "/firedrill-reaper",
                               .state_dir = state_dir,
                               .node = kNode,
                               .lease = [&lease] { return lease; },
                               .lost = [](const std::string&) { _exit(77); }});
      absl::Status started;
      loop.Run([&] { started = watchdog.Start(); });
      if (!lock.ok() || !started.ok()) _exit(78);
      journal->Record("r1", "squeeze", {"file", file, "100", "50", "echo 100"}).IgnoreError();
      WriteSmallFile(file, "50").IgnoreError();
      pid_t reaper = 0;
      loop.Run([&] {
        reaper = watchdog.reaper();
        if (then != Then::kShortenTheLease) return;
        lease = kLease;
        watchdog.BeatNow();
      });
      if (write(answer, &reaper, sizeof(reaper)) != sizeof(reaper)) _exit(79);
      switch (then) {
        case Then::kHangTheLoop:
          loop.Post([] { pause(); });
          break;
        case Then::kEndInGoodOrder:
          journal->RollBackAll();
          loop.Run([&] { watchdog.Goodbye(); });
          _exit(0);
        case Then::kEndWithoutGoodbye:
          _exit(0);
        case Then::kBeat:
        case Then::kShortenTheLease:
          break;
      }
      while (true) pause();
    }
  }

  pid_t pid_ = 0;
  pid_t reaper_ = 0;
  int status_ = 0;
};

class ReaperTest : public testing::Test {
 protected:
  // Orphaned reapers come to us, so that their end can be seen.
  void SetUp() override {
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    WriteFile(file_, "100\n");
  }
  void TearDown() override { prctl(PR_SET_CHILD_SUBREAPER, 0); }

  // How long until the file is what it was; infinite where it never is.
  absl::Duration Restored(absl::Duration within) {
    const absl::Duration begin = RealClock().Boot();
    while (RealClock().Boot() - begin < within) {
      if (ReadFile(file_) == "100\n") return RealClock().Boot() - begin;
      absl::SleepFor(absl::Milliseconds(1));
    }
    return absl::InfiniteDuration();
  }
  // The exit code of an orphan that came to us.
  static int CodeOf(pid_t reaper) {
    int status = 0;
    for (int i = 0; i < 2000; ++i) {
      if (waitpid(reaper, &status, WNOHANG) == reaper)
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
      absl::SleepFor(absl::Milliseconds(5));
    }
    return -2;
  }

  TempDir folder_{"firedrill-reaper"};
  const std::string dir_ = folder_.path() + "/state";
  const std::string file_ = folder_.path() + "/value";
};

TEST_F(ReaperTest, UndoesWhenTheInjectorIsKilled) {
  Victim victim(dir_, file_);
  ASSERT_GT(victim.reaper(), 0);
  ASSERT_EQ(ReadFile(file_), "50\n");
  kill(victim.pid(), SIGKILL);
  const absl::Duration took = Restored(kSlack);
  RecordProperty("milliseconds", static_cast<int>(absl::ToInt64Milliseconds(took)));
  EXPECT_LT(took, kSlack);
  victim.Reap();
  EXPECT_EQ(CodeOf(victim.reaper()), 0);
  EXPECT_TRUE(Leftovers(dir_).empty());
}

TEST_F(ReaperTest, KillsAndUndoesWhenTheInjectorIsStopped) {
  Victim victim(dir_, file_);
  kill(victim.pid(), SIGSTOP);
  const absl::Duration took = Restored(kLease + kSlack);
  RecordProperty("milliseconds", static_cast<int>(absl::ToInt64Milliseconds(took)));
  EXPECT_LT(took, kLease + kSlack);
  EXPECT_GT(took, kLease - kLease / 5 - absl::Milliseconds(200)) << "before a beat was overdue";
  victim.Reap();
  EXPECT_EQ(WTERMSIG(victim.status()), SIGKILL);
  EXPECT_EQ(CodeOf(victim.reaper()), 0);
}

// Its threads run, only the one that decides does not: leases would not be seen to end.
TEST_F(ReaperTest, KillsAndUndoesWhenOnlyTheLoopHangs) {
  Victim victim(dir_, file_, Victim::Then::kHangTheLoop);
  EXPECT_LT(Restored(kLease + kSlack), kLease + kSlack);
  victim.Reap();
  EXPECT_EQ(WTERMSIG(victim.status()), SIGKILL);
  EXPECT_EQ(CodeOf(victim.reaper()), 0);
}

// Stopped before the next ordinary beat: only the beat at once can have told of the new lease.
TEST_F(ReaperTest, IsNoMorePatientThanALeaseThatHasJustBecomeShorter) {
  Victim victim(dir_, file_, Victim::Then::kShortenTheLease);
  kill(victim.pid(), SIGSTOP);
  EXPECT_LT(Restored(kLongLease + kSlack), kLease + kSlack);
  victim.Reap();
  EXPECT_EQ(WTERMSIG(victim.status()), SIGKILL);
  EXPECT_EQ(CodeOf(victim.reaper()), 0);
}

TEST_F(ReaperTest, LeavesALivingInjectorAlone) {
  Victim victim(dir_, file_);
  absl::SleepFor(3 * kLease);
  EXPECT_EQ(ReadFile(file_), "50\n");
  EXPECT_EQ(kill(victim.pid(), 0), 0);
}

TEST_F(ReaperTest, EndsInSilenceWithAnInjectorThatEndsInGoodOrder) {
  Victim victim(dir_, file_, Victim::Then::kEndInGoodOrder);
  victim.Reap();
  EXPECT_EQ(CodeOf(victim.reaper()), 0);
  EXPECT_EQ(ReadFile(file_), "100\n");
}

TEST_F(ReaperTest, UndoesAfterAnExitThatWasNoGoodOrder) {
  Victim victim(dir_, file_, Victim::Then::kEndWithoutGoodbye);
  victim.Reap();
  EXPECT_LT(Restored(kSlack), kSlack);
  EXPECT_EQ(CodeOf(victim.reaper()), 0);
}

TEST_F(ReaperTest, AnotherReaperIsStartedWhenOneDies) {
  Victim victim(dir_, file_);
  kill(victim.reaper(), SIGKILL);
  absl::SleepFor(absl::Seconds(1));  // Some beats, in which the death is seen.
  EXPECT_EQ(ReadFile(file_), "50\n");
  kill(victim.pid(), SIGKILL);
  EXPECT_LT(Restored(kSlack), kSlack);
  victim.Reap();
  while (waitpid(-1, nullptr, 0) > 0) {  // The second reaper.
  }
}

TEST_F(ReaperTest, SignalsOfATerminalDoNotReachIt) {
  Victim victim(dir_, file_);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) kill(victim.reaper(), signal);
  EXPECT_NE(getsid(victim.reaper()), getsid(0));
  absl::SleepFor(absl::Milliseconds(50));
  kill(victim.pid(), SIGKILL);
  EXPECT_LT(Restored(kSlack), kSlack);
  victim.Reap();
  EXPECT_EQ(CodeOf(victim.reaper()), 0);
}

TEST_F(ReaperTest, BothKilledIsUndoneByWhoeverComesNext) {
  pid_t reaper;
  {
    Victim victim(dir_, file_);
    reaper = victim.reaper();
    kill(reaper, SIGSTOP);
    kill(victim.pid(), SIGKILL);
    kill(reaper, SIGKILL);
  }
  CodeOf(reaper);
  EXPECT_EQ(ReadFile(file_), "50\n");
  const auto replayed = ReplayOwnerless(dir_, absl::Seconds(1));
  ASSERT_EQ(replayed.size(), 1u);
  EXPECT_EQ(ReadFile(file_), "100\n");
}

TEST_F(ReaperTest, DoesNotMakeARemovedStateFolderAgain) {
  pid_t reaper;
  {
    Victim victim(dir_, file_);
    reaper = victim.reaper();
    std::filesystem::remove_all(dir_);
  }
  EXPECT_EQ(CodeOf(reaper), 0);
  EXPECT_FALSE(std::filesystem::exists(dir_));
}

TEST_F(ReaperTest, SaysWhatItCannotUndo) {
  pid_t reaper;
  {
    Victim victim(dir_, file_);
    reaper = victim.reaper();
    // Nothing can be written where a folder stands.
    unlink(file_.c_str());
    ASSERT_EQ(mkdir(file_.c_str(), 0700), 0);
  }
  EXPECT_EQ(CodeOf(reaper), 5);
  ASSERT_EQ(Leftovers(dir_).size(), 1u);
  rmdir(file_.c_str());
}

TEST_F(ReaperTest, IsNotForPeople) {
  const std::string log = folder_.path() + "/log";
  auto child = Child::Start(
      {.arguments = {std::string(FIREDRILL_BINARY_DIR) + "/firedrill-reaper"}, .log = log});
  ASSERT_TRUE(child.ok());
  EXPECT_EQ(*(*child)->Wait(absl::Seconds(5)), 2);
  EXPECT_THAT(ReadFile(log), testing::HasSubstr("firedrill leftovers"));
}

}  // namespace
}  // namespace firedrill
