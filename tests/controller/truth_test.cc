// Conditions over samples and load windows, and the stretches in which they hold.
#include "controller/truth.h"

#include <gtest/gtest.h>

#include "base/time_proto.h"
#include "tests/testing/history_builder.h"

namespace firedrill {
namespace {

v1::PlannedCheck ProbeCheck(const std::string& is = "< 0.6") {
  v1::PlannedCheck check;
  check.set_probe("steadyState/slots-free");
  check.set_is(is);
  return check;
}

v1::PlannedCheck LoadCheck(const std::string& is, const std::string& request = "login",
                           int over = 2) {
  v1::PlannedCheck check;
  check.set_load("shoppers");
  check.set_request(request);
  check.set_is(is);
  *check.mutable_over() = ToProto(absl::Seconds(over));
  return check;
}

HistoryBuilder Empty() { return HistoryBuilder(v1::RunCreated()); }

std::vector<TruthPoint> Points(const v1::PlannedCheck& check, const HistoryBuilder& builder) {
  return TruthOf(check, builder.Build());
}

// "+1 t", "+2 f", "+3 ?" as points.
std::vector<TruthPoint> Of(const std::string& truths) {
  std::vector<TruthPoint> points;
  double at = 0;
  for (char c : truths) {
    at += 1;
    if (c == ' ') continue;
    const Truth truth = c == 't' ? Truth::kTrue : c == 'f' ? Truth::kFalse : Truth::kUnknown;
    points.push_back({HistoryBuilder::Time(at), truth, ""});
  }
  return points;
}

std::string HoldText(const std::optional<Hold>& hold) {
  if (!hold.has_value()) return "none";
  const auto text = [](absl::Time time) {
    return time == absl::InfiniteFuture()
               ? std::string("open")
               : std::to_string(absl::ToInt64Seconds(time - HistoryBuilder::Time(0)));
  };
  return text(hold->begin) + ".." + text(hold->end);
}

std::string First(const std::string& truths, int within, int hold) {
  return HoldText(
      FirstHold(Of(truths), HistoryBuilder::Time(1), absl::Seconds(within), absl::Seconds(hold)));
}

std::string Possible(const std::string& truths, int within, int hold) {
  return HoldText(FirstPossibleHold(Of(truths), HistoryBuilder::Time(1), absl::Seconds(within),
                                    absl::Seconds(hold)));
}

TEST(Truth, ASampleCountsFromWhenItWasAsked) {
  const auto points = Points(ProbeCheck(), Empty().Sample(3, "steadyState/slots-free", 0.5));
  ASSERT_EQ(points.size(), 1u);
  EXPECT_EQ(points[0].at, HistoryBuilder::Time(3));
  EXPECT_EQ(points[0].truth, Truth::kTrue);
  EXPECT_EQ(points[0].observed, "0.5");
}

TEST(Truth, ALateOrMissingAnswerIsUnknownAndNeverFalse) {
  const auto points = Points(ProbeCheck(), Empty()
                                               .LateSample(1, "steadyState/slots-free", 0.9)
                                               .NoSample(2, "steadyState/slots-free", "no series")
                                               .Sample(3, "steadyState/slots-free", 0.9));
  ASSERT_EQ(points.size(), 3u);
  EXPECT_EQ(points[0].truth, Truth::kUnknown);
  EXPECT_EQ(points[0].code, "late");
  EXPECT_EQ(points[1].truth, Truth::kUnknown);
  EXPECT_EQ(points[1].observed, "unknown: no series");
  EXPECT_EQ(points[1].code, "blind");
  EXPECT_EQ(points[2].truth, Truth::kFalse);
  EXPECT_EQ(points[2].code, "");
}

TEST(Truth, NotANumberIsUnknown) {
  const auto points =
      Points(ProbeCheck(), Empty().Sample(1, "steadyState/slots-free", std::nan("")));
  EXPECT_EQ(points.at(0).truth, Truth::kUnknown);
}

TEST(Truth, OtherProbesAndRequestsSayNothing) {
  EXPECT_TRUE(Points(ProbeCheck(), Empty().Sample(1, "steadyState/else", 0.9)).empty());
  EXPECT_TRUE(Points(LoadCheck("ok >= 99%"), Empty().Load(0, "shoppers", "images", 0)).empty());
}

TEST(Truth, ALoadIsSummedOverItsWindow) {
  // 100 % and 50 % over two seconds are 75 %; a third second with 50 % pushes the first one out.
  const auto points = Points(LoadCheck("ok >= 70%"), Empty()
                                                         .Load(0, "shoppers", "login", 100)
                                                         .Load(1, "shoppers", "login", 50)
                                                         .Load(2, "shoppers", "login", 50));
  ASSERT_EQ(points.size(), 3u);
  EXPECT_EQ(points[0].at, HistoryBuilder::Time(1));
  EXPECT_EQ(points[1].observed, "ok 75%");
  EXPECT_EQ(points[1].truth, Truth::kTrue);
  EXPECT_EQ(points[2].observed, "ok 50%");
  EXPECT_EQ(points[2].truth, Truth::kFalse);
}

TEST(Truth, PercentilesComeFromTheBucketThatHoldsThem) {
  HistoryBuilder builder = Empty();
  builder.Load(0, "shoppers", "login", 100);
  auto& latency = *builder.Last().mutable_load()->mutable_latency();
  latency.clear();
  latency[10'000] = 38;
  latency[300'000] = 2;
  const auto points = Points(LoadCheck("p50 < 20ms, p95 < 20ms, p99 < 20ms, max < 1s"), builder);
  EXPECT_EQ(points.at(0).observed, "p50 10ms, p95 10ms, p99 300ms, max 300ms");
  EXPECT_EQ(points.at(0).truth, Truth::kFalse);
}

TEST(Truth, WithoutAnyAnswerTheLatencyIsUnknown) {
  const auto latency = Points(LoadCheck("p95 < 1s"), Empty().Load(0, "shoppers", "login", 0));
  EXPECT_EQ(latency.at(0).truth, Truth::kUnknown);
  const auto both =
      Points(LoadCheck("ok >= 99%, p95 < 1s"), Empty().Load(0, "shoppers", "login", 0));
  EXPECT_EQ(both.at(0).truth, Truth::kFalse);
}

TEST(Truth, ARequestThatIsStillUnderWayIsNeitherOkNorAnError) {
  HistoryBuilder builder = Empty();
  builder.Load(0, "shoppers", "login", 100);
  builder.Last().mutable_load()->set_ok(20);
  EXPECT_EQ(Points(LoadCheck("ok >= 99%"), builder).at(0).observed, "ok 100%");
}

TEST(Truth, AStarvedLoadIsUnknown) {
  // 3 of 40 are 7.5 %, 2 of 40 exactly 5 %.
  const auto starved = Points(LoadCheck("ok >= 99%", "login", 1),
                              Empty().Load(0, "shoppers", "login", 100, absl::Milliseconds(1), 37));
  EXPECT_EQ(starved.at(0).truth, Truth::kUnknown);
  EXPECT_EQ(starved.at(0).code, "starved");
  EXPECT_EQ(starved.at(0).observed, "unknown: starved, 3 of 40 due requests were not sent");
  const auto fed = Points(LoadCheck("ok >= 99%", "login", 1),
                          Empty().Load(0, "shoppers", "login", 100, absl::Milliseconds(1), 38));
  EXPECT_EQ(fed.at(0).truth, Truth::kTrue);
}

TEST(Truth, AWholeLoadIsLookedAtWhenAllItsRequestsAreIn) {
  const auto points = Points(LoadCheck("ok >= 99%", ""), Empty()
                                                             .Load(0, "shoppers", "login", 100)
                                                             .Load(0, "shoppers", "images", 0)
                                                             .Load(1, "shoppers", "login", 100));
  ASSERT_EQ(points.size(), 1u);
  EXPECT_EQ(points[0].observed, "ok 50%");
}

TEST(Truth, AWindowThatIsToldAgainCountsOnce) {
  const auto points = Points(LoadCheck("ok >= 99%"), Empty()
                                                         .Load(0, "shoppers", "login", 0)
                                                         .Load(0, "shoppers", "login", 100)
                                                         .Load(1, "shoppers", "login", 100));
  ASSERT_EQ(points.size(), 2u);
  EXPECT_EQ(points[1].observed, "ok 100%");
}

TEST(Truth, ACheckWithoutAConditionIsNeverTrue) {
  EXPECT_TRUE(Points(ProbeCheck(""), Empty().Sample(1, "steadyState/slots-free", 0.5)).empty());
}

TEST(FirstHold, BeginsWithTheFirstTruePointThatLastsLongEnough) {
  EXPECT_EQ(First("ffttttff", 10, 3), "3..6");
  EXPECT_EQ(First("ffttttff", 10, 4), "none");
  EXPECT_EQ(First("ftftttt", 10, 2), "4..7");
  EXPECT_EQ(First("fftf", 10, 0), "3..3");
}

TEST(FirstHold, MayEndLaterButMustBeginInTime) {
  EXPECT_EQ(First("fffttttt", 3, 4), "4..8");
  EXPECT_EQ(First("ffffttttt", 3, 4), "none");
}

TEST(FirstHold, LooksOnlyAtWhatComesAfterTheAnchor) {
  EXPECT_EQ(HoldText(FirstHold(Of("tttttfffff"), HistoryBuilder::Time(6), absl::Seconds(4),
                               absl::ZeroDuration())),
            "none");
}

TEST(FirstHold, AShortBlindnessNeitherBreaksNorExtendsIt) {
  EXPECT_EQ(First("tt??tt", 2, 5), "1..6");
  EXPECT_EQ(First("tt????", 2, 3), "none");
  EXPECT_EQ(First("tt  tt", 2, 5), "1..6");
}

TEST(FirstHold, ALongBlindnessBreaksIt) {
  EXPECT_EQ(First("tt???tt", 2, 5), "none");
  EXPECT_EQ(First("tt   tt", 2, 5), "none");
  EXPECT_EQ(First("tt???tttttt", 10, 5), "6..11");
}

TEST(FirstPossibleHold, IsNoneWhereEverythingWasSeenFalse) {
  EXPECT_EQ(Possible("ffffffffffff", 5, 3), "none");
  EXPECT_EQ(Possible("fftfffffffff", 5, 3), "none");
  EXPECT_EQ(Possible("fff??fffffff", 5, 0), "none");
}

TEST(FirstPossibleHold, IsWhereBlindnessCouldHideAHold) {
  EXPECT_EQ(Possible("fff?????ffff", 5, 3), "3..9");
  EXPECT_EQ(Possible("fff     ffff", 5, 3), "3..9");
  EXPECT_EQ(Possible("fff?????ffff", 5, 7), "none");
}

TEST(FirstPossibleHold, MustBeginInTimeToo) {
  EXPECT_EQ(Possible("fffffff?????ffff", 5, 3), "none");
}

TEST(FirstPossibleHold, KnowsNothingOfWhatComesAfterTheLastPoint) {
  EXPECT_EQ(Possible("fff", 5, 3), "3..open");
  EXPECT_EQ(Possible("", 5, 3), "1..open");
}

TEST(StretchBegin, GoesBackBeyondTheAnchor) {
  const auto points = Of("tfttt");
  EXPECT_EQ(StretchBegin(points, HistoryBuilder::Time(5)), HistoryBuilder::Time(3));
  EXPECT_EQ(StretchBegin(Of("ttt"), HistoryBuilder::Time(3)), absl::InfinitePast());
}

}  // namespace
}  // namespace firedrill
