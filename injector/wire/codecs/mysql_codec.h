// The state of one connection of MySQL or MariaDB.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "injector/wire/codec.h"
#include "injector/wire/codecs/mysql_packets.h"

namespace firedrill::wire {

class MysqlCodec final : public Codec {
 public:
  Piece FromClient(absl::string_view bytes) override;
  Piece FromServer(absl::string_view bytes) override;
  std::optional<Substitute> Fail(const v1::QueryFailure& failure) override;
  uint64_t key() const override { return session_; }
  uint32_t Ticket() const override;
  std::optional<Cancelled> Cancel(uint32_t ticket, absl::string_view bytes) override;
  bool Quiet() const override;
  bool encrypted() const override { return encrypted_; }
  absl::string_view lost() const override { return lost_; }

 private:
  enum class Phase : uint8_t { kGreeting, kLogin, kSession };

  // How an answer is built.
  enum class Answer : uint8_t {
    kOne,      // One packet: OK, ERR, EOF or text.
    kResults,  // OK, ERR, result sets, or the wish for a local file and then one of these.
    kPrepared,
    kColumns,  // Definitions up to EOF or ERR.
    kRows,     // Rows up to EOF or ERR.
    kLogin,    // An exchange up to OK or ERR.
  };
  // What a success means for the session.
  enum class Effect : uint8_t {
    kNone,
    kDatabase,
    kLogin,
    kPrepared,
    kForgetsStatements,
    // By SQL; what a name stood for before is gone even where the server fails it.
    kNames,
    kForgetsName,
    kForgetsNames,
    // What another session executes.
    kKills,
  };

  struct Failing {
    bool cut = false;
    bool ends = false;
    uint32_t cut_after = 0;
    std::string payload;
  };
  struct Words {
    // A user and a database, or a statement's text.
    std::string user;
    std::string text;
    bool cut = false;
    // The key of a statement named by SQL; whom a KILL is about.
    uint64_t key = 0;
  };
  struct Asked {
    Answer answer = Answer::kOne;
    Effect effect = Effect::kNone;
    uint8_t sequence = 1;  // Of the answer's first packet.
    std::unique_ptr<Words> words;
    std::unique_ptr<Failing> failing;
  };
  struct Statement {
    std::string text;
    // Under this generation's user and database.
    uint64_t number = 0;
    uint32_t generation = 0;
    bool cut = false;
  };

  Piece Lose(absl::string_view why, size_t length);
  bool Ask(Answer answer, Effect effect = Effect::kNone);
  Asked* Head() { return first_asked_ < asked_.size() ? &asked_[first_asked_] : nullptr; }
  void ForgetStatements();
  void ForgetNames();
  void Keep(uint64_t key, Words* words);
  void Drop(uint64_t key);

  // Client's side.
  Piece More() {
    client_waits_ = true;
    return {Step::kMore};
  }
  Piece Rest(absl::string_view bytes);
  Piece Login(absl::string_view bytes, uint32_t size);
  Piece Command(absl::string_view bytes, uint32_t size);
  Piece Query(absl::string_view text, bool cut);
  void SeeNaming(Request* request);
  void SeeExecuted(uint64_t key, Request* request);
  // Makes the request one for this statement; false when there is none.
  bool Use(uint64_t key, Request* request);
  Piece Execute(absl::string_view payload);
  Piece ChangeUser(absl::string_view payload);
  Piece Prepare(absl::string_view text, bool cut);
  Piece Requested(Piece piece);
  void FailBefore(Asked& asked, absl::string_view request, MysqlError error);
  void EndLate(size_t first);

  // Server's side.
  enum class Reached : uint8_t { kPacket, kEnd, kMore, kWrong };
  // Goes on to the end of a packet, if that is there.
  Reached Advance(absl::string_view bytes, size_t* at);
  Reached PacketDone();
  size_t Wanted(absl::string_view payload, uint32_t size) const;
  // What a packet means; its payload's beginning is there.
  bool Interpret(absl::string_view payload, uint32_t size);
  bool InterpretAnswer(Answer answer, absl::string_view payload, uint32_t size);
  bool InterpretFirst(absl::string_view payload, uint32_t size);
  void EndOfResult(uint16_t status);
  uint64_t Answered();
  void SeeStatus(uint16_t status);
  Piece Failed(absl::string_view bytes, Asked* head);
  Piece Cut(absl::string_view bytes, Failing* failing);

  // In the order of their commands; what was answered is in front of `first_asked_`.
  std::vector<Asked> asked_;
  size_t first_asked_ = 0;
  // By the server's number, or by the key of a name of SQL.
  absl::flat_hash_map<uint64_t, Statement> statements_;
  size_t statements_size_ = 0;
  std::string user_;
  std::string database_;
  // Of the latest failure; views of it were given out.
  std::string made_;
  absl::string_view last_request_;
  // Goes to the server when the last byte of what is dropped does.
  std::unique_ptr<std::string> tail_;
  absl::string_view lost_;
  uint64_t capabilities_ = 0;
  // Changes with user and database.
  uint32_t generation_ = 1;
  uint32_t last_statement_ = 0;
  uint32_t session_ = 0;
  uint32_t ever_asked_ = 0;

  uint32_t client_skip_ = 0;
  uint32_t server_skip_ = 0;
  uint64_t definitions_left_ = 0;
  uint32_t cut_sent_ = 0;
  uint32_t prepared_ = 0;

  Phase phase_ = Phase::kGreeting;
  // Where in a result set the server is.
  enum class At : uint8_t { kFirst, kDefinitions, kDefinitionsEnd, kRows } at_ = At::kFirst;
  uint8_t client_sequence_ = 0;
  uint8_t server_sequence_ = 0;
  bool encrypted_ = false;
  bool refused_ = false;
  bool client_waits_ = false;
  bool client_continues_ = false;
  bool drop_rest_ = false;
  bool can_fail_ = false;
  bool local_file_ = false;
  bool server_waits_ = false;
  bool server_continues_ = false;
  bool in_answer_ = false;
  bool ending_ = false;
  bool error_ = false;
  bool passes_packet_ = false;
  bool keep_sequence_ = false;
  bool in_transaction_ = false;
  bool backslashes_ = true;
  bool names_ = false;
};

}  // namespace firedrill::wire
