// What the MySQL codec reads out of single packets, and the packets that it makes itself.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "firedrill/v1/wire.pb.h"

namespace firedrill::wire {

inline constexpr size_t kMysqlHeader = 4;
// A packet of this size is continued by the next one.
inline constexpr uint32_t kMysqlMaxPacket = 0xffffff;

// Of the payload behind a packet's header.
uint32_t MysqlSizeOf(absl::string_view header);

// Capabilities, as both sides announce them. Those above 32 bits are MariaDB's own.
enum : uint64_t {
  kClientMysql = 1ull << 0,
  kConnectWithDb = 1ull << 3,
  kCompress = 1ull << 5,
  kProtocol41 = 1ull << 9,
  kSsl = 1ull << 11,
  kSecureConnection = 1ull << 15,
  kAuthLenenc = 1ull << 21,
  kDeprecateEof = 1ull << 24,
  kOptionalMetadata = 1ull << 25,
  kCompressZstd = 1ull << 26,
  kQueryAttributes = 1ull << 27,
  kCacheMetadata = 1ull << 36,
};

enum : uint16_t {
  kInTransaction = 0x0001,
  kMoreResults = 0x0008,
  kCursorExists = 0x0040,
  kNoBackslashEscapes = 0x0200,
};

// Reads from the front; past the end, everything reads as empty and ok() is false.
class MysqlReader {
 public:
  explicit MysqlReader(absl::string_view bytes) : bytes_(bytes) {}
  uint64_t Number(size_t bytes);
  // A number of 1 to 9 bytes.
  uint64_t Lenenc();
  absl::string_view Bytes(uint64_t count);
  absl::string_view UntilNul();
  absl::string_view rest() const { return bytes_; }
  bool ok() const { return ok_; }

 private:
  absl::string_view bytes_;
  bool ok_ = true;
};

struct MysqlGreeting {
  uint64_t capabilities = 0;
  // The number by which the session can be killed.
  uint32_t session = 0;
};
// The first packet of a server; nullopt when that is none of protocol 10.
std::optional<MysqlGreeting> ReadGreeting(absl::string_view payload);

struct MysqlLogin {
  uint64_t capabilities = 0;
  absl::string_view user;
  absl::string_view database;
};
// The answer to a greeting, or the request for TLS in its place.
std::optional<MysqlLogin> ReadLogin(absl::string_view payload);

// Status flags of an OK packet, or of the EOF packet that it took the place of.
uint16_t OkStatus(absl::string_view payload);
uint16_t EofStatus(absl::string_view payload);

// COM_QUERY without its first byte: what is left when query attributes are taken off.
absl::string_view WithoutAttributes(absl::string_view payload);

std::string MysqlPacket(uint8_t sequence, absl::string_view payload);

// What a server's error does beyond being told.
enum class MysqlErrorEffect {
  kNone,
  kRollsBack,
  kEnds,    // The server closes behind it.
  kBreaks,  // The connection breaks, and nothing is told.
};

struct MysqlError {
  uint16_t number = 0;
  MysqlErrorEffect effect = MysqlErrorEffect::kNone;
  // The payload of its ERR packet.
  std::string payload;
};
// nullopt when the code is not a number of MySQL.
std::optional<MysqlError> ReadMysqlError(const v1::QueryFailure& failure);

}  // namespace firedrill::wire
