// How the servers of each protocol number their errors.
#include "base/server_error.h"

#include <gtest/gtest.h>

namespace firedrill {
namespace {

bool Is(v1::Protocol protocol, absl::string_view error) {
  return WhyNoError(protocol, error).empty();
}

TEST(ServerError, IsOfOneProtocolOnly) {
  constexpr v1::Protocol kAll[] = {v1::PROTOCOL_POSTGRESQL, v1::PROTOCOL_MYSQL, v1::PROTOCOL_REDIS,
                                   v1::PROTOCOL_HTTP};
  const std::pair<const char*, v1::Protocol> errors[] = {
      {"57014", v1::PROTOCOL_POSTGRESQL}, {"40P01", v1::PROTOCOL_POSTGRESQL},
      {"1205", v1::PROTOCOL_MYSQL},       {"4031", v1::PROTOCOL_MYSQL},
      {"LOADING", v1::PROTOCOL_REDIS},    {"OOM", v1::PROTOCOL_REDIS},
      {"503", v1::PROTOCOL_HTTP},         {"429", v1::PROTOCOL_HTTP}};
  for (const auto& [error, its] : errors) {
    for (const v1::Protocol protocol : kAll) {
      EXPECT_EQ(Is(protocol, error), protocol == its) << error << " " << protocol;
    }
  }
}

TEST(ServerError, IsNoSuccess) {
  for (const char* error : {"00000", "01000", "02000", ""}) {
    EXPECT_FALSE(Is(v1::PROTOCOL_POSTGRESQL, error)) << error;
  }
  for (const char* error : {"200", "399", "600", "+503", ""}) {
    EXPECT_FALSE(Is(v1::PROTOCOL_HTTP, error)) << error;
  }
  for (const char* error : {"0", "999", "10000", "-1205", ""}) {
    EXPECT_FALSE(Is(v1::PROTOCOL_MYSQL, error)) << error;
  }
  EXPECT_FALSE(Is(v1::PROTOCOL_REDIS, ""));
}

TEST(ServerError, IsSaidInTheWordsOfItsOwnServer) {
  EXPECT_EQ(ErrorAdvice(v1::PROTOCOL_POSTGRESQL, "1213"), "40P01, as 1213 is of MySQL");
  EXPECT_EQ(ErrorAdvice(v1::PROTOCOL_REDIS, "25006"), "READONLY, as 25006 is of PostgreSQL");
  // Redis has none for it.
  EXPECT_EQ(ErrorAdvice(v1::PROTOCOL_REDIS, "40P01"), "one such as LOADING");
  EXPECT_EQ(ErrorAdvice(v1::PROTOCOL_HTTP, ""), "one between 400 and 599");
}

}  // namespace
}  // namespace firedrill
