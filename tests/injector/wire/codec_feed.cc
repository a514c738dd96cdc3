// Gives a codec its bytes until it asks for more.
#include "tests/injector/wire/codec_feed.h"

#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "injector/wire/cancels.h"

namespace firedrill::wire {
namespace {

constexpr uint32_t kLong = 1'000'000;

}  // namespace

SeenRequest SeenOf(const Request& request) {
  std::vector<std::string> words;
  for (size_t i = 0; i < request.words.size(); ++i) words.emplace_back(request.words[i]);
  return {std::string(request.text), std::move(words),
          std::string(request.user), std::string(request.database),
          request.connect,           request.cut,
          request.statement};
}

void CodecFeed::ToServer(absl::string_view bytes, Hold hold) {
  flow_.Append(bytes, 0, hold);
  HoldLogs logs;
  const absl::string_view ready = flow_.Ready(0);
  to_server.append(ready.data(), ready.size());
  flow_.Wrote(ready.size(), 0, &logs);
}

void CodecFeed::LetGo() {
  flow_.Relax(0, false);
  ToServer("");
}

bool CodecFeed::Cancel() {
  const bool cancelled = CancelFront(*codec_, flow_, 0).has_value();
  ToServer("");
  return cancelled;
}

void CodecFeed::Feed(absl::string_view bytes, bool from_client) {
  std::string& held = from_client ? client_held : server_held;
  const auto emit = [&](absl::string_view out) {
    from_client ? ToServer(out) : (void)to_client.append(out.data(), out.size());
  };
  held.append(bytes.data(), bytes.size());
  size_t at = 0;
  while (at < held.size() && !cut && !closed) {
    const absl::string_view rest = absl::string_view(held).substr(at);
    const Piece piece = from_client ? codec_->FromClient(rest) : codec_->FromServer(rest);
    if (piece.step == Step::kMore) {
      if (rest.size() >= kMaxText) broken = "asks for more than the most";
      break;
    }
    if (piece.length == 0) broken = "no progress";
    if (piece.length > rest.size()) broken = "consumes more than there is";
    if (!broken.empty()) break;
    if (piece.goodbye) goodbyes.append(rest.data(), piece.length);
    switch (piece.step) {
      case Step::kCancel:
        cancels.push_back(piece.cancels);
        [[fallthrough]];
      case Step::kPass:
        emit(rest.substr(0, piece.length));
        break;
      case Step::kRequest:
        if (!from_client) broken = "a request of the server";
        Ask(piece, rest.substr(0, piece.length));
        break;
      case Step::kCut:
      case Step::kClose:
        cut = piece.step == Step::kCut;
        closed = piece.step == Step::kClose;
        [[fallthrough]];
      default:
        emit(piece.instead);
    }
    at += piece.length;
  }
  held.erase(0, at);
}

void CodecFeed::Ask(const Piece& piece, absl::string_view bytes) {
  const Request& request = piece.request;
  requests.push_back(SeenOf(request));
  const SeenRequest& seen = requests.back();
  if (!seen.words.empty() && !absl::StartsWith(seen.text, absl::StrJoin(seen.words, " "))) {
    broken = "words that are not the text's";
  }
  if (request.text.size() > kMaxText) broken = "too long a text";
  const v1::QueryFailure* failure = decide_ ? decide_(request) : nullptr;
  const std::optional<Substitute> substitute =
      failure != nullptr ? codec_->Fail(*failure) : std::nullopt;
  if (failure != nullptr && !substitute.has_value()) ++not_failed;
  if (!substitute.has_value()) {
    const bool held = holds && holds(request);
    ToServer(bytes, held ? Hold{.request = kLong, .ticket = codec_->Ticket()} : Hold{});
    return;
  }
  ToServer(substitute->to_server);
  to_client.append(substitute->to_client.data(), substitute->to_client.size());
  cut = cut || substitute->cut;
  closed = closed || substitute->close;
}

}  // namespace firedrill::wire
