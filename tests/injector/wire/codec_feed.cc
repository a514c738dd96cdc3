// Gives a codec its bytes until it asks for more.
#include "tests/injector/wire/codec_feed.h"

namespace firedrill::wire {

void CodecFeed::Feed(absl::string_view bytes, bool from_client) {
  std::string& held = from_client ? client_held : server_held;
  std::string& out = from_client ? to_server : to_client;
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
    switch (piece.step) {
      case Step::kPass:
        out.append(rest.data(), piece.length);
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
        out.append(piece.instead.data(), piece.instead.size());
    }
    at += piece.length;
  }
  held.erase(0, at);
}

void CodecFeed::Ask(const Piece& piece, absl::string_view bytes) {
  const Request& request = piece.request;
  requests.push_back({std::string(request.text), std::string(request.user),
                      std::string(request.database), request.connect, request.cut,
                      request.statement});
  if (request.text.size() > kMaxText) broken = "too long a text";
  const v1::QueryFailure* failure = decide_ ? decide_(request) : nullptr;
  const std::optional<Substitute> substitute =
      failure != nullptr ? codec_->Fail(*failure) : std::nullopt;
  if (failure != nullptr && !substitute.has_value()) ++not_failed;
  if (!substitute.has_value()) {
    to_server.append(bytes.data(), bytes.size());
    return;
  }
  to_server.append(substitute->to_server.data(), substitute->to_server.size());
  to_client.append(substitute->to_client.data(), substitute->to_client.size());
  cut = cut || substitute->cut;
  closed = closed || substitute->close;
}

}  // namespace firedrill::wire
