// HTTP/1.1 and 1.0. A request that is to fail is not sent to the server at all: its answer is made
// here, and waits for its turn among those under way.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "injector/wire/codecs.h"
#include "injector/wire/codecs/http_messages.h"

namespace firedrill::wire {
namespace {

// Requests sent before their answers came.
constexpr size_t kMaxAsked = 1024;
constexpr size_t kFewAsked = 8;
// What begins with a longer word is no HTTP: it must not be held back in the hope for more.
constexpr size_t kMaxMethod = 24;
// So much of a first line is looked at before it is complete.
constexpr absl::string_view kVersion = "HTTP/1.";

struct Failing {
  bool cut = false;
  uint32_t cut_after = 0;
  HttpAnswerShape shape;
};

struct Asked {
  // The answer has no body, whatever it says.
  bool head_only = false;
  bool tunnel = false;
  bool connect = false;
  bool close = false;
  // Never sent to the server.
  bool local = false;
  std::unique_ptr<Failing> failing;
};

bool LooksLikeMethod(absl::string_view bytes) {
  const size_t end = std::min(bytes.find(' '), bytes.size());
  if (end == 0 || end > kMaxMethod) return false;
  return std::all_of(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(end), [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_';
  });
}

class HttpCodec final : public Codec {
 public:
  Piece FromClient(absl::string_view bytes) override;
  Piece FromServer(absl::string_view bytes) override;
  std::optional<Substitute> Fail(const v1::QueryFailure& failure) override;
  bool Quiet() const override {
    return first_asked_ == asked_.size() && request_body_.ended() && !in_answer_ &&
           !client_waits_ && !server_waits_;
  }
  bool encrypted() const override { return encrypted_; }
  absl::string_view lost() const override { return lost_; }

 private:
  Piece Lose(absl::string_view why, size_t length);
  Asked* Head() { return first_asked_ < asked_.size() ? &asked_[first_asked_] : nullptr; }
  void Pop();
  bool Push(Asked asked);
  Piece ReadRequest(absl::string_view bytes);

  enum class Reached : uint8_t { kOn, kMore, kInterim, kEnd, kTunnel, kWrong };
  // Goes on over a head, or what is there of a body.
  Reached Advance(absl::string_view bytes, size_t* at);
  Piece Failed(absl::string_view bytes, Failing* failing);
  // The answer's last bytes go on; answers made here that are next go with them.
  Piece Finish(absl::string_view last);

  std::vector<Asked> asked_;
  size_t first_asked_ = 0;
  std::string made_;
  absl::string_view last_request_;
  absl::string_view lost_;
  HttpBody request_body_;
  HttpBody answer_body_;
  uint32_t cut_sent_ = 0;
  bool begun_ = false;
  bool encrypted_ = false;
  bool client_waits_ = false;
  bool server_waits_ = false;
  bool can_fail_ = false;
  bool expects_ = false;
  bool keep_alive_ = false;
  bool drop_body_ = false;
  bool in_answer_ = false;
  // The client was told to close; what it still says is for nobody.
  bool closing_ = false;
};

Piece HttpCodec::Lose(absl::string_view why, size_t length) {
  lost_ = why;
  std::vector<Asked>().swap(asked_);
  first_asked_ = 0;
  return {Step::kPass, length};
}

void HttpCodec::Pop() {
  if (++first_asked_ < asked_.size()) return;
  first_asked_ = 0;
  asked_.clear();
  if (asked_.capacity() > kFewAsked) asked_.shrink_to_fit();
}

bool HttpCodec::Push(Asked asked) {
  if (asked_.size() == asked_.capacity() && first_asked_ >= kFewAsked) {
    asked_.erase(asked_.begin(), asked_.begin() + static_cast<ptrdiff_t>(first_asked_));
    first_asked_ = 0;
  }
  if (asked_.size() - first_asked_ >= kMaxAsked) return false;
  asked_.push_back(std::move(asked));
  return true;
}

Piece HttpCodec::FromClient(absl::string_view bytes) {
  can_fail_ = false;
  if (closing_) return {Step::kReplace, bytes.size()};
  if (encrypted_ || !lost_.empty()) return {Step::kPass, bytes.size()};
  client_waits_ = false;
  if (!begun_) {
    begun_ = true;
    if (bytes[0] == '\x16') {
      encrypted_ = true;
      return {Step::kPass, bytes.size()};
    }
  }
  if (!request_body_.ended()) {
    const size_t count = request_body_.Consume(bytes);
    if (request_body_.wrong()) return Lose("a body that is not well chunked", bytes.size());
    return {drop_body_ ? Step::kReplace : Step::kPass, count};
  }
  // Breaks between requests mean nothing.
  if (const size_t breaks = std::min(bytes.find_first_not_of("\r\n"), bytes.size()); breaks > 0) {
    return {Step::kPass, breaks};
  }
  if (first_asked_ < asked_.size() && asked_.back().tunnel) {
    return Lose("the client did not wait for the answer to CONNECT or Upgrade", bytes.size());
  }
  return ReadRequest(bytes);
}

Piece HttpCodec::ReadRequest(absl::string_view bytes) {
  if (!LooksLikeMethod(bytes)) return Lose("the client does not speak HTTP/1", bytes.size());
  const size_t line = bytes.find('\n');
  const absl::string_view first = bytes.substr(0, line);
  if (line != absl::string_view::npos && !absl::StrContains(first, kVersion)) {
    return Lose(absl::StrContains(first, "HTTP/2") ? "HTTP/2" : "the client does not speak HTTP/1",
                bytes.size());
  }
  const size_t size = HttpHeadSize(bytes.substr(0, kMaxText));
  if (size == 0) {
    if (bytes.size() >= kMaxText) return Lose("a head of more than 16 KiB", bytes.size());
    client_waits_ = true;
    return {Step::kMore};
  }
  const auto head = ReadHttpRequest(bytes.substr(0, size));
  if (!head.has_value()) return Lose("a request that is not clear", bytes.size());
  Asked asked;
  asked.head_only = absl::StartsWith(head->line, "HEAD ");
  asked.connect = absl::StartsWith(head->line, "CONNECT ");
  asked.tunnel = asked.connect || head->upgrade;
  asked.close = head->close;
  if (!Push(std::move(asked))) return Lose("too many requests under way", bytes.size());
  request_body_.Start(*head, false);
  drop_body_ = false;
  expects_ = head->expects && !request_body_.ended();
  keep_alive_ = head->minor == 0 && head->keep_alive;
  can_fail_ = true;
  last_request_ = bytes.substr(0, size);
  Piece piece{Step::kRequest, size};
  piece.request.text = head->line;
  return piece;
}

std::optional<Substitute> HttpCodec::Fail(const v1::QueryFailure& failure) {
  if (!can_fail_ || encrypted_ || !lost_.empty()) return std::nullopt;
  const bool cut = failure.how_case() == v1::QueryFailure::kCutAfter;
  const bool executes = cut || failure.moment() == v1::FAILURE_MOMENT_AFTER;
  auto failing = std::make_unique<Failing>();
  Asked& asked = asked_.back();
  if (cut) {
    failing->cut = true;
    failing->cut_after = failure.cut_after();
  } else {
    HttpAnswerShape& shape = failing->shape;
    if (!absl::SimpleAtoi(failure.error(), &shape.status) || shape.status < 200 ||
        shape.status > 599) {
      return std::nullopt;
    }
    // The server would go on to speak another protocol that the client knows nothing of.
    if (executes && asked.tunnel) return std::nullopt;
    shape.text = failure.message();
    shape.head_only = asked.head_only;
    // Who waits to be told to go on with its body may send it or not: nobody could know.
    shape.close = asked.close || (expects_ && !executes);
    shape.keep_alive = keep_alive_;
  }
  can_fail_ = false;
  asked.failing = std::move(failing);
  if (executes) return Substitute{last_request_};
  drop_body_ = true;
  closing_ = asked.failing->shape.close;
  if (closing_) request_body_.None();
  asked.local = true;
  asked.tunnel = false;
  if (first_asked_ + 1 < asked_.size() || in_answer_) return Substitute{};
  made_ = MakeHttpAnswer(asked.failing->shape);
  Pop();
  return Substitute{{}, made_, false, closing_};
}

Piece HttpCodec::FromServer(absl::string_view bytes) {
  can_fail_ = false;
  if (encrypted_ || !lost_.empty()) return {Step::kPass, bytes.size()};
  server_waits_ = false;
  size_t at = 0;
  while (at < bytes.size()) {
    Asked* head = Head();
    if (head == nullptr) {
      if (at > 0) break;
      return Lose("an answer that nobody asked for", bytes.size());
    }
    if (head->failing != nullptr) {
      if (at > 0) break;
      const Piece piece = Failed(bytes, head->failing.get());
      server_waits_ = piece.step == Step::kMore;
      return piece;
    }
    const Reached reached = Advance(bytes, &at);
    if (reached == Reached::kWrong) return Lose("an answer that is not clear", bytes.size());
    if (reached == Reached::kTunnel) return Lose("an upgraded connection", bytes.size());
    if (reached == Reached::kMore) break;
    if (reached != Reached::kEnd) continue;
    const Piece piece = Finish(bytes.substr(0, at));
    if (piece.step != Step::kPass) return piece;
  }
  if (at > 0) return {Step::kPass, at};
  server_waits_ = true;
  return {Step::kMore};
}

HttpCodec::Reached HttpCodec::Advance(absl::string_view bytes, size_t* at) {
  const absl::string_view rest = bytes.substr(*at);
  if (in_answer_) {
    *at += answer_body_.Consume(rest);
    if (answer_body_.wrong()) return Reached::kWrong;
    return answer_body_.ended() ? Reached::kEnd : Reached::kOn;
  }
  if (rest.substr(0, kVersion.size()) != kVersion.substr(0, rest.size())) return Reached::kWrong;
  const size_t size = HttpHeadSize(rest.substr(0, kMaxText));
  if (size == 0) return rest.size() >= kMaxText ? Reached::kWrong : Reached::kMore;
  const auto head = ReadHttpAnswer(rest.substr(0, size));
  if (!head.has_value()) return Reached::kWrong;
  *at += size;
  Asked* asked = Head();
  if (head->status == 101) return Reached::kTunnel;
  if (head->status < 200) return Reached::kInterim;
  if (asked->connect && head->status < 300) return Reached::kTunnel;
  asked->tunnel = false;
  if (asked->failing != nullptr) asked->failing->shape.close |= head->close;
  if (asked->head_only || head->status == 204 || head->status == 304) {
    answer_body_.None();
  } else {
    answer_body_.Start(*head, true);
  }
  in_answer_ = !answer_body_.ended();
  return in_answer_ ? Reached::kOn : Reached::kEnd;
}

Piece HttpCodec::Finish(absl::string_view last) {
  in_answer_ = false;
  cut_sent_ = 0;
  Pop();
  if (Head() == nullptr || !Head()->local) return {Step::kPass, last.size()};
  std::string all(last);
  bool close = false;
  while (Head() != nullptr && Head()->local) {
    all += MakeHttpAnswer(Head()->failing->shape);
    close = Head()->failing->shape.close;
    Pop();
  }
  made_ = std::move(all);
  return {close ? Step::kClose : Step::kReplace, last.size(), {}, made_};
}

// The answer of a request that was failed: dropped as it comes, or let through up to a point.
Piece HttpCodec::Failed(absl::string_view bytes, Failing* failing) {
  size_t at = 0;
  Reached reached = Reached::kOn;
  const uint32_t room = failing->cut ? failing->cut_after - cut_sent_ : 0;
  while (reached == Reached::kOn && at < bytes.size() && (!failing->cut || at <= room)) {
    reached = Advance(bytes, &at);
  }
  if (reached == Reached::kWrong) return Lose("an answer that is not clear", bytes.size());
  if (reached == Reached::kInterim) return {Step::kPass, at};
  if (failing->cut) {
    if (reached == Reached::kTunnel) return Lose("an upgraded connection", bytes.size());
    if (reached == Reached::kEnd && at <= room) return Finish(bytes.substr(0, at));
    if (at > 0 && at >= room) {
      return {Step::kCut, at, {}, bytes.substr(0, std::min<size_t>(at, room))};
    }
    cut_sent_ += static_cast<uint32_t>(at);
    return at > 0 ? Piece{Step::kPass, at} : Piece{Step::kMore};
  }
  if (reached == Reached::kEnd) {
    const HttpAnswerShape shape = failing->shape;
    const Piece next = Finish({});
    made_ = next.step == Step::kPass ? MakeHttpAnswer(shape) : MakeHttpAnswer(shape) + made_;
    const bool close = shape.close || next.step == Step::kClose;
    return {close ? Step::kClose : Step::kReplace, at, {}, made_};
  }
  // Its end is the connection's, which nobody tells us: the answer goes out with the head.
  if (in_answer_ && answer_body_.until_close()) {
    failing->shape.close = true;
    made_ = MakeHttpAnswer(failing->shape);
    return {Step::kClose, bytes.size(), {}, made_};
  }
  return at > 0 ? Piece{Step::kReplace, at} : Piece{Step::kMore};
}

}  // namespace

// Thousands of connections rest at a time.
static_assert(sizeof(HttpCodec) <= 320);

std::unique_ptr<Codec> MakeHttpCodec() { return std::make_unique<HttpCodec>(); }

}  // namespace firedrill::wire
