// The PostgreSQL codec.
#include "injector/wire/codecs.h"
#include "injector/wire/codecs/postgresql_codec.h"

namespace firedrill::wire {

std::unique_ptr<Codec> MakePostgresqlCodec() {
  return std::make_unique<postgresql::PostgresqlCodec>();
}

}  // namespace firedrill::wire
