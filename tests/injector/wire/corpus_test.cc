// What the fuzzers began with, and what they have found: each codec keeps its promises on all of
// it.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "tests/fuzz/codec_fuzz.h"

namespace firedrill::wire {
namespace {

class CorpusTest : public ::testing::TestWithParam<size_t> {};

TEST_P(CorpusTest, KeepsEveryPromise) {
  const FuzzedCodec& fuzzed = kFuzzedCodecs[GetParam()];
  int inputs = 0;
  for (const auto& entry : std::filesystem::directory_iterator(
           std::string(FIREDRILL_SOURCE_DIR "/tests/fuzz/corpus/") + fuzzed.corpus)) {
    std::ifstream file(entry.path(), std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(file)), {});
    ASSERT_FALSE(bytes.empty()) << entry.path();
    EXPECT_EQ(BrokenPromise(fuzzed, reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()),
              "")
        << entry.path();
    ++inputs;
  }
  EXPECT_GE(inputs, 8);
}

// A codec that swallows a byte, or changes one, is not one that keeps them.
class Forgetful final : public Codec {
 public:
  Piece FromClient(absl::string_view bytes) override { return codec_->FromClient(bytes); }
  Piece FromServer(absl::string_view bytes) override {
    Piece piece = codec_->FromServer(bytes);
    if (piece.step == Step::kPass) piece.step = Step::kReplace;
    return piece;
  }
  std::optional<Substitute> Fail(const v1::QueryFailure& failure) override {
    return codec_->Fail(failure);
  }
  bool Quiet() const override { return codec_->Quiet(); }
  absl::string_view lost() const override { return codec_->lost(); }
  bool encrypted() const override { return codec_->encrypted(); }

 private:
  const std::unique_ptr<Codec> codec_ = MakeRedisCodec();
};

TEST(FuzzedCodecs, OneThatForgetsIsFound) {
  const FuzzedCodec forgetful = {
      "redis", [] { return std::unique_ptr<Codec>(new Forgetful); }, {"OOM"}};
  const std::string input("\x80\x00\x05+OK\r\n", 8);
  EXPECT_EQ(BrokenPromise(forgetful, reinterpret_cast<const uint8_t*>(input.data()), input.size()),
            "what went in comes out");
}

INSTANTIATE_TEST_SUITE_P(Every, CorpusTest, ::testing::Range<size_t>(0, 4), [](const auto& info) {
  return std::string(kFuzzedCodecs[info.param].corpus);
});

}  // namespace
}  // namespace firedrill::wire
