// "Nothing else running": starts a controller and the site's injectors for one run, on Unix sockets
// in a folder of their own, and sees them end. They are the same binaries as everywhere.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "cli/child.h"
#include "firedrill/v1/site.pb.h"

namespace firedrill {

class PrivateRun {
 public:
  struct Options {
    std::string site_file;
    v1::Site site;
    std::string state_dir;
    // The controller alone: nothing will be broken (plan).
    bool with_injectors = true;
  };
  // Blocks until the controller's socket is there, or says why it is not (with its last words).
  // Also until each injector has its node, or has ended by itself. FAILED_PRECONDITION where
  // another run has one of the site's nodes, mostly before anything is started: nothing is left
  // running. CANCELLED where one of the signals that BlockSignals() blocks is waiting.
  static absl::StatusOr<PrivateRun> Start(const Options& options);
  PrivateRun(PrivateRun&&) = default;
  PrivateRun& operator=(PrivateRun&&) = default;

  // "unix:/tmp/…", for gRPC.
  const std::string& address() const { return address_; }
  // Starts injectors again that ended by themselves, at most a few times each: a new one replays
  // the journal, and can look whether anything is left. Not where another process has the node by
  // now. Until the run has `begun`, also instead of one that a signal has stopped: later that is
  // its reaper's matter, which it may not have yet. A line for each.
  std::vector<std::string> Revive(bool begun);
  // Asks the controller to end; its injectors end with it.
  void EndController();
  // Ends a controller that does not answer any more: the injectors undo everything by themselves.
  void KillController();
  // True where the controller is still there.
  bool ControllerLives() const { return !controller_.Ended(); }

  // Waits until every process has ended, and removes the folder. What did not end is killed and
  // named. Nodes whose injector did not say that everything is undone are in `unsure`.
  struct End {
    bool left = false;
    std::vector<std::string> killed;
    std::vector<std::string> unsure;
  };
  // `leave` is asked about ten times a second: where it says so nothing is waited for or killed any
  // more, the processes undo everything and end by themselves, and all of them count as unsure.
  End Finish(absl::Duration at_most, const std::function<bool()>& leave = nullptr);
  // What the processes wrote last, for messages.
  std::string LastWords(const std::string& who) const;

 private:
  struct Injector {
    std::string node;
    Child child;
    int starts = 1;
    absl::Time stopped_since = absl::InfiniteFuture();
  };
  PrivateRun(Options options, std::string folder, std::string address, Child controller)
      : options_(std::move(options)),
        folder_(std::move(folder)),
        address_(std::move(address)),
        controller_(std::move(controller)) {}
  // Blocks until no node of the site is in anybody's hands.
  static absl::Status CheckFree(const Options& options);
  absl::Status AwaitLocks();
  static bool WaitFor(Child& child, absl::Time until, const std::function<bool()>& leave);
  // Ends it where a signal has stopped it for long enough; true where it did.
  static bool EndStopped(Injector& injector);
  bool StartAgain(Injector& injector, absl::string_view why);
  absl::StatusOr<Child> StartInjector(const std::string& node) const;

  Options options_;
  std::string folder_;
  std::string address_;
  Child controller_;
  std::vector<Injector> injectors_;
  // For the next Revive().
  std::vector<std::string> lines_;
};

// In whose hands a node of this machine is.
struct NodeUse {
  enum class By {
    kNobody,
    // It undoes what is left there, and ends by itself.
    kEnding,
    kRun,
    // An injector that serves a controller, for as long as it likes.
    kInjector,
  };
  By by = By::kNobody;
  // A run's client; else who holds the lock, 0 where that is not known.
  int process = 0;

  bool WillStay() const { return by == By::kRun || by == By::kInjector; }
};
NodeUse UseOf(const std::string& state_dir, const std::string& node);

// A new folder for what one run of this process needs while it lasts; RemoveStaleFolders() removes
// it should nobody else be left to.
absl::StatusOr<std::string> MakeRunFolder();
// A file in it that names the state folder: while a journal there names anything the folder stays.
inline constexpr char kStateDirFile[] = "state-dir";
// Removes folders of private runs whose client is gone, and whose node carries nothing any more.
// Call it when what was left has been undone.
void RemoveStaleFolders();

}  // namespace firedrill
