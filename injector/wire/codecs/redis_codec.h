// The state of one connection of Redis.
//
// Answers are counted to know whose they are. A request that is to fail goes to the server as a
// command that it does not know, and the error that comes back is worded anew: so answers stay in
// order, and an open MULTI is spoilt as a true error spoils it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "injector/wire/codec.h"
#include "injector/wire/codecs/redis_commands.h"

namespace firedrill::wire {

class RedisCodec final : public Codec {
 public:
  Piece FromClient(absl::string_view bytes) override;
  Piece FromServer(absl::string_view bytes) override;
  std::optional<Substitute> Fail(const v1::QueryFailure& failure) override;
  bool Quiet() const override {
    return asked_ == answered_ && !multi_ && channels_ == 0 && shard_channels_ == 0 &&
           !client_waits_ && Whole() && !server_waits_ && !in_reply_;
  }
  bool encrypted() const override { return encrypted_; }
  absl::string_view lost() const override { return lost_; }

 private:
  struct Failing {
    bool cut = false;
    uint32_t cut_after = 0;
    std::string reply;
  };
  // An answer to come that means something.
  struct Special {
    uint64_t at = 0;
    RedisEffect effect = RedisEffect::kNone;
    uint32_t confirmations = 0;
    // What is selected where it is refused, once this one counts; before, what it selects.
    int64_t database = 0;
    std::unique_ptr<std::string> user;
    std::unique_ptr<Failing> failing;
  };
  struct Command {
    // How many; those that there is room for are in the scratch text.
    uint64_t words = 0;
    size_t length = 0;
    bool cut = false;
  };

  Piece Lose(absl::string_view why, size_t length);
  // Effects of a request begin only when it is certain that it was not failed.
  void Commit();
  void SetDatabase(int64_t number);
  Special* Head();
  void PopHead();

  // Client's side.
  Piece Rest(absl::string_view bytes);
  Piece ReadArray(absl::string_view bytes);
  Piece ReadLine(absl::string_view bytes);
  Piece More() {
    client_waits_ = true;
    return {Step::kMore};
  }
  Piece Ask(const Command& command, absl::string_view bytes);
  Substitute Instead(absl::string_view command);
  // Nothing of the command that has begun is still to come.
  bool Whole() const { return words_left_ == 0 && client_skip_ == 0 && !client_line_; }

  // Server's side.
  enum class Reached { kEnd, kMore, kWrong };
  Reached Advance(absl::string_view bytes, size_t* at);
  enum class Start { kReply, kPush, kMore, kWrong };
  Start Begin(absl::string_view bytes, size_t at);
  Start BeginPush(absl::string_view bytes, size_t at);
  void Confirm(absl::string_view what, int64_t count);
  void Answered();
  Piece Failed(absl::string_view bytes, Failing* failing);
  Piece PassedOr(size_t passed, Piece otherwise) {
    return passed > 0 ? Piece{Step::kPass, passed} : otherwise;
  }

  uint64_t asked_ = 0;
  uint64_t answered_ = 0;
  std::vector<Special> special_;
  size_t first_special_ = 0;
  std::string user_ = "default";
  char database_[20] = "0";
  int64_t database_number_ = 0;
  int64_t before_multi_ = 0;
  absl::string_view lost_;
  absl::string_view last_request_;
  // Goes to the server when the last byte of what is dropped does.
  absl::string_view tail_;
  std::string last_reply_;
  uint64_t channels_ = 0;
  uint64_t shard_channels_ = 0;

  // Of a command that goes on: words to come, and bytes of the one that has begun.
  uint64_t words_left_ = 0;
  uint64_t client_skip_ = 0;
  // Of a reply that has begun: values to come, and bytes of the one that has begun.
  uint64_t values_left_ = 0;
  uint64_t server_skip_ = 0;
  uint32_t cut_sent_ = 0;
  char reply_type_ = 0;
  RedisEffect last_effect_ = RedisEffect::kNone;

  bool begun_ = false;
  bool encrypted_ = false;
  bool client_waits_ = false;
  bool client_line_ = false;
  bool drop_rest_ = false;
  bool uncommitted_ = false;
  bool can_fail_ = false;
  bool server_waits_ = false;
  bool server_line_ = false;
  bool in_reply_ = false;
  bool is_push_ = false;
  bool resp3_ = false;
  // As the server has said, and as the client has asked, which may be ahead of it.
  bool multi_ = false;
  bool asked_multi_ = false;
};

enum class RedisNumber { kRead, kMore, kWrong };

// Reads "<type><number>\r\n" at `*at`, and moves behind it.
RedisNumber ReadRedisNumber(absl::string_view bytes, size_t* at, int64_t* value);

}  // namespace firedrill::wire
