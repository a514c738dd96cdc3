// Heads and bodies of HTTP/1.
#include "injector/wire/codecs/http_messages.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace firedrill::wire {
namespace {

struct Reason {
  int status;
  absl::string_view words;
};

constexpr Reason kReasons[] = {
    {200, "OK"},
    {204, "No Content"},
    {304, "Not Modified"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {410, "Gone"},
    {413, "Content Too Large"},
    {425, "Too Early"},
    {429, "Too Many Requests"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {507, "Insufficient Storage"},
    {508, "Loop Detected"},
};

// "close, Upgrade" has `close`.
bool HasToken(absl::string_view list, absl::string_view token) {
  while (!list.empty()) {
    const size_t comma = std::min(list.find(','), list.size());
    if (absl::EqualsIgnoreCase(absl::StripAsciiWhitespace(list.substr(0, comma)), token)) {
      return true;
    }
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return false;
}

absl::string_view NextLine(absl::string_view* bytes) {
  const size_t end = bytes->find('\n');
  absl::string_view line = bytes->substr(0, end);
  bytes->remove_prefix(end == absl::string_view::npos ? bytes->size() : end + 1);
  if (absl::EndsWith(line, "\r")) line.remove_suffix(1);
  return line;
}

bool ReadLength(absl::string_view value, HttpHead* head) {
  uint64_t length = 0;
  if (value.empty() || value.size() > 18) return false;
  for (const char c : value) {
    if (!absl::ascii_isdigit(static_cast<unsigned char>(c))) return false;
    length = length * 10 + static_cast<uint64_t>(c - '0');
  }
  if (head->length.has_value() && *head->length != length) return false;
  head->length = length;
  return true;
}

bool ReadHeaders(absl::string_view rest, HttpHead* head) {
  while (!rest.empty()) {
    const absl::string_view line = NextLine(&rest);
    const size_t colon = line.find(':');
    if (colon == absl::string_view::npos) continue;
    const absl::string_view name = line.substr(0, colon);
    const absl::string_view value = absl::StripAsciiWhitespace(line.substr(colon + 1));
    if (absl::EqualsIgnoreCase(name, "content-length")) {
      if (!ReadLength(value, head)) return false;
    } else if (absl::EqualsIgnoreCase(name, "transfer-encoding")) {
      head->chunked = absl::EndsWithIgnoreCase(value, "chunked");
      head->encoded = !head->chunked;
    } else if (absl::EqualsIgnoreCase(name, "connection")) {
      head->close = head->close || HasToken(value, "close");
      head->keep_alive = head->keep_alive || HasToken(value, "keep-alive");
      head->upgrade = head->upgrade || HasToken(value, "upgrade");
    } else if (absl::EqualsIgnoreCase(name, "expect")) {
      head->expects = true;
    }
  }
  return true;
}

bool ReadVersion(absl::string_view text, HttpHead* head) {
  if (text.size() != 8 || !absl::StartsWith(text, "HTTP/1.")) return false;
  if (text[7] != '0' && text[7] != '1') return false;
  head->minor = text[7] - '0';
  return true;
}

int DigitOf(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char lower = absl::ascii_tolower(static_cast<unsigned char>(c));
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

}  // namespace

size_t HttpHeadSize(absl::string_view bytes) {
  for (size_t at = bytes.find('\n'); at != absl::string_view::npos; at = bytes.find('\n', at + 1)) {
    if (bytes.substr(at + 1, 1) == "\n") return at + 2;
    if (bytes.substr(at + 1, 2) == "\r\n") return at + 3;
  }
  return 0;
}

std::optional<HttpHead> ReadHttpRequest(absl::string_view bytes) {
  HttpHead head;
  head.line = NextLine(&bytes);
  const size_t version = head.line.rfind(' ');
  if (version == absl::string_view::npos || head.line.find(' ') == version ||
      !ReadVersion(head.line.substr(version + 1), &head) || !ReadHeaders(bytes, &head) ||
      head.encoded) {
    return std::nullopt;
  }
  if (head.minor == 0 && !head.keep_alive) head.close = true;
  return head;
}

std::optional<HttpHead> ReadHttpAnswer(absl::string_view bytes) {
  HttpHead head;
  head.line = NextLine(&bytes);
  if (head.line.size() < 12 || !ReadVersion(head.line.substr(0, 8), &head) ||
      !absl::SimpleAtoi(head.line.substr(9, 3), &head.status) || head.status < 100 ||
      !ReadHeaders(bytes, &head)) {
    return std::nullopt;
  }
  if (head.minor == 0 && !head.keep_alive) head.close = true;
  return head;
}

void HttpBody::Start(const HttpHead& head, bool until_close_if_unknown) {
  digits_ = 0;
  left_ = 0;
  if (head.chunked) {
    at_ = At::kSize;
  } else if (head.encoded) {
    at_ = At::kUntilClose;
  } else if (head.length.has_value()) {
    left_ = *head.length;
    at_ = left_ > 0 ? At::kLength : At::kEnd;
  } else {
    at_ = until_close_if_unknown ? At::kUntilClose : At::kEnd;
  }
}

size_t HttpBody::Consume(absl::string_view bytes) {
  size_t at = 0;
  while (at < bytes.size() && at_ != At::kEnd && at_ != At::kWrong) {
    if (at_ == At::kUntilClose) return bytes.size();
    if (at_ == At::kLength || at_ == At::kData) {
      const size_t count = std::min<uint64_t>(left_, bytes.size() - at);
      left_ -= count;
      at += count;
      if (left_ == 0) at_ = at_ == At::kLength ? At::kEnd : At::kDataEnd;
    } else {
      Char(bytes[at++]);
    }
  }
  return at;
}

void HttpBody::Char(char c) {
  switch (at_) {
    case At::kSize:
      if (const int digit = DigitOf(c); digit >= 0) {
        if (++digits_ > 15) at_ = At::kWrong;
        left_ = left_ * 16 + static_cast<uint64_t>(digit);
        return;
      }
      if (digits_ == 0) {
        at_ = At::kWrong;
        return;
      }
      at_ = At::kExtension;
      [[fallthrough]];
    case At::kExtension:
      if (c != '\n') return;
      at_ = left_ > 0 ? At::kData : At::kTrailer;
      digits_ = 0;
      line_empty_ = true;
      return;
    case At::kDataEnd:
      if (c == '\n') {
        at_ = At::kSize;
      } else if (c != '\r') {
        at_ = At::kWrong;
      }
      return;
    case At::kTrailer:
      if (c == '\n') {
        if (line_empty_) at_ = At::kEnd;
        line_empty_ = true;
      } else if (c != '\r') {
        line_empty_ = false;
      }
      return;
    default:
      return;
  }
}

std::string MakeHttpAnswer(const HttpAnswerShape& shape) {
  absl::string_view words = "Failed";
  for (const Reason& reason : kReasons) {
    if (reason.status == shape.status) words = reason.words;
  }
  std::string answer = absl::StrCat("HTTP/1.1 ", shape.status, " ", words, "\r\n");
  const bool bodiless = shape.status == 204 || shape.status == 304;
  const std::string body = absl::StrCat(shape.text.empty() ? words : shape.text, "\n");
  if (!bodiless) {
    absl::StrAppend(&answer, "Content-Type: text/plain\r\nContent-Length: ", body.size(), "\r\n");
  }
  if (shape.close || shape.keep_alive) {
    absl::StrAppend(&answer, "Connection: ", shape.close ? "close" : "keep-alive", "\r\n");
  }
  return absl::StrCat(answer, "\r\n", bodiless || shape.head_only ? "" : body);
}

}  // namespace firedrill::wire
