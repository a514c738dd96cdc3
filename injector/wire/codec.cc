// Which codec speaks which protocol.
#include "injector/wire/codec.h"

#include "injector/wire/codecs.h"

namespace firedrill::wire {

std::unique_ptr<Codec> MakeCodec(v1::Protocol protocol) {
  switch (protocol) {
    case v1::PROTOCOL_POSTGRESQL:
      return MakePostgresqlCodec();
    case v1::PROTOCOL_MYSQL:
      return MakeMysqlCodec();
    case v1::PROTOCOL_REDIS:
      return MakeRedisCodec();
    case v1::PROTOCOL_HTTP:
      return MakeHttpCodec();
    default:
      return nullptr;
  }
}

}  // namespace firedrill::wire
