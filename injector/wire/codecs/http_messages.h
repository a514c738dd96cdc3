// What the HTTP codec reads of a message: its head, and where its body ends.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace firedrill::wire {

// Of "...\r\n\r\n", both line breaks included; 0 while the empty line has not come.
size_t HttpHeadSize(absl::string_view bytes);

struct HttpHead {
  // The first line without its break.
  absl::string_view line;
  int minor = 1;  // HTTP/1.<minor>
  int status = 0;
  std::optional<uint64_t> length;
  bool chunked = false;
  // Encoded in a way that only the connection's end ends.
  bool encoded = false;
  bool close = false;
  bool keep_alive = false;
  bool upgrade = false;
  bool expects = false;
};
// nullopt: not HTTP/1, or two readers could disagree about it.
std::optional<HttpHead> ReadHttpRequest(absl::string_view head);
std::optional<HttpHead> ReadHttpAnswer(absl::string_view head);

// Follows a body to its end.
class HttpBody {
 public:
  void Start(const HttpHead& head, bool until_close_if_unknown);
  void None() { at_ = At::kEnd; }
  // How many bytes belong to it.
  size_t Consume(absl::string_view bytes);
  bool ended() const { return at_ == At::kEnd; }
  bool wrong() const { return at_ == At::kWrong; }
  bool until_close() const { return at_ == At::kUntilClose; }

 private:
  enum class At : uint8_t {
    kEnd,
    kLength,
    kSize,
    kExtension,
    kData,
    kDataEnd,
    kTrailer,
    kUntilClose,
    kWrong,
  };
  void Char(char c);

  uint64_t left_ = 0;
  At at_ = At::kEnd;
  uint8_t digits_ = 0;
  bool line_empty_ = true;
};

struct HttpAnswerShape {
  int status = 503;
  // The body; the status' own words when empty.
  std::string text;
  bool head_only = false;
  bool close = false;
  // Said where a client of HTTP/1.0 asked for it.
  bool keep_alive = false;
};
std::string MakeHttpAnswer(const HttpAnswerShape& shape);

}  // namespace firedrill::wire
