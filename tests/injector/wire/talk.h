// A plain blocking client of a test: sends bytes, and reads until what it waits for has come.
#pragma once

#include <string>

#include "absl/strings/string_view.h"
#include "base/unique_fd.h"

namespace firedrill::wire {

class Talk {
 public:
  explicit Talk(uint16_t port);
  void Send(absl::string_view bytes);
  // Everything that has come until it ends with `end`, or nothing came for 10 s, or the connection
  // ended: then with "<closed>" or "<reset>" behind it.
  std::string Until(absl::string_view end);
  // All until the connection ends.
  std::string Rest();

 private:
  UniqueFd fd_;
};

}  // namespace firedrill::wire
