// The servers that profiles name.
#include "experiment/profile.h"

namespace firedrill {

v1::Protocol ProtocolOf(const v1::Profile& profile) {
  switch (profile.server_case()) {
    case v1::Profile::kPostgresql:
      return v1::PROTOCOL_POSTGRESQL;
    case v1::Profile::kMysql:
      return v1::PROTOCOL_MYSQL;
    case v1::Profile::kRedis:
      return v1::PROTOCOL_REDIS;
    case v1::Profile::kHttp:
      return v1::PROTOCOL_HTTP;
    case v1::Profile::kTcp:
      return v1::PROTOCOL_TCP;
    case v1::Profile::SERVER_NOT_SET:
      break;
  }
  return v1::PROTOCOL_UNSPECIFIED;
}

}  // namespace firedrill
