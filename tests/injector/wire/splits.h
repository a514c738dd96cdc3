// A conversation told to a codec whole, byte by byte and split at every point: the same comes out.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/injector/wire/codec_feed.h"

namespace firedrill::wire {

struct Line {
  bool from_client = true;
  std::string bytes;
};

// Everything that came out, as text to compare.
inline std::string Told(CodecFeed& feed) {
  std::string all =
      absl::StrCat("to server: ", feed.to_server, "\nto client: ", feed.to_client,
                   "\ncut: ", feed.cut, "\nclosed: ", feed.closed, "\nlost: ", feed.codec().lost(),
                   "\nencrypted: ", feed.codec().encrypted(), "\nquiet: ", feed.codec().Quiet(),
                   "\ngoodbyes: ", feed.goodbyes, "\nbroken: ", feed.broken, "\n");
  // Numbers of statements are the process's: only which are the same says something.
  std::map<uint64_t, size_t> numbers = {{0, 0}};
  for (const SeenRequest& request : feed.requests) {
    const size_t number = numbers.emplace(request.statement, numbers.size()).first->second;
    absl::StrAppend(&all, "request: ", request.text, " user ", request.user, " database ",
                    request.database, request.connect ? " connect" : "", request.cut ? " cut" : "",
                    " ", number, "\n");
  }
  return all;
}

// Returns the feed that was told everything whole.
inline std::unique_ptr<CodecFeed> TellInEveryWay(v1::Protocol protocol,
                                                 const std::vector<Line>& lines,
                                                 const CodecFeed::Decide& decide = nullptr) {
  const auto tell = [](CodecFeed* feed, const Line& line, absl::string_view bytes) {
    if (bytes.empty()) return;
    line.from_client ? feed->Client(bytes) : feed->Server(bytes);
  };
  auto whole = std::make_unique<CodecFeed>(MakeCodec(protocol), decide);
  for (const Line& line : lines) tell(whole.get(), line, line.bytes);
  const std::string told = Told(*whole);
  EXPECT_EQ(whole->broken, "");
  CodecFeed bytewise(MakeCodec(protocol), decide);
  for (const Line& line : lines) {
    for (size_t i = 0; i < line.bytes.size(); ++i) tell(&bytewise, line, line.bytes.substr(i, 1));
  }
  EXPECT_EQ(Told(bytewise), told) << "byte by byte";
  for (size_t split = 0; split < lines.size(); ++split) {
    for (size_t point = 1; point < lines[split].bytes.size(); ++point) {
      CodecFeed feed(MakeCodec(protocol), decide);
      for (size_t i = 0; i < lines.size(); ++i) {
        const size_t first = i == split ? point : lines[i].bytes.size();
        tell(&feed, lines[i], absl::string_view(lines[i].bytes).substr(0, first));
        tell(&feed, lines[i], absl::string_view(lines[i].bytes).substr(first));
      }
      EXPECT_EQ(Told(feed), told) << "line " << split << " split at " << point;
      if (::testing::Test::HasFailure()) return whole;
    }
  }
  return whole;
}

inline std::string Both(const std::vector<Line>& lines, bool from_client) {
  std::string all;
  for (const Line& line : lines) {
    if (line.from_client == from_client) all += line.bytes;
  }
  return all;
}

}  // namespace firedrill::wire
