// Both directions of a PostgreSQL connection, in any order and any pieces: nothing may crash, hang
// or be asked for without end, and what is not failed comes out as it went in.
//
// The input is a row of chunks: one byte (its highest bit says who sent it, the next whether
// requests fail, the rest which failure), two of length, and so many bytes.
#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "absl/strings/string_view.h"
#include "injector/wire/codecs.h"

namespace {

using firedrill::wire::Codec;
using firedrill::wire::kMaxText;
using firedrill::wire::Piece;
using firedrill::wire::Step;

void Check(bool holds, const char* promise) {
  if (holds) return;
  std::fprintf(stderr, "broken promise: %s\n", promise);
  std::abort();
}

firedrill::v1::QueryFailure Failure(int choice) {
  firedrill::v1::QueryFailure failure;
  if ((choice & 1) != 0) failure.set_moment(firedrill::v1::FAILURE_MOMENT_AFTER);
  switch ((choice >> 1) & 3) {
    case 0:
      failure.set_error("57014");
      break;
    case 1:
      failure.set_error("57P01");
      break;
    default:
      failure.set_cut_after(static_cast<uint32_t>(choice) * 3);
  }
  return failure;
}

struct Side {
  std::string held;
  std::string in;
  std::string out;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::unique_ptr<Codec> codec = firedrill::wire::MakePostgresqlCodec();
  Side sides[2];
  bool failed = false;
  bool over = false;
  absl::string_view input(reinterpret_cast<const char*>(data), size);
  while (input.size() > 3 && !over) {
    const int head = static_cast<unsigned char>(input[0]);
    const bool client = (head & 0x80) == 0;
    size_t length =
        static_cast<unsigned char>(input[1]) * 256 + static_cast<unsigned char>(input[2]);
    input.remove_prefix(3);
    length = std::min(length, input.size());
    Side& side = sides[client ? 0 : 1];
    side.held.append(input.data(), length);
    side.in.append(input.data(), length);
    input.remove_prefix(length);
    while (!side.held.empty() && !over) {
      const Piece piece = client ? codec->FromClient(side.held) : codec->FromServer(side.held);
      if (piece.step == Step::kMore) {
        Check(side.held.size() < kMaxText, "no more than the most is asked for");
        break;
      }
      Check(piece.length > 0 && piece.length <= side.held.size(), "progress");
      over = piece.step == Step::kCut || piece.step == Step::kClose;
      Check(!over || failed, "only failures end a connection");
      if (piece.step == Step::kReplace || over) {
        Check(failed, "only failures change bytes");
        side.out.append(piece.instead.data(), piece.instead.size());
      } else if (piece.step == Step::kRequest) {
        Check(client && piece.request.text.size() <= kMaxText,
              "requests are of clients and bounded");
        // Read it, so that a view of nothing is found.
        for (const absl::string_view view :
             {piece.request.text, piece.request.user, piece.request.database}) {
          side.out.append(view.data(), view.size());
          side.out.resize(side.out.size() - view.size());
        }
        const auto substitute = (head & 0x40) != 0 ? codec->Fail(Failure(head)) : std::nullopt;
        if (substitute.has_value()) {
          failed = true;
          over = substitute->cut || substitute->close;
          side.out.append(substitute->to_server.data(), substitute->to_server.size());
        } else {
          side.out.append(side.held, 0, piece.length);
        }
      } else {
        side.out.append(side.held, 0, piece.length);
      }
      side.held.erase(0, piece.length);
      codec->Quiet();
      codec->lost();
    }
  }
  for (const Side& side : sides)
    Check(failed || side.out + side.held == side.in, "what went in comes out");
  return 0;
}
