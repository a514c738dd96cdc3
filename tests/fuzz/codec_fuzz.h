// What every codec must keep, whatever comes. The input is a row of chunks: one byte (its highest
// bit: the server sent it; the next: requests fail; the rest: how, or what becomes of those that do
// not: they are held, and before that what is held is let go, or cancelled), two of length, and so
// many bytes.
#pragma once

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "injector/wire/codecs.h"
#include "tests/injector/wire/codec_feed.h"

namespace firedrill::wire {

// A codec, and errors by which its requests may fail.
struct FuzzedCodec {
  const char* corpus;
  std::unique_ptr<Codec> (*make)();
  std::vector<const char*> errors;  // One at least.
};
inline const FuzzedCodec kFuzzedCodecs[] = {
    {"postgresql", MakePostgresqlCodec, {"57014", "57P01", "53300", "40001"}},
    {"mysql", MakeMysqlCodec, {"1205", "1213", "1927", "2006"}},
    {"redis", MakeRedisCodec, {"OOM", "LOADING"}},
    {"http", MakeHttpCodec, {"503", "304"}}};

// The promise that was broken; "" where all were kept.
inline std::string BrokenPromise(const FuzzedCodec& fuzzed, const uint8_t* data, size_t size) {
  v1::QueryFailure failure;
  bool fails = false;
  bool failed = false;
  CodecFeed feed(fuzzed.make(), [&](const Request& request) -> const v1::QueryFailure* {
    failed = failed || fails;
    return fails ? &failure : nullptr;
  });
  bool holds = false;
  feed.holds = [&](const Request&) { return holds; };
  std::string in[2];
  absl::string_view input(reinterpret_cast<const char*>(data), size);
  while (input.size() > 3) {
    const unsigned head = static_cast<unsigned char>(input[0]);
    const size_t length = std::min<size_t>(
        static_cast<unsigned char>(input[1]) * 256u + static_cast<unsigned char>(input[2]),
        input.size() - 3);
    const absl::string_view bytes = input.substr(3, length);
    input.remove_prefix(3 + length);
    fails = (head & 0x40) != 0;
    holds = !fails && (head & 8) != 0;
    if (!fails && (head & 16) != 0 && feed.Cancel()) failed = true;
    if (!fails && (head & 32) != 0) feed.LetGo();
    failure.Clear();
    if ((head & 1) != 0) failure.set_moment(v1::FAILURE_MOMENT_AFTER);
    if ((head & 2) != 0) {
      failure.set_cut_after(head & 0x3c);
    } else {
      failure.set_error(fuzzed.errors[(head >> 2 & 15) % fuzzed.errors.size()]);
    }
    if (bytes.empty()) continue;
    const bool client = (head & 0x80) == 0;
    in[client ? 0 : 1].append(bytes.data(), bytes.size());
    client ? feed.Client(bytes) : feed.Server(bytes);
    (void)feed.codec().Quiet();
    if (!feed.broken.empty()) return feed.broken;
    if (feed.cut || feed.closed) break;
  }
  feed.LetGo();
  // Nothing may be changed, cut or closed but for a failure.
  if (failed) return "";
  if (feed.cut || feed.closed) return "only failures end a connection";
  if (feed.to_server + feed.client_held != in[0] || feed.to_client + feed.server_held != in[1]) {
    return "what went in comes out";
  }
  return "";
}

inline int Fuzz(const FuzzedCodec& fuzzed, const uint8_t* data, size_t size) {
  const std::string broken = BrokenPromise(fuzzed, data, size);
  if (broken.empty()) return 0;
  std::fprintf(stderr, "broken promise: %s\n", broken.c_str());
  std::abort();
}

}  // namespace firedrill::wire
