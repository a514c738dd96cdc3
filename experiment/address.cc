// Parses addresses without resolving names.
#include "experiment/address.h"

#include <arpa/inet.h>

#include <cstring>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace firedrill {
namespace {

absl::Status ParsePort(absl::string_view text, int* port) {
  if (text.empty() || text.size() > 5 ||
      text.find_first_not_of("0123456789") != absl::string_view::npos ||
      !absl::SimpleAtoi(text, port) || *port > 65535) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", text, "' is no port: a number from 1 to 65535"));
  }
  return absl::OkStatus();
}

// "host", "host:port", "[v6]:port".
absl::Status ParseHostPort(absl::string_view text, Address* address) {
  absl::string_view port;
  bool has_port = false;
  if (absl::StartsWith(text, "[")) {
    size_t end = text.find(']');
    in6_addr parsed;
    if (end == absl::string_view::npos ||
        inet_pton(AF_INET6, std::string(text.substr(1, end - 1)).c_str(), &parsed) != 1) {
      return absl::InvalidArgumentError("the brackets do not hold an IPv6 address");
    }
    address->host = std::string(text.substr(1, end - 1));
    absl::string_view rest = text.substr(end + 1);
    has_port = absl::StartsWith(rest, ":");
    if (!has_port && !rest.empty()) {
      return absl::InvalidArgumentError("after the brackets stands ':' and a port, or nothing");
    }
    if (has_port) port = rest.substr(1);
  } else {
    size_t colon = text.find(':');
    if (colon != text.rfind(':')) {
      return absl::InvalidArgumentError("an IPv6 address stands in brackets: [::1]");
    }
    address->host = std::string(text.substr(0, colon));
    has_port = colon != absl::string_view::npos;
    if (has_port) port = text.substr(colon + 1);
    for (char c : address->host) {
      if (!absl::ascii_isalnum(c) && c != '.' && c != '-' && c != '_') {
        return absl::InvalidArgumentError(
            absl::StrCat("'", std::string(1, c), "' cannot stand in a host name"));
      }
    }
  }
  return has_port ? ParsePort(port, &address->port) : absl::OkStatus();
}

bool IsLinkLocal(const std::string& host) {
  in_addr v4;
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) return ntohl(v4.s_addr) >> 16 == 0xa9fe;
  in6_addr v6;
  if (inet_pton(AF_INET6, host.c_str(), &v6) != 1) return false;
  if (IN6_IS_ADDR_LINKLOCAL(&v6)) return true;
  return IN6_IS_ADDR_V4MAPPED(&v6) && v6.s6_addr[12] == 169 && v6.s6_addr[13] == 254;
}

}  // namespace

absl::StatusOr<Address> ParseUrl(absl::string_view text) {
  size_t mark = text.find("://");
  if (mark == absl::string_view::npos) return absl::InvalidArgumentError("'://' is missing");
  Address address;
  address.scheme = std::string(text.substr(0, mark));
  absl::string_view rest = text.substr(mark + 3);
  for (char c : rest) {
    if (absl::ascii_isspace(c) || absl::ascii_iscntrl(c)) {
      return absl::InvalidArgumentError("a URL has no blanks");
    }
  }
  absl::string_view authority = rest.substr(0, rest.find_first_of("/?#"));
  address.path = std::string(rest.substr(authority.size()));
  if (absl::StrContains(authority, "@")) {
    return absl::InvalidArgumentError("a user or a password has no place in a URL");
  }
  absl::Status status = ParseHostPort(authority, &address);
  if (!status.ok()) return status;
  if (address.host.empty()) return absl::InvalidArgumentError("the host is missing");
  if (absl::StrContains(authority, ":") && !absl::StrContains(authority, "]") &&
      address.port == 0) {
    return absl::InvalidArgumentError("port 0 cannot be reached");
  }
  if (address.scheme == "tcp" && (address.port == 0 || !address.path.empty())) {
    return absl::InvalidArgumentError("a tcp address is tcp://host:port");
  }
  if (address.path.find_first_of("?#") != std::string::npos) {
    return absl::InvalidArgumentError("a query or a fragment has no place here");
  }
  if (IsLinkLocal(address.host)) {
    return absl::InvalidArgumentError("link-local addresses are refused");
  }
  return address;
}

absl::StatusOr<Address> ParseListenAddress(absl::string_view text) {
  Address address;
  absl::Status status = ParseHostPort(text, &address);
  if (!status.ok()) return status;
  if (!absl::StrContains(text, ":")) return absl::InvalidArgumentError("the port is missing");
  return address;
}

bool IsLoopback(const Address& address) {
  if (address.host == "localhost") return true;
  in_addr v4;
  if (inet_pton(AF_INET, address.host.c_str(), &v4) == 1) return ntohl(v4.s_addr) >> 24 == 127;
  in6_addr v6;
  return inet_pton(AF_INET6, address.host.c_str(), &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

}  // namespace firedrill
