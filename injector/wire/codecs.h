// The codecs, one file each in codecs/.
#pragma once

#include <memory>

#include "injector/wire/codec.h"

namespace firedrill::wire {

std::unique_ptr<Codec> MakePostgresqlCodec();
std::unique_ptr<Codec> MakeMysqlCodec();
std::unique_ptr<Codec> MakeRedisCodec();
std::unique_ptr<Codec> MakeHttpCodec();

}  // namespace firedrill::wire
