// What every codec must keep, whatever comes. The input is a row of chunks: one byte (its highest
// bit: the server sent it; the next: requests fail; the rest: how), two of length, and so many
// bytes.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <initializer_list>
#include <memory>
#include <utility>

#include "absl/strings/string_view.h"
#include "injector/wire/codecs.h"
#include "tests/injector/wire/codec_feed.h"

namespace firedrill::wire {

inline void FuzzCodec(std::unique_ptr<Codec> codec, std::initializer_list<const char*> errors,
                      const uint8_t* data, size_t size) {
  v1::QueryFailure failure;
  bool fails = false;
  bool failed = false;
  CodecFeed feed(std::move(codec), [&](const Request& request) -> const v1::QueryFailure* {
    failed = failed || fails;
    return fails ? &failure : nullptr;
  });
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
    failure.Clear();
    if ((head & 1) != 0) failure.set_moment(v1::FAILURE_MOMENT_AFTER);
    if ((head & 2) != 0) {
      failure.set_cut_after(head & 0x3c);
    } else {
      failure.set_error(errors.begin()[(head >> 2 & 15) % errors.size()]);
    }
    if (bytes.empty()) continue;
    const bool client = (head & 0x80) == 0;
    in[client ? 0 : 1].append(bytes.data(), bytes.size());
    client ? feed.Client(bytes) : feed.Server(bytes);
    (void)feed.codec().Quiet();
    if (!feed.broken.empty()) std::abort();
    if (feed.cut || feed.closed) break;
  }
  // Nothing may be changed, cut or closed but for a failure.
  if (failed) return;
  if (feed.cut || feed.closed || feed.to_server + feed.client_held != in[0] ||
      feed.to_client + feed.server_held != in[1]) {
    std::abort();
  }
}

}  // namespace firedrill::wire
