// The emergency lever: a STOP file, and what has to happen at once.
#include "controller/lever.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/unique_fd.h"

namespace firedrill {
namespace {

constexpr absl::Duration kLookEvery = absl::Milliseconds(100);
constexpr size_t kLongest = 4096;
constexpr char kNoReason[] = "no reason given";

// One line: whoever may pull it may not write what looks like somebody else's pull.
std::string Line(std::string text) {
  if (text.size() > kLongest) text.resize(kLongest);
  for (char& c : text) {
    if (absl::ascii_iscntrl(static_cast<unsigned char>(c))) c = ' ';
  }
  return std::string(absl::StripAsciiWhitespace(text));
}

// What is known of a pull without a reason, once somebody gives one.
Pull WithReason(const Pull& first, const Pull& later) {
  if (first.by.empty() || first.by == later.by) return {later.by, later.reason, first.at};
  return {first.by, absl::StrCat(kNoReason, "; ", later.by, ": ", later.reason), first.at};
}

}  // namespace

std::string Pull::Words() const { return by.empty() ? reason : absl::StrCat(by, ": ", reason); }

Lever::~Lever() { Rest(); }

void Lever::Rest() {
  {
    MutexLock lock(mutex_);
    ended_ = true;
    ending_.NotifyAll();
  }
  if (watch_.joinable()) watch_.join();
  MutexLock lock(acting_);
  acts_ = {};
}

void Lever::Act(Acts acts) {
  {
    MutexLock lock(acting_);
    acts_ = std::move(acts);
    // What is pulled already has nothing to end: nothing has begun.
    acted_ = Pulled().has_value();
  }
  watch_ = std::thread([this] { Watch(); });
}

void Lever::Watch() {
  while (true) {
    {
      MutexLock lock(mutex_);
      if (!ended_) ending_.WaitFor(mutex_, kLookEvery);
      if (ended_) return;
    }
    MutexLock lock(acting_);
    const std::optional<Pull> pull = Pulled();
    if (pull.has_value() == acted_) continue;
    acted_ = pull.has_value();
    if (pull.has_value()) {
      acts_.pulled(*pull);
    } else {
      acts_.released();
    }
  }
}

std::optional<Pull> Lever::Pulled() const {
  Pull pull{"", kNoReason, absl::InfinitePast()};
  struct stat info {};
  {
    MutexLock lock(mutex_);
    if (unkept_) return last_;
    if (stat(path_.c_str(), &info) != 0 && errno == ENOENT) return std::nullopt;
    if (last_.has_value()) pull = *last_;
  }
  pull.at = absl::TimeFromTimespec(info.st_mtim);
  const UniqueFd fd(open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  char text[2 * kLongest];
  const ssize_t size = fd.valid() ? read(fd.get(), text, sizeof(text)) : 0;
  const std::string line = Line(std::string(text, size > 0 ? static_cast<size_t>(size) : 0));
  if (line.empty()) return pull;
  const size_t colon = line.find(": ");
  pull.by = colon == std::string::npos ? "" : line.substr(0, colon);
  pull.reason = colon == std::string::npos ? line : line.substr(colon + 2);
  return pull;
}

Lever::Answer Lever::PullIt(const std::string& by, const std::string& reason) {
  Pull pull{Line(by), Line(reason), absl::Now()};
  if (pull.reason.empty()) pull.reason = kNoReason;
  const std::optional<Pull> before = Pulled();
  const bool anew = before.has_value() && before->reason == kNoReason && pull.reason != kNoReason;
  if (before.has_value()) {
    pull = anew ? WithReason(*before, pull) : *before;
  } else {
    // From here on nothing starts.
    MutexLock lock(mutex_);
    last_ = pull;
    unkept_ = true;
  }
  Answer answer{.pull = pull};
  MutexLock lock(acting_);
  if (acts_.pulled) answer.reached = acts_.pulled(pull);
  acted_ = true;
  // The faults first: a lever that cannot be written must not keep them on.
  answer.kept = Keep(pull, anew);
  MutexLock state(mutex_);
  last_ = pull;
  unkept_ = !answer.kept.ok();
  return answer;
}

absl::Status Lever::Keep(const Pull& pull, bool anew) const {
  const auto failed = [&](absl::string_view what) {
    return absl::DataLossError(
        absl::StrCat("the lever is pulled, but ", what, ": ", std::strerror(errno),
                     "; it may not outlast a restart of this controller: touch ", path_,
                     " once there is space"));
  };
  const UniqueFd fd(open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
  if (!fd.valid()) return failed(absl::StrCat(path_, " cannot be written"));
  // What somebody has put there stays as it is: an empty file stops as well.
  struct stat info {};
  const std::string line = absl::StrCat(pull.Words(), "\n");
  const auto size = static_cast<off_t>(line.size());
  const bool known = fstat(fd.get(), &info) == 0;
  const bool written =
      (known && info.st_size > 0 && !anew) ||
      (pwrite(fd.get(), line.data(), line.size(), 0) == size && ftruncate(fd.get(), size) == 0);
  // Since when it is pulled does not change with what is known of it.
  const timespec times[] = {{0, UTIME_OMIT}, info.st_mtim};
  if (anew && known) (void)!futimens(fd.get(), times);
  const int error = errno;
  const UniqueFd folder(
      open(std::filesystem::path(path_).parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fsync(fd.get()) != 0 || !folder.valid() || fsync(folder.get()) != 0) {
    return failed(absl::StrCat(path_, " is not synced"));
  }
  errno = error;
  // It holds: only the words are lost.
  if (!written) (void)!ftruncate(fd.get(), 0);
  return absl::OkStatus();
}

absl::Status Lever::Release() {
  MutexLock lock(acting_);
  if (unlink(path_.c_str()) != 0 && errno != ENOENT) {
    return absl::UnavailableError(
        absl::StrCat("releasing the lever ", path_, ": ", std::strerror(errno)));
  }
  {
    MutexLock state(mutex_);
    unkept_ = false;
    last_.reset();
  }
  acted_ = false;
  if (acts_.released) acts_.released();
  return absl::OkStatus();
}

}  // namespace firedrill
