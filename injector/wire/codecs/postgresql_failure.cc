// The errors of a PostgreSQL server, with the words it uses.
#include "injector/wire/codecs/postgresql_failure.h"

#include <algorithm>
#include <cstdint>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace firedrill::wire::postgresql {
namespace {

struct Usual {
  absl::string_view code;
  absl::string_view message;
};

// As PostgreSQL 15 words them; those with a name in them are about a name that nobody uses.
constexpr Usual kUsual[] = {
    {"08000", "connection exception"},
    {"08003", "connection does not exist"},
    {"08006", "connection to client lost"},
    {"08P01", "invalid message format"},
    {"0A000", "cannot execute this statement"},
    {"22003", "integer out of range"},
    {"22012", "division by zero"},
    {"22P02", "invalid input syntax for type integer: \"firedrill\""},
    {"23502", "null value in column \"firedrill\" violates not-null constraint"},
    {"23503", "insert or update violates foreign key constraint \"firedrill\""},
    {"23505", "duplicate key value violates unique constraint \"firedrill\""},
    {"23514", "new row violates check constraint \"firedrill\""},
    {"25006", "cannot execute statement in a read-only transaction"},
    {"25P02", "current transaction is aborted, commands ignored until end of transaction block"},
    {"25P03", "terminating connection due to idle-in-transaction timeout"},
    {"26000", "prepared statement \"firedrill\" does not exist"},
    {"28000", "role is not permitted to log in"},
    {"28P01", "password authentication failed"},
    {"3D000", "database does not exist"},
    {"40001", "could not serialize access due to concurrent update"},
    {"40003", "statement completion unknown"},
    {"40P01", "deadlock detected"},
    {"42501", "permission denied"},
    {"42601", "syntax error"},
    {"42703", "column \"firedrill\" does not exist"},
    {"42P01", "relation \"firedrill\" does not exist"},
    {"53000", "insufficient resources"},
    {"53100", "could not extend file: No space left on device"},
    {"53200", "out of memory"},
    {"53300", "sorry, too many clients already"},
    {"53400", "configuration limit exceeded"},
    {"54000", "program limit exceeded"},
    {"55000", "object not in prerequisite state"},
    {"55006", "database is being accessed by other users"},
    {"55P03", "canceling statement due to lock timeout"},
    {"57014", "canceling statement due to user request"},
    {"57P01", "terminating connection due to administrator command"},
    {"57P02", "terminating connection because of crash of another server process"},
    {"57P03", "the database system is starting up"},
    {"57P04", "terminating connection because the database was dropped"},
    {"57P05", "terminating connection due to idle-session timeout"},
    {"58030", "could not read file: Input/output error"},
    {"72000", "snapshot too old"},
    {"XX000", "internal error"},
    {"XX001", "invalid page in block 0 of relation"},
    {"XX002", "index contains unexpected zero page"},
};

std::string Framed(char type, absl::string_view body) {
  std::string framed(1, type);
  const auto length = static_cast<uint32_t>(body.size() + 4);
  for (int shift = 24; shift >= 0; shift -= 8) framed += static_cast<char>(length >> shift);
  return absl::StrCat(framed, body);
}

// Those after which the server says no more.
bool EndsTheSession(absl::string_view code) {
  return absl::StartsWith(code, "57P") || absl::StartsWith(code, "28") ||
         absl::StartsWith(code, "08") || code == "25P03";
}

}  // namespace

absl::string_view TrapQuery() {
  static const std::string* message =
      new std::string(Framed('Q', absl::StrCat(kTrapWord, absl::string_view("\0", 1))));
  return *message;
}

absl::string_view TrapParse() {
  // A name of its own: a Parse of the unnamed statement would take the client's away.
  static const std::string* message =
      new std::string(Framed('P', absl::StrCat("firedrill", absl::string_view("\0", 1), kTrapWord,
                                               absl::string_view("\0\0\0", 3))));
  return *message;
}

absl::string_view RollbackQuery() { return absl::string_view("Q\0\0\0\15ROLLBACK\0", 14); }

absl::string_view SyncMessage() { return absl::string_view("S\0\0\0\4", 5); }

std::optional<Error> MakeError(const v1::QueryFailure& failure, bool connect) {
  const std::string& code = failure.error();
  if (code.size() != 5 || absl::StartsWith(code, "00") || absl::StartsWith(code, "01") ||
      absl::StartsWith(code, "02")) {
    return std::nullopt;
  }
  const auto sound = [](char c) { return absl::ascii_isdigit(c) || absl::ascii_isupper(c); };
  if (!std::all_of(code.begin(), code.end(), sound)) return std::nullopt;
  std::string words = failure.message();
  if (words.empty()) words = absl::StrCat("error ", code);
  if (failure.message().empty()) {
    for (const Usual& usual : kUsual) {
      if (usual.code == code) words = std::string(usual.message);
    }
  }
  // What follows a NUL would be read as further fields.
  words.erase(std::find(words.begin(), words.end(), '\0'), words.end());
  Error error;
  error.fatal = connect || EndsTheSession(code);
  const absl::string_view severity = error.fatal ? "FATAL" : "ERROR";
  const absl::string_view end("\0", 1);
  error.message = Framed('E', absl::StrCat("S", severity, end, "V", severity, end) +
                                  absl::StrCat("C", code, end, "M", words, end, end));
  return error;
}

}  // namespace firedrill::wire::postgresql
