// Both directions of a Redis connection, in any order and any pieces: nothing may crash, hang or be
// asked for without end, and what is not failed comes out as it went in.
#include "tests/fuzz/codec_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  firedrill::wire::FuzzCodec(firedrill::wire::MakeRedisCodec(), {"OOM", "LOADING"}, data, size);
  return 0;
}
