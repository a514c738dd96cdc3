// Where a codec puts a request's text together that does not lie in one piece in the stream.
#pragma once

#include <algorithm>
#include <cstring>

#include "injector/wire/codec.h"

namespace firedrill::wire {

// One for all codecs of a thread: a connection at rest costs nothing. A text lives until any codec
// of this thread is called again.
class ScratchText {
 public:
  static ScratchText& OfThread() {
    static thread_local ScratchText scratch;
    return scratch;
  }

  void Clear() {
    size_ = 0;
    count_ = 0;
    cut_ = false;
  }
  void Append(absl::string_view bytes) {
    const size_t count = std::min(bytes.size(), kMaxText - size_);
    if (count > 0) std::memcpy(bytes_ + size_, bytes.data(), count);
    size_ += count;
    if (count < bytes.size()) cut_ = true;
  }
  // Behind the words before it, with a blank between.
  void AppendWord(absl::string_view word) {
    if (count_ > 0) Append(" ");
    if (cut_) return;
    Append(word);
    ends_[count_++] = static_cast<uint16_t>(size_);
  }
  absl::string_view text() const { return {bytes_, size_}; }
  Words words() const { return {text(), {ends_, count_}}; }
  // Not all of it found room.
  bool cut() const { return cut_; }

 private:
  static_assert(kMaxText <= UINT16_MAX);
  size_t size_ = 0;
  size_t count_ = 0;
  bool cut_ = false;
  char bytes_[kMaxText];
  // Of which each but the first has a blank in front.
  uint16_t ends_[kMaxText + 1];
};

}  // namespace firedrill::wire
