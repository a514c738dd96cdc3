// Definitions as text again: nothing is lost, and what lint refuses in a text is refused without
// one.
#include "experiment/writer.h"

#include <gmock/gmock.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "experiment/reader.h"

namespace firedrill {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const std::string kSource = FIREDRILL_SOURCE_DIR;

ExperimentFile Valid() {
  const std::string file = kSource + "/tests/experiment/valid/unclosed-connections.yaml";
  return ReadExperiment(*ReadFileText(file), "x.yaml");
}

// Sites differ: this one has whatever an experiment may name.
std::string Refusal(const v1::Experiment& experiment) {
  const SiteFile site = ReadSite(*ReadFileText(kSource + "/tests/experiment/valid/site.yaml"), "s");
  v1::SiteSpec spec = site.site.spec();
  spec.clear_injectors();
  const auto checked = CheckExperiment(experiment, spec, "x.yaml", {});
  return checked.ok() ? "" : std::string(checked.status().message());
}

TEST(WriteYaml, EveryShippedDefinitionIsReadBackAsItWas) {
  int files = 0;
  for (const char* folder : {"/experiments", "/tests/experiment/valid"}) {
    for (const auto& entry : std::filesystem::directory_iterator(kSource + folder)) {
      if (entry.path().extension() != ".yaml") continue;
      SCOPED_TRACE(entry.path());
      const ExperimentFile file = ReadExperiment(*ReadFileText(entry.path()), "x.yaml");
      if (file.experiment.kind() != "Experiment") continue;
      ++files;
      const std::string text = WriteYaml(file.experiment);
      const ExperimentFile again = ReadExperiment(text, "x.yaml");
      EXPECT_THAT(again.Report(), IsEmpty()) << text;
      EXPECT_TRUE(
          google::protobuf::util::MessageDifferencer::Equals(file.experiment, again.experiment))
          << text;
    }
  }
  EXPECT_GE(files, 7);
}

TEST(WriteYaml, TextsThatYamlWouldReadOtherwiseAreReadBackAsTheyWere) {
  v1::Experiment experiment = Valid().experiment;
  for (const char* text : {"12", "true", "a: b # c", "- d", "it's \"so\"", "two\nlines\n", "&x *y",
                           "caf\xc3\xa9 \xe2\x80\xa8", "back\\slash", "~", "{}", " "}) {
    (*experiment.mutable_metadata()->mutable_annotations())["note"] = text;
    const ExperimentFile again = ReadExperiment(WriteYaml(experiment), "x.yaml");
    EXPECT_EQ(again.experiment.metadata().annotations().at("note"), text) << again.Report();
  }
}

// A site that is made in memory goes to the processes as text.
TEST(WriteYaml, ASiteIsReadBackAsItWas) {
  const char text[] =
      "apiVersion: firedrill/v1\n"
      "kind: Site\n"
      "metadata: {name: it}\n"
      "spec:\n"
      "  environment: lab\n"
      "  injectors:\n"
      "    - name: db-node\n"
      "      labels: {role: database, odd: \"a: 'b' \\\"c\\\"\"}\n"
      "      profiles:\n"
      "        - name: dba\n"
      "          postgresql: {host: 127.0.0.1, port: 5432, user: dba, database: shop, password: "
      "{file: /etc/secret}}\n"
      "          statements:\n"
      "            - {name: count, sql: \"SELECT 1\\nFROM t\", parameters: [run]}\n"
      "        - name: raw\n"
      "          tcp: {host: 127.0.0.1, port: 7000}\n"
      "      policy: {faults: [delayQueries], atMost: {delayQueries.delay: 0.5}, maxDuration: "
      "1500ms}\n";
  const SiteFile first = ReadSite(text, "first");
  ASSERT_TRUE(first.ok()) << first.Report();
  const std::string written = WriteYaml(first.site);
  const SiteFile second = ReadSite(written, "second");
  ASSERT_TRUE(second.ok()) << written << second.Report();
  EXPECT_EQ(first.site.DebugString(), second.site.DebugString());
}

TEST(CheckExperiment, TakesWhatLintTakesAndFillsInWhatWasLeftOut) {
  const ExperimentFile valid = Valid();
  EXPECT_THAT(Refusal(valid.experiment), IsEmpty());
  v1::Experiment bare = valid.experiment;
  bare.mutable_spec()->mutable_faults(0)->clear_lease();
  const SiteFile site = ReadSite(*ReadFileText(kSource + "/tests/experiment/valid/site.yaml"), "s");
  v1::SiteSpec spec = site.site.spec();
  spec.clear_injectors();
  const auto filled = CheckExperiment(bare, spec, "", {});
  ASSERT_TRUE(filled.ok()) << filled.status();
  EXPECT_EQ(filled->spec().faults(0).lease().seconds(), 5);
}

TEST(CheckExperiment, SaysWhereItStandsInTheClientsFile) {
  v1::Experiment experiment = Valid().experiment;
  experiment.mutable_spec()->mutable_faults(0)->mutable_duration()->set_seconds(600);
  v1::Position position;
  position.set_line(31);
  position.set_column(7);
  const auto checked = CheckExperiment(experiment, {}, "x.yaml", {{"faults[0]", position}});
  EXPECT_THAT(std::string(checked.status().message()),
              AllOf(HasSubstr("the controller refuses this experiment:\n"),
                    HasSubstr("x.yaml:31:7: error: ")));
}

TEST(CheckExperiment, RefusesWhatOnlyANewerClientKnows) {
  v1::Experiment experiment = Valid().experiment;
  v1::FaultStep& step = *experiment.mutable_spec()->mutable_faults(0);
  step.GetReflection()->MutableUnknownFields(&step)->AddVarint(4711, 1);
  EXPECT_THAT(Refusal(experiment), HasSubstr("does not know: bring it to the version"));
}

TEST(CheckExperiment, RefusesWhatTheSiteHasNot) {
  v1::SiteSpec nothing;
  nothing.set_environment("lab");
  const auto checked = CheckExperiment(Valid().experiment, nothing, "x.yaml", {});
  EXPECT_THAT(std::string(checked.status().message()), HasSubstr("endpoint"));
}

}  // namespace
}  // namespace firedrill
