// Both directions of a PostgreSQL connection, in any order and any pieces: nothing may crash, hang
// or be asked for without end, and what is not failed comes out as it went in.
#include "tests/fuzz/codec_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return firedrill::wire::Fuzz(firedrill::wire::kFuzzedCodecs[0], data, size);
}
