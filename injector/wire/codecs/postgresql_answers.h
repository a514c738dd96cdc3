// The answers that a PostgreSQL client waits for, in order: one byte each, as most connections wait
// for none or for two.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace firedrill::wire::postgresql {

enum Kind : uint8_t {
  kNothing,
  // Up to ReadyForQuery:
  kStartup,
  kQuery,
  kCall,
  kSync,
  kRollback,   // Sent by us, in place of a COMMIT that fails.
  kTrapQuery,  // Sent by us, to fail.
  // One message each, and only until one of them fails; then nothing up to the next kSync:
  kParse,
  kParseNamed,
  kClose,
  kCloseNamed,
  kExecute,
  kTrapParse,
};

// Flags of an answer.
inline constexpr uint8_t kMute = 0x10;     // The client does not get it.
inline constexpr uint8_t kPlanned = 0x20;  // It has a plan, in the order of the answers.
inline constexpr uint8_t kLate = 0x40;     // It may be a COPY: the trap is sent when that ends.
inline constexpr uint8_t kNaming = 0x80;   // Its SQL prepares statements, or forgets them.

inline Kind KindOf(uint8_t answer) { return static_cast<Kind>(answer & 0x0f); }
// As it was before anything was planned.
inline uint8_t Plain(uint8_t answer) { return answer & (0x0f | kNaming); }
inline bool EndsReady(uint8_t answer) {
  return KindOf(answer) >= kStartup && KindOf(answer) <= kTrapQuery;
}

class Answers {
 public:
  static constexpr size_t kMaxCount = 1 << 16;

  bool empty() const { return head_ == answers_.size(); }
  size_t size() const { return answers_.size() - head_; }
  // 0 when empty.
  uint8_t front() const { return empty() ? 0 : answers_[head_]; }
  // Not when empty.
  uint8_t& front_place() { return answers_[head_]; }
  uint8_t& back_place() { return answers_.back(); }
  uint8_t& at(size_t place) { return answers_[head_ + place]; }
  // How many have been pushed so far.
  uint32_t pushed() const { return pushed_; }
  // Of the one that was pushed as this many, of which the highest bit does not matter; size() or
  // more where it is not there any more.
  size_t PlaceOf(uint32_t number) const { return size() - 1 - ((pushed_ - number) & 0x7fffffff); }

  void Push(uint8_t answer) {
    ++pushed_;
    if (answers_.size() == answers_.capacity() && head_ >= 16 && head_ >= answers_.size() / 2) {
      answers_.erase(answers_.begin(), answers_.begin() + head_);
      head_ = 0;
    }
    answers_.push_back(answer);
  }
  void Pop() {
    if (++head_ < answers_.size()) return;
    head_ = 0;
    answers_.clear();
    if (answers_.capacity() > 256) answers_.shrink_to_fit();
  }
  void Erase(size_t place) { answers_.erase(answers_.begin() + head_ + place); }
  // The places of those in front of it are not known by their numbers any more, but at the end.
  void Insert(size_t place, uint8_t answer) {
    if (place == size()) return Push(answer);
    answers_.insert(answers_.begin() + head_ + place, answer);
  }

 private:
  std::vector<uint8_t> answers_;
  uint32_t head_ = 0;
  uint32_t pushed_ = 0;
};

}  // namespace firedrill::wire::postgresql
