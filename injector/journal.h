// The injector's undo record: what must be put back on this node, on disk before it is changed. It
// is text, one record a line with a checksum, so that a person can read it and undo everything by
// hand.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "injector/disk.h"
#include "injector/undo.h"

namespace firedrill {

class Journal {
 public:
  static constexpr char kFile[] = "journal";
  // More lasting changes at once are refused.
  static constexpr size_t kMostOpen = 10000;

  // A lasting change that is not known to be undone.
  struct Entry {
    uint64_t number = 0;
    std::string run;
    std::string fault;
    Undo undo;
  };
  // A fault that was begun, and not yet seen to be gone.
  struct Begun {
    uint64_t number = 0;
    std::string run;
    std::string fault;
    // The planned fault as JSON: enough to look for it after a restart.
    std::string planned;
  };
  struct Problem {
    Entry entry;
    UndoResult result = UndoResult::kFailed;
    std::string why;
  };
  struct RollbackResult {
    int restored = 0;
    int untouched = 0;
    // Superseded ones are closed; failed ones stay open.
    std::vector<Problem> problems;
    bool failed() const;
    bool superseded() const;
  };

  // Reads what is there and skips a torn last line: its change was never made. Writes nothing, so
  // it may be used to look at the journal of a living injector. An error where the file cannot be
  // read.
  static absl::StatusOr<std::unique_ptr<Journal>> Open(Disk& disk, std::string node);

  // Asked after an undo is on disk, and before the change is made: whether everybody who may have
  // to undo it could. Blocks; any thread. Set before anything is recorded.
  using Guard = std::function<absl::Status(const firedrill::Undo& undo)>;
  void SetGuard(Guard guard) { guard_ = std::move(guard); }

  // Durable when OK; when not, nothing is recorded. Any thread.
  absl::StatusOr<uint64_t> Begin(const std::string& run, const std::string& fault,
                                 const std::string& planned) FD_EXCLUDES(mutex_);
  // ALREADY_EXISTS where another fault has changed the same resource, and is not undone. An error
  // of the guard is returned, and the record closed. Blocks as long as the guard does.
  absl::StatusOr<uint64_t> Record(const std::string& run, const std::string& fault,
                                  const Undo& undo) FD_EXCLUDES(mutex_);
  // From here on `undo` is done in the place of what was recorded: durable when OK, else the old
  // one stays. One record on disk, so that a death finds the one or the other.
  absl::Status Amend(uint64_t number, const firedrill::Undo& undo) FD_EXCLUDES(mutex_);
  // What was changed is to stay, and whoever changed it has said so.
  void Forget(uint64_t number) FD_EXCLUDES(mutex_);
  // The fault was seen to be gone. Closes what `Begin` recorded.
  void End(const std::string& run, const std::string& fault) FD_EXCLUDES(mutex_);

  // Undoes the open changes of one fault, or all of them: newest first, going on past failures.
  // Blocks as long as the undo functions do. Any thread; not twice at once for the same fault.
  RollbackResult RollBack(const std::string& run, const std::string& fault) FD_EXCLUDES(mutex_);
  RollbackResult RollBackAll() FD_EXCLUDES(mutex_);

  // Oldest first.
  std::vector<Entry> open() const FD_EXCLUDES(mutex_);
  std::vector<Begun> begun() const FD_EXCLUDES(mutex_);
  // Lines that are no record, and not torn: a person must look at them.
  std::vector<std::string> damaged() const FD_EXCLUDES(mutex_);
  bool empty() const FD_EXCLUDES(mutex_);

 private:
  Journal(Disk& disk, std::string node) : disk_(disk), node_(std::move(node)) {}

  void Read(const std::string& text) FD_REQUIRES(mutex_);
  // False where the line is no record.
  bool ReadLine(absl::string_view line) FD_REQUIRES(mutex_);
  absl::StatusOr<uint64_t> Keep(const std::string& run, const std::string& fault,
                                const firedrill::Undo& undo) FD_EXCLUDES(mutex_);
  absl::Status Append(const std::string& record) FD_REQUIRES(mutex_);
  void Close(uint64_t number, const char* result) FD_REQUIRES(mutex_);
  // Rewrites the file with what is open. Best effort: what is closed is harmless, only long.
  void Compact() FD_REQUIRES(mutex_);
  std::string Header() const;
  RollbackResult Undo(std::vector<Entry> entries) FD_EXCLUDES(mutex_);

  Disk& disk_;
  const std::string node_;
  Guard guard_;
  mutable Mutex mutex_;
  uint64_t next_ FD_GUARDED_BY(mutex_) = 1;
  std::map<uint64_t, Entry> open_ FD_GUARDED_BY(mutex_);
  std::map<uint64_t, Begun> begun_ FD_GUARDED_BY(mutex_);
  std::vector<std::string> damaged_ FD_GUARDED_BY(mutex_);
  // The file ends in half a line.
  bool torn_ FD_GUARDED_BY(mutex_) = false;
  size_t closed_ FD_GUARDED_BY(mutex_) = 0;
  bool fresh_ FD_GUARDED_BY(mutex_) = true;
};

}  // namespace firedrill
