// PostgreSQL's messages, made by hand for tests.
#pragma once

#include <cstdint>
#include <string>

namespace firedrill::wire {

inline std::string Z(const std::string& text) { return text + std::string(1, '\0'); }
inline std::string Big(uint32_t number) {
  std::string made;
  for (int shift = 24; shift >= 0; shift -= 8) made += static_cast<char>(number >> shift);
  return made;
}
inline std::string Message(char type, const std::string& body = "") {
  return type + Big(static_cast<uint32_t>(body.size() + 4)) + body;
}
inline std::string Hello(const std::string& user = "ann", const std::string& database = "shop") {
  const std::string body = Big(196608) + Z("user") + Z(user) + Z("database") + Z(database) + Z("");
  return Big(static_cast<uint32_t>(body.size() + 4)) + body;
}
inline std::string Simple(const std::string& text) { return Message('Q', Z(text)); }
inline std::string Parse(const std::string& name, const std::string& text) {
  return Message('P', Z(name) + Z(text) + std::string(2, '\0'));
}
inline std::string Bind(const std::string& portal, const std::string& name,
                        const std::string& value = "7") {
  const std::string two("\0\1", 2);
  return Message('B', Z(portal) + Z(name) + std::string(2, '\0') + two +
                          Big(static_cast<uint32_t>(value.size())) + value + std::string(2, '\0'));
}
inline std::string Describe(char kind, const std::string& name) {
  return Message('D', kind + Z(name));
}
inline std::string Execute(const std::string& portal = "") {
  return Message('E', Z(portal) + Big(0));
}
inline std::string Close(char kind, const std::string& name) {
  return Message('C', kind + Z(name));
}
inline std::string Sync() { return Message('S'); }

inline std::string AuthOk() { return Message('R', Big(0)); }
inline std::string Ready(char status = 'I') { return Message('Z', std::string(1, status)); }
inline std::string Welcome() {
  return AuthOk() + Message('S', Z("server_version") + Z("15.0")) +
         Message('K', Big(17) + Big(4711)) + Ready();
}
inline std::string Columns() {
  return Message('T', std::string("\0\1", 2) + Z("one") + std::string(18, '\0'));
}
inline std::string Row(const std::string& value) {
  return Message('D', std::string("\0\1", 2) + Big(static_cast<uint32_t>(value.size())) + value);
}
inline std::string Done(const std::string& tag) { return Message('C', Z(tag)); }
inline std::string ErrorOf(const std::string& code, const std::string& words) {
  return Message('E', "S" + Z("ERROR") + "V" + Z("ERROR") + "C" + Z(code) + "M" + Z(words) + Z(""));
}
// What a server says to what it is given in place of a request that is to fail.
inline std::string TrapError() {
  return ErrorOf("42601", "syntax error at or near \"firedrill_planned_failure\"");
}

}  // namespace firedrill::wire
