// Bytes of MySQL packets, and the server's errors by number.
#include "injector/wire/codecs/mysql_packets.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace firedrill::wire {
namespace {

struct Error {
  uint16_t number;
  absl::string_view state;
  absl::string_view text;
  MysqlErrorEffect effect = MysqlErrorEffect::kNone;
};

constexpr Error kErrors[] = {
    {1020, "HY000", "Record has changed since last read in table", MysqlErrorEffect::kRollsBack},
    {1021, "HY000", "Disk full; waiting for someone to free some space"},
    {1037, "HY001", "Out of memory; restart server and try again"},
    {1040, "08004", "Too many connections"},
    {1041, "HY000", "Out of memory."},
    {1045, "28000", "Access denied for user"},
    {1053, "08S01", "Server shutdown in progress"},
    {1114, "HY000", "The table is full"},
    {1129, "HY000",
     "Host is blocked because of many connection errors; unblock with "
     "'mariadb-admin flush-hosts'"},
    {1142, "42000", "Command denied to user"},
    {1180, "HY000", "Got error 5 \"Input/output error\" during COMMIT"},
    {1203, "42000", "User already has more than 'max_user_connections' active connections"},
    {1205, "HY000", "Lock wait timeout exceeded; try restarting transaction"},
    {1206, "HY000", "The total number of locks exceeds the lock table size"},
    {1213, "40001", "Deadlock found when trying to get lock; try restarting transaction",
     MysqlErrorEffect::kRollsBack},
    {1226, "42000", "User has exceeded the 'max_user_connections' resource"},
    {1290, "HY000",
     "The MariaDB server is running with the --read-only option so it cannot "
     "execute this statement"},
    {1317, "70100", "Query execution was interrupted"},
    {1836, "HY000", "Running in read-only mode"},
    {1927, "70100", "Connection was killed", MysqlErrorEffect::kEnds},
    {1969, "70100", "Query execution was interrupted (max_statement_time exceeded)"},
    {3024, "HY000", "Query execution was interrupted, maximum statement execution time exceeded"},
    // No server sends these: it is how a client names a connection that broke.
    {2006, "HY000", "", MysqlErrorEffect::kBreaks},
    {2013, "HY000", "", MysqlErrorEffect::kBreaks},
};

// How long a value of a type is in the binary protocol, behind `reader`.
void SkipValue(uint8_t type, MysqlReader* reader) {
  switch (type) {
    case 1:  // TINY
      reader->Bytes(1);
      return;
    case 2:   // SHORT
    case 13:  // YEAR
      reader->Bytes(2);
      return;
    case 3:  // LONG
    case 4:  // FLOAT
    case 9:  // INT24
      reader->Bytes(4);
      return;
    case 5:  // DOUBLE
    case 8:  // LONGLONG
      reader->Bytes(8);
      return;
    case 6:  // NULL
      return;
    case 7:   // TIMESTAMP
    case 10:  // DATE
    case 11:  // TIME
    case 12:  // DATETIME
      reader->Bytes(reader->Number(1));
      return;
    default:
      reader->Bytes(reader->Lenenc());
  }
}

}  // namespace

uint32_t MysqlSizeOf(absl::string_view header) {
  return static_cast<uint8_t>(header[0]) | uint32_t{static_cast<uint8_t>(header[1])} << 8 |
         uint32_t{static_cast<uint8_t>(header[2])} << 16;
}

uint64_t MysqlReader::Number(size_t bytes) {
  uint64_t value = 0;
  const absl::string_view taken = Bytes(bytes);
  for (size_t i = 0; i < taken.size(); ++i) {
    value |= uint64_t{static_cast<uint8_t>(taken[i])} << (8 * i);
  }
  return value;
}

uint64_t MysqlReader::Lenenc() {
  const uint64_t first = Number(1);
  if (first < 0xfb) return first;
  if (first == 0xfc) return Number(2);
  if (first == 0xfd) return Number(3);
  if (first == 0xfe) return Number(8);
  ok_ = false;
  return 0;
}

absl::string_view MysqlReader::Bytes(uint64_t count) {
  if (count > bytes_.size()) {
    ok_ = false;
    bytes_ = {};
    return {};
  }
  const absl::string_view taken = bytes_.substr(0, count);
  bytes_.remove_prefix(count);
  return taken;
}

absl::string_view MysqlReader::UntilNul() {
  const size_t end = bytes_.find('\0');
  if (end == absl::string_view::npos) {
    ok_ = false;
    return {};
  }
  const absl::string_view taken = Bytes(end);
  Bytes(1);
  return taken;
}

std::optional<MysqlGreeting> ReadGreeting(absl::string_view payload) {
  MysqlReader reader(payload);
  if (reader.Number(1) != 10) return std::nullopt;
  reader.UntilNul();
  const auto session = static_cast<uint32_t>(reader.Number(4));
  reader.Bytes(8 + 1);
  uint64_t capabilities = reader.Number(2);
  reader.Bytes(1 + 2);
  capabilities |= reader.Number(2) << 16;
  reader.Bytes(1 + 6);
  const uint64_t more = reader.Number(4);
  if (!reader.ok()) return std::nullopt;
  if ((capabilities & kClientMysql) == 0) capabilities |= more << 32;
  return MysqlGreeting{capabilities, session};
}

std::optional<MysqlLogin> ReadLogin(absl::string_view payload) {
  MysqlReader reader(payload);
  MysqlLogin login;
  login.capabilities = reader.Number(4);
  if (!reader.ok() || (login.capabilities & kProtocol41) == 0) return std::nullopt;
  reader.Bytes(4 + 1 + 19);
  const uint64_t more = reader.Number(4);
  if (!reader.ok()) return std::nullopt;
  if ((login.capabilities & kClientMysql) == 0) login.capabilities |= more << 32;
  if (reader.rest().empty()) return login;
  login.user = reader.UntilNul();
  if ((login.capabilities & kAuthLenenc) != 0) {
    reader.Bytes(reader.Lenenc());
  } else if ((login.capabilities & kSecureConnection) != 0) {
    reader.Bytes(reader.Number(1));
  } else {
    reader.UntilNul();
  }
  // Some clients leave the final NUL out where there is nothing behind it.
  if ((login.capabilities & kConnectWithDb) != 0) {
    login.database = reader.rest().substr(0, reader.rest().find('\0'));
  }
  return login;
}

uint16_t OkStatus(absl::string_view payload) {
  MysqlReader reader(payload);
  reader.Bytes(1);
  reader.Lenenc();
  reader.Lenenc();
  return static_cast<uint16_t>(reader.Number(2));
}

uint16_t EofStatus(absl::string_view payload) {
  MysqlReader reader(payload);
  reader.Bytes(3);
  return static_cast<uint16_t>(reader.Number(2));
}

absl::string_view WithoutAttributes(absl::string_view payload) {
  MysqlReader reader(payload);
  const uint64_t count = reader.Lenenc();
  reader.Lenenc();
  if (count == 0 || !reader.ok() || count > payload.size()) return reader.rest();
  const absl::string_view nulls = reader.Bytes((count + 7) / 8);
  reader.Bytes(1);
  MysqlReader types = reader;
  for (uint64_t i = 0; i < count && reader.ok(); ++i) {
    reader.Bytes(2);
    reader.Bytes(reader.Lenenc());
  }
  for (uint64_t i = 0; i < count && reader.ok(); ++i) {
    const uint8_t type = static_cast<uint8_t>(types.Number(2));
    types.Bytes(types.Lenenc());
    if ((static_cast<uint8_t>(nulls[i / 8]) >> (i % 8) & 1) == 0) SkipValue(type, &reader);
  }
  return reader.rest();
}

std::string MysqlPacket(uint8_t sequence, absl::string_view payload) {
  const size_t size = payload.size();
  const char header[] = {static_cast<char>(size), static_cast<char>(size >> 8),
                         static_cast<char>(size >> 16), static_cast<char>(sequence)};
  return absl::StrCat(absl::string_view(header, sizeof header), payload);
}

std::optional<MysqlError> ReadMysqlError(const v1::QueryFailure& failure) {
  uint32_t number = 0;
  if (!absl::SimpleAtoi(failure.error(), &number) || number < 1000 || number >= 0xffff) {
    return std::nullopt;
  }
  Error found = {static_cast<uint16_t>(number), "HY000", "Unknown error"};
  for (const Error& error : kErrors) {
    if (error.number == number) found = error;
  }
  const char start[] = {'\xff', static_cast<char>(number), static_cast<char>(number >> 8), '#'};
  MysqlError error;
  error.number = found.number;
  error.effect = found.effect;
  error.payload = absl::StrCat(absl::string_view(start, sizeof start), found.state,
                               failure.message().empty() ? found.text : failure.message());
  return error;
}

}  // namespace firedrill::wire
