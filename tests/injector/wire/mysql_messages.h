// MySQL's packets, and how a session begins with them, made by hand for tests.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "injector/wire/codecs/mysql_packets.h"
#include "tests/injector/wire/splits.h"

namespace firedrill::wire {

using std::string_literals::operator""s;

inline std::string Packet(int sequence, const std::string& payload) {
  return MysqlPacket(static_cast<uint8_t>(sequence), payload);
}

inline std::string Little(uint64_t value, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i) text += static_cast<char>(value >> (8 * i));
  return text;
}

inline std::string Greeting(uint64_t capabilities) {
  return Packet(0, "\x0a"s + "8.0.36\0"s + Little(7, 4) + "saltsalt\0"s +
                       Little(capabilities & 0xffff, 2) + "\x2d" + Little(2, 2) +
                       Little(capabilities >> 16 & 0xffff, 2) + "\x15" + std::string(10, '\0') +
                       "saltsaltsalt\0caching_sha2_password\0"s);
}

inline std::string Login(uint64_t capabilities) {
  return Packet(1, Little(capabilities, 4) + Little(1 << 24, 4) + "\x2d" + std::string(23, '\0') +
                       "ann\0\x04"s + "hash" + "shop\0caching_sha2_password\0"s);
}

inline const std::string kOkPacket = "\x00\x00\x00\x02\x00\x00\x00"s;
inline constexpr uint64_t kUsual =
    kProtocol41 | kSecureConnection | kConnectWithDb | kClientMysql | kDeprecateEof;

inline std::vector<Line> LoggedIn(uint64_t capabilities) {
  return {{false, Greeting(capabilities)},
          {true, Login(capabilities)},
          // The password is wanted in full, under the server's key.
          {false, Packet(2, "\x01\x04")},
          {true, Packet(3, "\x02")},
          {false, Packet(4, "\x01-----BEGIN PUBLIC KEY-----")},
          {true, Packet(5, std::string(256, '\x11'))},
          {false, Packet(6, kOkPacket)}};
}

}  // namespace firedrill::wire
