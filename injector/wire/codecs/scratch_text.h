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
    cut_ = false;
  }
  void Append(absl::string_view bytes) {
    const size_t count = std::min(bytes.size(), kMaxText - size_);
    if (count > 0) std::memcpy(bytes_ + size_, bytes.data(), count);
    size_ += count;
    if (count < bytes.size()) cut_ = true;
  }
  absl::string_view text() const { return {bytes_, size_}; }
  // Not all of it found room.
  bool cut() const { return cut_; }

 private:
  size_t size_ = 0;
  bool cut_ = false;
  char bytes_[kMaxText];
};

}  // namespace firedrill::wire
