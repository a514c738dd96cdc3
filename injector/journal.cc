// The undo record of a node, as text.
#include "injector/journal.h"

#include <algorithm>
#include <array>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"

namespace firedrill {
namespace {

// Closed records before the file is written anew.
constexpr size_t kMostClosed = 1000;
// Ends a line that was torn by a disk that was full: it is skipped like a torn last line.
constexpr char kTornMark[] = " # torn\n";
constexpr char kByHand[] = " by_hand: ";

uint32_t Crc32(absl::string_view bytes) {
  uint32_t crc = ~0u;
  for (const char c : bytes) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (0xEDB88320u & (0u - (crc & 1)));
  }
  return ~crc;
}

std::string Line(const std::string& record) {
  return absl::StrFormat("%08x %s\n", Crc32(record), record);
}

std::string Quoted(absl::string_view text) {
  return absl::StrCat("\"", absl::Utf8SafeCEscape(text), "\"");
}

// `key="value" key="value"`, with C escapes. Empty where it is something else.
std::map<std::string, std::string> ReadFields(absl::string_view text) {
  std::map<std::string, std::string> fields;
  while (!text.empty()) {
    const size_t equals = text.find("=\"");
    if (equals == absl::string_view::npos) return {};
    size_t end = equals + 2;
    while (end < text.size() && text[end] != '"') end += text[end] == '\\' ? 2 : 1;
    if (end >= text.size()) return {};
    std::string value;
    if (!absl::CUnescape(text.substr(equals + 2, end - equals - 2), &value)) return {};
    fields[std::string(text.substr(0, equals))] = std::move(value);
    text.remove_prefix(end + 1);
    if (!text.empty() && text[0] == ' ') text.remove_prefix(1);
  }
  return fields;
}

std::string BeginText(const Journal::Begun& begun) {
  return absl::StrCat("begin ", begun.number, " run=", Quoted(begun.run),
                      " fault=", Quoted(begun.fault), " planned=", Quoted(begun.planned));
}

std::string UndoText(const Journal::Entry& entry) {
  return absl::StrCat(
      "undo ", entry.number, " run=", Quoted(entry.run), " fault=", Quoted(entry.fault),
      " kind=", Quoted(entry.undo.kind), " resource=", Quoted(entry.undo.resource),
      " before=", Quoted(entry.undo.before), " after=", Quoted(entry.undo.after),
      entry.undo.access.empty() ? std::string()
                                : absl::StrCat(" access=", Quoted(entry.undo.access)),
      kByHand, absl::StrReplaceAll(entry.undo.by_hand, {{"\n", " "}}));
}

const char* ResultWord(UndoResult result) {
  switch (result) {
    case UndoResult::kRestored:
      return "restored";
    case UndoResult::kUntouched:
      return "untouched";
    case UndoResult::kSuperseded:
      return "superseded";
    case UndoResult::kFailed:
      break;
  }
  return "failed";
}

}  // namespace

bool Journal::RollbackResult::failed() const {
  return std::any_of(problems.begin(), problems.end(),
                     [](const Problem& problem) { return problem.result == UndoResult::kFailed; });
}

bool Journal::RollbackResult::superseded() const {
  return std::any_of(problems.begin(), problems.end(), [](const Problem& problem) {
    return problem.result == UndoResult::kSuperseded;
  });
}

absl::StatusOr<std::unique_ptr<Journal>> Journal::Open(Disk& disk, std::string node) {
  const absl::StatusOr<std::string> text = disk.Read(kFile);
  if (!text.ok() && !absl::IsNotFound(text.status())) {
    return Annotate(text.status(), "opening the undo journal");
  }
  std::unique_ptr<Journal> journal(new Journal(disk, std::move(node)));
  MutexLock lock(journal->mutex_);
  if (text.ok()) {
    journal->fresh_ = text->empty();
    journal->Read(*text);
  }
  return journal;
}

void Journal::Read(const std::string& text) {
  absl::string_view rest = text;
  while (!rest.empty()) {
    const size_t end = rest.find('\n');
    const absl::string_view line = rest.substr(0, end);
    const bool last = end == absl::string_view::npos || end + 1 == rest.size();
    if (end == absl::string_view::npos) torn_ = true;
    rest.remove_prefix(last ? rest.size() : end + 1);
    if (line.empty() || line[0] == '#' || absl::EndsWith(line, " # torn")) continue;
    if (torn_ || ReadLine(line)) continue;
    if (last) {
      torn_ = true;
    } else {
      damaged_.push_back(std::string(line));
    }
  }
}

bool Journal::ReadLine(absl::string_view line) {
  const size_t space = line.find(' ');
  uint32_t crc = 0;
  if (space != 8 || !absl::SimpleHexAtoi(line.substr(0, 8), &crc)) return false;
  line.remove_prefix(9);
  if (crc != Crc32(line)) return false;
  const size_t word_end = line.find(' ');
  if (word_end == absl::string_view::npos) return false;
  const absl::string_view word = line.substr(0, word_end);
  line.remove_prefix(word_end + 1);
  const size_t number_end = std::min(line.find(' '), line.size());
  uint64_t number = 0;
  if (!absl::SimpleAtoi(line.substr(0, number_end), &number)) return false;
  line.remove_prefix(std::min(number_end + 1, line.size()));
  next_ = std::max(next_, number + 1);
  if (word == "done") {
    open_.erase(number);
    begun_.erase(number);
    ++closed_;
    return true;
  }
  std::string by_hand;
  if (word == "undo") {
    const size_t found = line.rfind(kByHand);
    if (found == absl::string_view::npos) return false;
    by_hand = std::string(line.substr(found + sizeof(kByHand) - 1));
    line = line.substr(0, found);
  }
  std::map<std::string, std::string> fields = ReadFields(line);
  if (fields.empty()) return false;
  if (word == "begin") {
    begun_[number] = {number, fields["run"], fields["fault"], fields["planned"]};
    return true;
  }
  if (word != "undo") return false;
  open_[number] = {number,
                   fields["run"],
                   fields["fault"],
                   {fields["kind"], fields["resource"], fields["before"], fields["after"], by_hand,
                    fields["access"]}};
  return true;
}

std::string Journal::Header() const {
  return absl::StrCat(
      "# Firedrill's undo journal of the node ", node_, ". Written before anything is changed.\n",
      "# It is replayed by itself: by the injector's reaper, by the node's next injector, and by\n",
      "# `firedrill leftovers`.\n",
      "# To undo by hand: end the node's injector; take the lines \"undo N\" without a \"done N\" "
      "below them,\n",
      "# the last one first; where the resource still has the value of after=\"...\", run the "
      "command that\n",
      "# follows \"by_hand:\"; then delete this file.\n");
}

absl::Status Journal::Append(const std::string& record) {
  std::string bytes = torn_ ? kTornMark : "";
  if (fresh_) absl::StrAppend(&bytes, Header());
  absl::StrAppend(&bytes, Line(record));
  absl::Status appended = disk_.Append(kFile, bytes);
  torn_ = !appended.ok();
  if (appended.ok()) {
    fresh_ = false;
  } else {
    // Half of the line may be there. A rewrite removes it; where even that fails it is marked
    // later.
    Compact();
  }
  return Annotate(appended, "writing the undo journal");
}

absl::StatusOr<uint64_t> Journal::Begin(const std::string& run, const std::string& fault,
                                        const std::string& planned) {
  MutexLock lock(mutex_);
  const Begun begun{next_, run, fault, planned};
  RETURN_IF_ERROR(Append(BeginText(begun)));
  begun_[next_] = begun;
  return next_++;
}

absl::StatusOr<uint64_t> Journal::Record(const std::string& run, const std::string& fault,
                                         const firedrill::Undo& undo) {
  ASSIGN_OR_RETURN(const uint64_t number, Keep(run, fault, undo));
  const absl::Status guarded = guard_ == nullptr ? absl::OkStatus() : guard_(undo);
  if (guarded.ok()) return number;
  // Nothing was changed, so there is nothing to be undone.
  ForgetReadiness(undo);
  MutexLock lock(mutex_);
  Close(number, "withdrawn");
  return guarded;
}

absl::StatusOr<uint64_t> Journal::Keep(const std::string& run, const std::string& fault,
                                       const firedrill::Undo& undo) {
  MutexLock lock(mutex_);
  if (open_.size() >= kMostOpen) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the undo journal of ", node_, " holds ", kMostOpen,
                     " changes that are not undone; see firedrill leftovers"));
  }
  for (const auto& [number, other] : open_) {
    if (other.undo.kind != undo.kind || other.undo.resource != undo.resource) continue;
    if (other.run == run && other.fault == fault) continue;
    // Whichever went off first, the other would put back what is broken, or be taken for somebody
    // else's.
    return absl::AlreadyExistsError(
        absl::StrCat(undo.resource, " is changed by the fault ", other.fault, " of the run ",
                     other.run, " already; wait until that is undone, or see firedrill leftovers"));
  }
  const Entry entry{next_, run, fault, undo};
  RETURN_IF_ERROR(Append(UndoText(entry)));
  open_[next_] = entry;
  return next_++;
}

absl::Status Journal::Amend(uint64_t number, const firedrill::Undo& undo) {
  MutexLock lock(mutex_);
  const auto found = open_.find(number);
  if (found == open_.end()) return absl::NotFoundError("its record in the undo journal is closed");
  Entry entry = found->second;
  entry.undo = undo;
  RETURN_IF_ERROR(Append(UndoText(entry)));
  found->second = std::move(entry);
  return absl::OkStatus();
}

void Journal::Forget(uint64_t number) {
  MutexLock lock(mutex_);
  if (open_.count(number) > 0) Close(number, "stays");
}

void Journal::Close(uint64_t number, const char* result) {
  open_.erase(number);
  begun_.erase(number);
  ++closed_;
  // Where nothing is open any more, or too much is closed, one rewrite says it all.
  const bool all = open_.empty() && begun_.empty();
  if (all || closed_ > kMostClosed) {
    Compact();
    if (closed_ == 0) return;
  }
  // When this fails the undo is done again at the next start, and finds nothing to do.
  Append(absl::StrCat("done ", number, " ", result)).IgnoreError();
}

void Journal::End(const std::string& run, const std::string& fault) {
  MutexLock lock(mutex_);
  std::vector<uint64_t> numbers;
  for (const auto& [number, begun] : begun_) {
    if (begun.run == run && begun.fault == fault) numbers.push_back(number);
  }
  for (const uint64_t number : numbers) Close(number, "gone");
}

void Journal::Compact() {
  if (open_.empty() && begun_.empty() && damaged_.empty()) {
    // An empty journal needs no file, and no space to say so.
    if (disk_.Remove(kFile).ok()) {
      fresh_ = true;
      torn_ = false;
      closed_ = 0;
    }
    return;
  }
  std::map<uint64_t, std::string> records;
  for (const auto& [number, begun] : begun_) records[number] = Line(BeginText(begun));
  for (const auto& [number, entry] : open_) records[number] = Line(UndoText(entry));
  std::string text = Header();
  for (const std::string& line : damaged_) absl::StrAppend(&text, line, "\n");
  for (const auto& [number, line] : records) absl::StrAppend(&text, line);
  // So that a damaged line is never the last one, and taken for a torn one.
  absl::StrAppend(&text, "# ", records.size(), " open\n");
  if (!disk_.Replace(kFile, text).ok()) return;
  fresh_ = false;
  torn_ = false;
  closed_ = 0;
}

Journal::RollbackResult Journal::Undo(std::vector<Entry> entries) {
  RollbackResult result;
  for (auto entry = entries.rbegin(); entry != entries.rend(); ++entry) {
    Problem problem{*entry};
    problem.result = RunUndo(entry->undo, &problem.why);
    switch (problem.result) {
      case UndoResult::kRestored:
        ++result.restored;
        break;
      case UndoResult::kUntouched:
        ++result.untouched;
        break;
      default:
        result.problems.push_back(problem);
        break;
    }
    if (problem.result == UndoResult::kFailed) continue;
    MutexLock lock(mutex_);
    Close(entry->number, ResultWord(problem.result));
  }
  return result;
}

Journal::RollbackResult Journal::RollBack(const std::string& run, const std::string& fault) {
  std::vector<Entry> entries = open();
  std::erase_if(entries,
                [&](const Entry& entry) { return entry.run != run || entry.fault != fault; });
  return Undo(std::move(entries));
}

Journal::RollbackResult Journal::RollBackAll() {
  RollbackResult result = Undo(open());
  MutexLock lock(mutex_);
  if (torn_ || closed_ > 0) Compact();
  return result;
}

std::vector<Journal::Entry> Journal::open() const {
  MutexLock lock(mutex_);
  std::vector<Entry> entries;
  for (const auto& [number, entry] : open_) entries.push_back(entry);
  return entries;
}

std::vector<Journal::Begun> Journal::begun() const {
  MutexLock lock(mutex_);
  std::vector<Begun> all;
  for (const auto& [number, begun] : begun_) all.push_back(begun);
  return all;
}

std::vector<std::string> Journal::damaged() const {
  MutexLock lock(mutex_);
  return damaged_;
}

bool Journal::empty() const {
  MutexLock lock(mutex_);
  return open_.empty() && begun_.empty() && damaged_.empty();
}

}  // namespace firedrill
