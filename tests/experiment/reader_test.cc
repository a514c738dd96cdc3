// Whole files: the valid ones, and what reading promises beyond single rules.
#include "experiment/reader.h"

#include "base/time_proto.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace firedrill {
namespace {

std::string TextOf(const std::string& name) {
  absl::StatusOr<std::string> text =
      ReadFileText(std::string(FIREDRILL_SOURCE_DIR) + "/tests/experiment/valid/" + name);
  EXPECT_TRUE(text.ok()) << text.status();
  return text.value_or("");
}

TEST(Reader, ReadsTheExampleWithoutAProblem) {
  ExperimentFile file = ReadExperiment(TextOf("unclosed-connections.yaml"), "x.yaml");
  EXPECT_EQ(file.Report(), "");
  const v1::ExperimentSpec& spec = file.experiment.spec();
  EXPECT_EQ(spec.faults(0).fault().hold_connections().state(),
            v1::SESSION_STATE_IDLE_IN_TRANSACTION);
  EXPECT_EQ(spec.faults(0).fault().hold_connections().fill_to(), 1.0);
  EXPECT_EQ(FromProto(spec.faults(0).duration()), absl::Seconds(40));
  EXPECT_EQ(spec.steady_state(0).probe().load(), "shoppers");
  EXPECT_EQ(spec.steady_state(0).probe().request(), "login");
  EXPECT_EQ(spec.expect().recovery(2).probe().sql().statement(), "sessions-of-run");
  EXPECT_EQ(spec.load(0).load().send_requests().values().at("email"), "shop-emails");
}

TEST(Reader, ReadsTheSiteWithoutAProblem) {
  SiteFile file = ReadSite(TextOf("site.yaml"), "site.yaml");
  EXPECT_EQ(file.Report(), "");
  EXPECT_EQ(file.site.spec().injectors(0).policy().at_most().at("holdConnections.count"), 200);
}

TEST(Reader, FillsInTheDefaultsOfKeysThatAreLeftOut) {
  ExperimentFile file = ReadExperiment(TextOf("unclosed-connections.yaml"), "x.yaml");
  const v1::ExperimentSpec& spec = file.experiment.spec();
  EXPECT_EQ(FromProto(spec.faults(0).lease()), absl::Seconds(5));
  EXPECT_EQ(spec.faults(0).on_controller_loss(), v1::ON_CONTROLLER_LOSS_REVERT);
  EXPECT_EQ(FromProto(spec.steady_state(1).every()), absl::Seconds(1));
  EXPECT_TRUE(spec.expect().recovery(0).expected());
  EXPECT_FALSE(spec.expect().recovery(1).expected());
  EXPECT_EQ(spec.load(0).load().send_requests().requests(0).method(), "GET");
  SiteFile site = ReadSite(TextOf("site.yaml"), "site.yaml");
  EXPECT_EQ(site.site.spec().injectors(0).profiles(0).postgresql().port(), 5432u);
}

TEST(Reader, KnowsWhereEachKeyStands) {
  ExperimentFile file = ReadExperiment(TextOf("unclosed-connections.yaml"), "x.yaml");
  std::map<std::string, v1::Position> positions = file.Positions();
  EXPECT_EQ(positions.at("metadata.name").line(), 5u);
  EXPECT_EQ(positions.at("metadata.name").column(), 3u);
  EXPECT_EQ(positions.at("expect.alerts[0]").line(), 43u);
  EXPECT_EQ(positions.at("expect.alerts[0]").column(), 9u);
  EXPECT_EQ(positions.at("expect.alerts[0].resolved.within").line(), 49u);
  EXPECT_EQ(positions.at("faults[0].holdConnections.fillTo").column(), 143u);
  EXPECT_EQ(positions.count("faults[0].lease"), 0u);
}

TEST(Reader, FitsTheExampleToItsSite) {
  ExperimentFile file = ReadExperiment(TextOf("unclosed-connections.yaml"), "x.yaml");
  SiteFile site = ReadSite(TextOf("site.yaml"), "site.yaml");
  file.problems = CheckAgainstSite(file, site.site.spec());
  EXPECT_EQ(file.Report(), "");
}

}  // namespace
}  // namespace firedrill
