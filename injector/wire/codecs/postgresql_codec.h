// PostgreSQL's protocol 3: what is known of one session.
//
// The client's side and the server's meet in `answers_`: what the client sends puts answers there,
// what the server sends takes them away. A failure is the server's own: a statement that cannot be
// parsed goes to it in place of the request (or after it), and the error that comes back is worded
// anew. So the transaction, the Sync it skips to and the order of answers are what they are when a
// statement really fails.
//
// A COMMIT that fails before it is executed is a ROLLBACK to the server: a real one that fails ends
// its transaction, too.
//
// A request that is held and cancelled fails as one does before it is executed, in its place among
// what was sent behind it meanwhile.
//
// What fails after the server has executed it is followed by such a statement, and its own answer
// is not passed on. Outside of a transaction its work stays. Within one, the server's transaction
// has failed then, just as the client is told: its COMMIT is a ROLLBACK, and ROLLBACK TO a
// savepoint before it works. A COMMIT that fails so has committed. Of a pipeline, what stands
// before it up to the last Sync is committed with it, and what stands behind it up to the next one
// is not executed.
#pragma once

#include <deque>
#include <memory>
#include <string>

#include "absl/hash/hash.h"
#include "injector/wire/codec.h"
#include "injector/wire/codecs/postgresql_answers.h"
#include "injector/wire/codecs/postgresql_failure.h"
#include "injector/wire/codecs/postgresql_statements.h"

namespace firedrill::wire::postgresql {

class PostgresqlCodec final : public Codec {
 public:
  Piece FromClient(absl::string_view bytes) override;
  Piece FromServer(absl::string_view bytes) override;
  std::optional<Substitute> Fail(const v1::QueryFailure& failure) override;
  uint64_t key() const override { return key_; }
  uint32_t Ticket() const override;
  std::optional<Cancelled> Cancel(uint32_t ticket, absl::string_view bytes) override;
  bool Quiet() const override;
  bool encrypted() const override { return encrypted_; }
  absl::string_view lost() const override { return lost_; }
  uint64_t unmatched() const override { return unmatched_; }

 private:
  enum class Phase : uint8_t { kStart, kNegotiating, kSession, kPassing };
  // kEnded: by the server, of which the client may not know yet.
  enum class Copy : uint8_t { kNone, kIn, kEnded };
  enum class Last : uint8_t { kNone, kConnect, kQuery, kExecute };
  // What becomes of an answer that is kPlanned.
  struct Plan {
    std::string error;
    bool fatal = false;
    bool cut = false;
    size_t left = 0;
  };

  // The client's side: postgresql_client.cc.
  Piece First(absl::string_view bytes);
  Piece Startup(absl::string_view packet);
  Piece SkipOfClient(absl::string_view bytes);
  Piece Query(absl::string_view rest, size_t total);
  Piece Batch(absl::string_view rest);
  size_t BatchEnd(absl::string_view rest, bool* more) const;
  Piece BatchRequest(absl::string_view batch);
  Piece Alone(absl::string_view rest, size_t total);
  void SeeParse(absl::string_view body, bool cut);
  bool SeeBind(absl::string_view body);
  void SeeClose(absl::string_view body);
  bool SeeExecute(absl::string_view body, Request* request);
  bool UseStatement(absl::string_view text, Request* request);

  // Failures: postgresql_plan.cc.
  Piece CopyEnd(absl::string_view rest, size_t total);
  void FailBefore(size_t place, absl::string_view bytes, size_t execute, bool commits, Plan plan);
  void EndLate(size_t place);
  size_t CountOf(uint8_t flag, size_t places);

  // The server's side: postgresql_server.cc.
  Piece Negotiated(absl::string_view bytes);
  Piece Flagged(absl::string_view rest, char type, size_t total);
  Piece Trapped(absl::string_view rest, char type, size_t total);
  Piece Muted(absl::string_view rest, char type, size_t total);
  Piece Late(absl::string_view rest, char type, size_t total);
  Piece RolledBack(absl::string_view rest, char type, size_t total);
  Piece ErrorAtReady(absl::string_view rest, size_t total);
  Piece Cutting(absl::string_view bytes);
  bool See(absl::string_view rest, char type);
  void SeeError(bool passed);
  void SeeReady(char status);
  void SeeCopyIn();
  void SeeCompleted();
  void PopAnswer();

  Piece PassOne(absl::string_view rest, char type, size_t total);
  Piece DropOfServer(absl::string_view rest, size_t total);
  Piece Lose(absl::string_view why, absl::string_view bytes);
  void StopLooking();
  void AddPlan(size_t place, Plan plan);
  void DropPlan() { plans_->pop_front(); }

  Phase phase_ = Phase::kStart;
  Copy copy_ = Copy::kNone;
  Last last_ = Last::kNone;
  char status_ = 'I';
  bool encrypted_ = false;
  // Since the last Sync: something of the extended protocol was sent; it failed, so the server
  // skips to the Sync; the client is to believe so, but the server would not skip.
  bool open_group_ = false;
  bool group_failed_ = false;
  bool group_dropped_ = false;
  // What is left of a message, and whether it is dropped.
  bool client_skip_dropped_ = false;
  bool server_skip_dropped_ = false;
  uint32_t client_skip_ = 0;
  uint32_t server_skip_ = 0;
  // The connection is cut after so many bytes more.
  bool cutting_ = false;
  size_t cut_left_ = 0;

  Answers answers_;
  std::unique_ptr<std::deque<Plan>> plans_;
  Statements statements_;
  TextPointer session_;
  // The unnamed statement.
  std::string unnamed_;
  bool unnamed_known_ = false;
  bool unnamed_cut_ = false;
  // What the unnamed portal was bound to: a named statement's hash, or the unnamed one.
  bool bound_known_ = false;
  bool bound_unnamed_ = false;
  // Of the session, where it takes no room: thousands rest at a time.
  uint32_t key_ = 0;
  uint64_t bound_ = 0;

  // The last request: its bytes, its text, and where its Execute begins.
  absl::string_view last_bytes_;
  absl::string_view last_text_;
  size_t last_execute_ = 0;
  // Goes to the server when the last byte of what is skipped does.
  absl::string_view tail_;
  std::string made_;

  absl::string_view lost_;
  uint64_t unmatched_ = 0;
};

// The frame of a message: its type and its length with the type. False: not enough bytes.
inline bool Frame(absl::string_view rest, char* type, size_t* total) {
  if (rest.size() < 5) return false;
  const auto* b = reinterpret_cast<const unsigned char*>(rest.data());
  *type = rest[0];
  *total = 1 + ((size_t{b[1]} << 24) | (size_t{b[2]} << 16) | (size_t{b[3]} << 8) | b[4]);
  return true;
}
// What a session may be cancelled by, of the number of its process and its secret.
inline uint32_t KeyOf(absl::string_view bytes) {
  return static_cast<uint32_t>(absl::HashOf(bytes)) | 1;
}
// PostgreSQL allocates no more than that either.
inline constexpr size_t kMaxMessage = size_t{1} << 30;

inline Piece Pass(size_t length) { return {.step = Step::kPass, .length = length}; }
inline Piece More() { return {.step = Step::kMore}; }
inline Piece Replace(size_t length, absl::string_view instead) {
  return {.step = Step::kReplace, .length = length, .request = {}, .instead = instead};
}

}  // namespace firedrill::wire::postgresql
