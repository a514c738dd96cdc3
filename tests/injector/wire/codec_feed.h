// Feeds a codec as a proxy does, and looks that it keeps its promises. For tests and fuzzers.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "injector/wire/codec.h"
#include "injector/wire/flow.h"

namespace firedrill::wire {

struct SeenRequest {
  std::string text;
  // Where the protocol tells them apart.
  std::vector<std::string> words;
  std::string user;
  std::string database;
  bool connect = false;
  bool cut = false;
  uint64_t statement = 0;
};

SeenRequest SeenOf(const Request& request);

class CodecFeed {
 public:
  // Which failure a request gets; nullptr: it passes.
  using Decide = std::function<const v1::QueryFailure*(const Request&)>;
  explicit CodecFeed(std::unique_ptr<Codec> codec, Decide decide = nullptr)
      : codec_(std::move(codec)), decide_(std::move(decide)) {}

  void Client(absl::string_view bytes) { Feed(bytes, true); }
  void Server(absl::string_view bytes) { Feed(bytes, false); }

  // Which requests are held, with all that comes behind them, until they are let go or cancelled.
  std::function<bool(const Request&)> holds;
  void LetGo();
  // What is in front; false: nothing that can be.
  bool Cancel();

  Codec& codec() { return *codec_; }
  // What went on, both ways; a reader may take it away.
  std::string to_server;
  std::string to_client;
  bool cut = false;
  // As a server closes: the client reads everything first. Nothing is fed after it.
  bool closed = false;
  std::vector<SeenRequest> requests;
  // Whose end was asked for.
  std::vector<uint64_t> cancels;
  // What clients said before they go.
  std::string goodbyes;
  // How many of them could not be failed as they should.
  int not_failed = 0;
  // What the codec waits with.
  std::string client_held;
  std::string server_held;
  // The first promise that was broken.
  std::string broken;

 private:
  void Feed(absl::string_view bytes, bool from_client);
  void Ask(const Piece& piece, absl::string_view bytes);
  void ToServer(absl::string_view bytes, Hold hold = {});

  std::unique_ptr<Codec> codec_;
  Decide decide_;
  Flow flow_;
};

}  // namespace firedrill::wire
