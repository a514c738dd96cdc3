// What the protos must hold so that reading, schema and explain can be made from them.
#include "experiment/vocabulary.h"

#include <functional>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/text.h"
#include "experiment/cron.h"
#include "experiment/explain.h"
#include "experiment/mapper.h"
#include "experiment/reader.h"
#include "experiment/schema.h"
#include "experiment/yaml_tree.h"
#include "gmock/gmock.h"
#include "google/protobuf/dynamic_message.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "re2/re2.h"

namespace firedrill {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using ::testing::HasSubstr;

// Every message of the definitions, each once.
void Visit(const Descriptor* type, std::set<const Descriptor*>* seen) {
  if (absl::StartsWith(type->full_name(), "google.") || !seen->insert(type).second) return;
  for (int i = 0; i < type->field_count(); ++i) {
    const FieldDescriptor* field = type->field(i);
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE && !field->is_map()) {
      Visit(field->message_type(), seen);
    }
  }
}

std::set<const Descriptor*> AllTypes() {
  std::set<const Descriptor*> types;
  Visit(v1::Experiment::descriptor(), &types);
  Visit(v1::Site::descriptor(), &types);
  return types;
}

TEST(Vocabulary, EveryKeyHasAComment) {
  for (const Descriptor* type : AllTypes()) {
    EXPECT_NE(CommentOf(type), "") << type->full_name();
    for (int i = 0; i < type->field_count(); ++i) {
      EXPECT_NE(CommentOf(type->field(i)), "") << type->field(i)->full_name();
    }
  }
}

TEST(Vocabulary, NoKeyStandsTwiceInAMapping) {
  for (const Descriptor* type : AllTypes()) {
    std::set<std::string> names;
    for (const Key& key : KeysOf(type)) {
      EXPECT_TRUE(names.insert(key.name).second) << type->full_name() << ": " << key.name;
    }
  }
}

TEST(Vocabulary, RulesAreWellFormed) {
  for (const Descriptor* type : AllTypes()) {
    for (int i = 0; i < type->field_count(); ++i) {
      const FieldDescriptor* field = type->field(i);
      const v1::FieldRule& rule = RuleOf(field);
      EXPECT_TRUE(RE2(rule.pattern()).ok()) << field->full_name();
      if (IsDuration(field)) {
        for (const std::string& bound : {rule.min(), rule.max(), rule.default_value()}) {
          EXPECT_TRUE(bound.empty() || ParseDuration(bound).ok()) << field->full_name();
        }
      }
    }
  }
}

TEST(Vocabulary, EveryKindHasASummaryAndAnExample) {
  for (const char* group : {"Fault", "Load", "Remedy", "Probe"}) {
    const Descriptor* type = v1::Experiment::descriptor()->file()->pool()->FindMessageTypeByName(
        absl::StrCat("firedrill.v1.", group));
    for (int i = 0; i < type->field_count(); ++i) {
      if (type->field(i)->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) continue;
      const Descriptor* kind = type->field(i)->message_type();
      EXPECT_NE(KindOf(kind).summary(), "") << kind->full_name();
      EXPECT_NE(KindOf(kind).example(), "") << kind->full_name();
      if (group == std::string("Fault")) {
        EXPECT_NE(KindOf(kind).ending(), v1::ENDING_UNSPECIFIED) << kind->full_name();
        EXPECT_NE(KindOf(kind).ends(), "") << kind->full_name();
      }
      if (group == std::string("Probe") || group == std::string("Load")) {
        EXPECT_FALSE(MeasuredFieldsOf(kind).empty()) << kind->full_name();
      }
    }
  }
}

// A step of each group around an example, in an otherwise valid file.
TEST(Vocabulary, EveryExampleIsValidInADefinition) {
  const std::string valid =
      ReadFileText(
          absl::StrCat(FIREDRILL_SOURCE_DIR, "/tests/experiment/valid/unclosed-connections.yaml"))
          .value_or("");
  auto indented = [](const std::string& text) {
    std::string out;
    for (absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
      absl::StrAppend(&out, "      ", line, "\n");
    }
    return out;
  };
  auto inserted = [&](const std::string& list, const std::string& entry) {
    std::string text = valid;
    const size_t at = text.find("\n  " + list + ":\n");
    EXPECT_NE(at, std::string::npos) << list;
    return text.insert(at + list.size() + 5, entry);
  };
  int examples = 0;
  auto check = [&](const Descriptor* group, const std::string& list, const std::string& head) {
    for (int i = 0; i < group->field_count(); ++i) {
      if (group->field(i)->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) continue;
      const v1::KindRule& kind = KindOf(group->field(i)->message_type());
      for (const std::string& example : ExamplesOf(kind)) {
        std::string entry = "    - name: example\n" + head + indented(example);
        if (list == "faults" && kind.ending() != v1::ENDING_ONE_SHOT)
          entry += "      duration: 30s\n";
        const ExperimentFile file = ReadExperiment(inserted(list, entry), "example.yaml");
        EXPECT_EQ(file.Report(), "") << example;
        ++examples;
      }
    }
  };
  check(v1::Fault::descriptor(), "faults", "      target: db-node\n");
  check(v1::Remedy::descriptor(), "remedies", "      target: app-node\n");
  check(v1::Load::descriptor(), "load", "      target: load-node\n");
  check(v1::Probe::descriptor(), "steadyState", "");
  EXPECT_GE(examples, 8);
}

TEST(Schema, KnowsInlineKeysEnumsAndChoices) {
  const auto schema = nlohmann::json::parse(JsonSchema("Experiment"));
  const auto& step = schema["definitions"]["FaultStep"];
  EXPECT_EQ(step["properties"]["holdConnections"]["$ref"], "#/definitions/HoldConnections");
  EXPECT_FALSE(step["properties"].contains("fault"));
  EXPECT_EQ(step["additionalProperties"], false);
  // One entry a kind, in the order of the vocabulary.
  const auto* kinds = v1::Fault::descriptor()->FindOneofByName("kind");
  ASSERT_EQ(step["oneOf"].size(), kinds->field_count());
  for (int i = 0; i < kinds->field_count(); ++i) {
    EXPECT_EQ(step["oneOf"][i]["required"], nlohmann::json::array({kinds->field(i)->json_name()}));
  }
  const auto& hold = schema["definitions"]["HoldConnections"];
  EXPECT_EQ(hold["properties"]["state"]["enum"],
            nlohmann::json::parse(R"(["idle","idleInTransaction","active"])"));
  EXPECT_EQ(hold["properties"]["fillTo"]["maximum"], 1);
  EXPECT_THAT(hold["properties"]["profile"]["description"].get<std::string>(),
              HasSubstr("named connection"));
  EXPECT_TRUE(schema["definitions"]["Guardrail"]["properties"].contains("page"));
  EXPECT_FALSE(schema["definitions"]["SteadyState"]["properties"].contains("page"));
}

TEST(Schema, EveryReferenceIsDefined) {
  for (const char* root : {"Experiment", "Site"}) {
    const auto schema = nlohmann::json::parse(JsonSchema(root));
    std::function<void(const nlohmann::json&)> check = [&](const nlohmann::json& node) {
      if (node.is_object() && node.contains("$ref")) {
        const std::string name = node["$ref"].get<std::string>().substr(14);
        EXPECT_TRUE(schema["definitions"].contains(name)) << name;
      }
      if (node.is_structured()) {
        for (const auto& child : node) check(child);
      }
    };
    check(schema);
    EXPECT_EQ(schema["properties"]["kind"]["enum"][0], root);
  }
}

TEST(Explain, TellsTypeRulesKeysEndingAndExample) {
  const std::string text = *Explain("experiment.spec.faults.holdConnections");
  for (const char* part : {"Opens sessions of a database, or connections to a server", "leaveFree",
                           "Exactly one of count, fillTo, leaveFree.", "dies with the process",
                           "  holdConnections:\n    profile: leaker\n"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
  EXPECT_THAT(*Explain("experiment.spec.faults[0].holdConnections.fillTo"),
              HasSubstr("from 0.01 to 1 share of the usable slots"));
  EXPECT_THAT(*Explain("experiment.spec.faults.delayQueries"),
              HasSubstr("One at a time on a node through one profile"));
  EXPECT_THAT(*Explain("experiment.spec.faults.delayQueries.listen"), HasSubstr("127.0.0.1:5433"));
  EXPECT_THAT(*Explain("experiment.spec.guardrails.http"), HasSubstr("status   the HTTP status"));
  EXPECT_THAT(*Explain("Experiment"), HasSubstr("apiVersion"));
}

TEST(Explain, SaysWhatWasMeant) {
  auto message = [](absl::string_view path) {
    absl::StatusOr<std::string> text = Explain(path);
    EXPECT_FALSE(text.ok()) << path;
    return std::string(text.status().message());
  };
  EXPECT_THAT(message("experiment.spec.faults.holdConection"),
              HasSubstr("did you mean experiment.spec.faults.holdConnections?"));
  EXPECT_THAT(message("holdConnections"),
              HasSubstr("did you mean experiment.spec.faults.holdConnections?"));
  EXPECT_THAT(message("experiment.spec.cron"), HasSubstr("experiment.spec.schedule.cron"));
  EXPECT_THAT(message("experiment.fillTo"),
              HasSubstr("did you mean experiment.spec.faults.holdConnections.fillTo?"));
  message("");
  message("experiment.metadata.name.first");
}

// Once it named keys of experiments to somebody who asked about a site file.
TEST(Explain, SaysOfASiteFileWhatWasMeantInSiteFiles) {
  const auto message = [](absl::string_view path) {
    return std::string(Explain(path).status().message());
  };
  EXPECT_THAT(*Explain("site.spec.prometheus"), HasSubstr("Where rules, alerts and queries are"));
  EXPECT_THAT(*Explain("site.spec.injectors[0].profiles.postgresql"), HasSubstr("host"));
  EXPECT_EQ(message("site.prometheus"),
            "there is no key 'prometheus' in site; did you mean site.spec.prometheus?");
  EXPECT_THAT(message("site.promethius"), HasSubstr("; did you mean site.spec.prometheus?"));
  EXPECT_THAT(message("site.spec.profiles"),
              HasSubstr("; did you mean site.spec.injectors.profiles or site.spec."));
  EXPECT_THAT(message("prometheus"), HasSubstr("; did you mean site.spec.prometheus or "));
  // Every key of it, by its last word alone.
  for (const std::string& path : ExplainablePaths()) {
    if (!absl::StartsWith(path, "site.spec.")) continue;
    const std::string last = path.substr(path.rfind('.') + 1);
    const std::string said = message("site." + last);
    if (said.empty()) continue;  // `spec`, `metadata` are there.
    EXPECT_THAT(said, HasSubstr("did you mean site.")) << path;
    EXPECT_THAT(said, testing::Not(HasSubstr("experiment."))) << path;
  }
}

TEST(Explain, ExplainsEveryPath) {
  const std::vector<std::string> paths = ExplainablePaths();
  EXPECT_GT(paths.size(), 150u);
  for (const std::string& path : paths) EXPECT_TRUE(Explain(path).ok()) << path;
}

TEST(Cron, ReadsListsRangesStepsAndNames) {
  absl::StatusOr<Cron> cron = ParseCron("*/15 9-17/4,20 1,15 jan-mar MON-fri,7");
  ASSERT_TRUE(cron.ok()) << cron.status();
  EXPECT_EQ(cron->minutes.to_ullong(), 1ull | 1ull << 15 | 1ull << 30 | 1ull << 45);
  EXPECT_EQ(cron->hours.to_ulong(), 1ul << 9 | 1ul << 13 | 1ul << 17 | 1ul << 20);
  EXPECT_EQ(cron->days.to_ulong(), 1ul << 1 | 1ul << 15);
  EXPECT_EQ(cron->months.to_ulong(), 2ul | 4ul | 8ul);
  EXPECT_EQ(cron->weekdays.to_ulong(), 63ul);
  EXPECT_FALSE(cron->fixed_time);
  EXPECT_TRUE(ParseCron("0 10 * * 2")->fixed_time);
  EXPECT_TRUE(ParseCron("0 0 29 2 *").ok());
  // Either day is enough, so the weekday saves it.
  EXPECT_TRUE(ParseCron("0 0 31 2 1").ok());
}

}  // namespace
}  // namespace firedrill
