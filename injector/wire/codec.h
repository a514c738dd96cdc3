// What a protocol codec says about the bytes of one connection: which of them are a request that
// rules may look at, and what goes on instead of it when a rule lets it fail.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "firedrill/v1/wire.pb.h"

namespace firedrill::wire {

// Rules look at no more of a request than this, and no codec holds back more bytes than this.
inline constexpr size_t kMaxText = 16 * 1024;

// The words of a text, any one byte between two of them: a word may be empty, or have blanks
// inside.
class Words {
 public:
  Words() = default;
  // `ends`: where each word ends in `text`, which outlives this, as they do.
  Words(absl::string_view text, absl::Span<const uint16_t> ends) : text_(text), ends_(ends) {}
  size_t size() const { return ends_.size(); }
  // Empty where there is none.
  absl::string_view operator[](size_t i) const {
    if (i >= ends_.size()) return {};
    const size_t begin = i == 0 ? 0 : ends_[i - 1] + size_t{1};
    return text_.substr(begin, ends_[i] - begin);
  }

 private:
  absl::string_view text_;
  absl::Span<const uint16_t> ends_;
};

// One request of a client. The views live until any codec of this thread is called again: some put
// the text together in one place for all.
struct Request {
  // SQL text; "SET key value" of Redis; "GET /path HTTP/1.1" with nothing else of HTTP. For a
  // prepared statement, what it was prepared from. Empty for `connect`.
  absl::string_view text;
  // Of `text`, where the protocol itself tells them apart, as Redis' does; of no other.
  Words words;
  // A new session asks to be let in; it can be delayed and refused like any other request.
  bool connect = false;
  // `text` is the beginning only.
  bool cut = false;
  // Of the session, where the protocol says it; empty otherwise.
  absl::string_view user;
  absl::string_view database;
  // The same number always comes with the same text, user and database, in all connections of this
  // process: what was found out about it may be remembered. 0: no such promise.
  uint64_t statement = 0;
};

enum class Step {
  kPass,     // `length` bytes go on as they are.
  kMore,     // More bytes are needed first; the caller keeps what it has and comes again with more.
  kRequest,  // `length` bytes are `request`: they may be held for a while, or Fail()ed.
  kReplace,  // `instead` goes on in place of `length` bytes; empty: they are dropped.
  kCancel,   // `length` bytes ask for the end of what the session of `cancels` does: a client's go
             // on unless that was held here, a server's go on because it has agreed.
  kCut,      // `instead` goes on, and then both connections are reset.
  kClose,    // `instead` goes on, and then both connections are closed as a server does it: who
             // reads on gets all of it, then the end (FIN, no reset).
};

struct Piece {
  Step step = Step::kPass;
  size_t length = 0;
  Request request;
  absl::string_view instead;
  // A session's key.
  uint64_t cancels = 0;
  // These bytes are all that the client says before it goes: the server closes when it hears them.
  bool goodbye = false;
};

// What a failed request becomes. Views live until the codec is called again.
struct Substitute {
  // Goes to the server in place of the request's bytes; may be empty.
  absl::string_view to_server;
  // Goes to the client at once, after everything that was sent to it before; may be empty.
  absl::string_view to_client;
  // Reset both connections after that.
  bool cut = false;
  // Close both connections after that, as Step::kClose does.
  bool close = false;
};

// What a held request becomes that is cancelled. Views live until the codec is called again.
struct Cancelled {
  // So many bytes of those that are held do not go on; `to_server` does, in their place and at
  // once.
  size_t length = 0;
  absl::string_view to_server;
  // So many of those behind them mean nothing any more to the server: they are not held any longer.
  size_t released = 0;
};

// The state of one connection, both directions. One thread at a time. Never throws, never blocks,
// and allocates nothing per message once a connection is under way.
//
// A codec that loses track says so by `lost()`: from then on everything passes as it is, and a
// connection is never broken by it. The same holds for a stream that turns out to be encrypted.
class Codec {
 public:
  virtual ~Codec() = default;

  // Looks at bytes not yet consumed, in order; `bytes` is never empty. Consumes `Piece::length` of
  // them. Returns kPass for as many messages at once as it can. Before kMore, it may pass what lies
  // in front. Never asks for more when it has been given kMaxText bytes or more.
  virtual Piece FromClient(absl::string_view bytes) = 0;
  virtual Piece FromServer(absl::string_view bytes) = 0;

  // The request of the last piece of FromClient() is to fail. To be called before anything else,
  // while the bytes that piece was about are still where they were.
  // nullopt where this protocol, or this moment of it, has no means to fail it so: it passes.
  virtual std::optional<Substitute> Fail(const v1::QueryFailure& failure) = 0;

  // What another connection may ask to cancel what this one does by; 0: there is no such thing, or
  // it is not known.
  virtual uint64_t key() const { return 0; }
  // What the request of the last piece of FromClient() is known by while it is held. To be asked
  // before anything else. 0: it cannot be cancelled.
  virtual uint32_t Ticket() const { return 0; }
  // The request of this ticket fails as one does that is cancelled. `bytes` begin with it: what was
  // looked at and has not gone on yet. nullopt: the server is busy with what came before it.
  virtual std::optional<Cancelled> Cancel(uint32_t /*ticket*/, absl::string_view /*bytes*/) {
    return std::nullopt;
  }

  // Nothing is under way: every request has been answered, no transaction is open, nothing is held.
  virtual bool Quiet() const = 0;
  virtual bool encrypted() const = 0;
  // Why the codec gave up; empty while it keeps track.
  virtual absl::string_view lost() const = 0;
  // Requests that passed because their text is not known any more, such as of a statement that was
  // prepared before more others than are remembered.
  virtual uint64_t unmatched() const { return 0; }
};

// nullptr for TCP, which has nothing to look at.
std::unique_ptr<Codec> MakeCodec(v1::Protocol protocol);

}  // namespace firedrill::wire
