// Invalid definitions: each case of invalid/*.txt against the whole report in invalid/*.golden,
// with its line, column, caret and help. After a change that is meant, run with
// FIREDRILL_UPDATE_GOLDEN=1 and read the difference.
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "experiment/reader.h"
#include "experiment/writer.h"
#include "gtest/gtest.h"

namespace firedrill {
namespace {

const std::string& Folder() {
  static const auto* const folder =
      new std::string(absl::StrCat(FIREDRILL_SOURCE_DIR, "/tests/experiment/"));
  return *folder;
}

std::string TextOf(const std::string& path) {
  absl::StatusOr<std::string> text = ReadFileText(path);
  EXPECT_TRUE(text.ok()) << text.status();
  return text.value_or("");
}

// What a part of a definition is replaced with; without `before` the text is the whole file.
struct Edit {
  std::vector<std::string> before, after;
};

struct Case {
  std::string name;
  std::vector<Edit> edits;
};

std::vector<Case> CasesOf(const std::string& text) {
  std::vector<Case> cases;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    if (absl::StartsWith(line, "=== ")) {
      cases.push_back({std::string(line.substr(4)), {}});
      continue;
    }
    if (cases.empty() || line.empty()) continue;
    std::vector<Edit>& edits = cases.back().edits;
    const std::string rest(line.substr(1));
    if (edits.empty() || (line[0] == '-' && !edits.back().after.empty())) edits.emplace_back();
    (line[0] == '-' ? edits.back().before : edits.back().after).push_back(rest);
  }
  return cases;
}

std::string Edited(const std::string& base, const Case& c) {
  std::string text = base;
  for (const Edit& edit : c.edits) {
    const std::string after = absl::StrJoin(edit.after, "\n");
    if (edit.before.empty()) return after.empty() ? "" : after + "\n";
    const std::string before = absl::StrJoin(edit.before, "\n");
    const size_t at = text.find(before);
    if (at == std::string::npos) {
      ADD_FAILURE() << c.name << ": nothing to replace: " << before;
      return text;
    }
    text.replace(at, before.size(), after);
  }
  return text;
}

// Name → report, from a golden file.
std::map<std::string, std::string> ReportsOf(const std::string& golden) {
  std::map<std::string, std::string> reports;
  std::string name;
  for (absl::string_view line : absl::StrSplit(golden, '\n')) {
    if (absl::StartsWith(line, "=== ")) {
      name = std::string(line.substr(4));
      reports[name];
    } else if (!name.empty()) {
      absl::StrAppend(&reports[name], line, "\n");
    }
  }
  if (!name.empty()) reports[name].pop_back();
  return reports;
}

// Where the help says so, the file is read as GitHub's action shows it too.
void CheckFile(const std::string& name, const std::string& base, size_t at_least) {
  const std::vector<Case> cases = CasesOf(TextOf(Folder() + "invalid/" + name + ".txt"));
  EXPECT_GE(cases.size(), at_least);
  const std::string golden_path = Folder() + "invalid/" + name + ".golden";
  const bool update = std::getenv("FIREDRILL_UPDATE_GOLDEN") != nullptr;
  const auto golden =
      update ? std::map<std::string, std::string>() : ReportsOf(TextOf(golden_path));
  const std::string base_text = base.empty() ? "" : TextOf(Folder() + "valid/" + base);
  std::string updated;
  std::set<std::string> names;
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    EXPECT_TRUE(names.insert(c.name).second) << "two cases have this name";
    const std::string text = Edited(base_text, c);
    const DefinitionFile read =
        name == "site"         ? DefinitionFile(ReadSite(text, name + ".yaml"))
        : name == "controller" ? DefinitionFile(ReadController(text, name + ".yaml"))
        : name == "injector"   ? DefinitionFile(ReadInjector(text, name + ".yaml"))
                               : ReadExperiment(text, name + ".yaml");
    EXPECT_FALSE(read.ok()) << "this is not refused:\n" << text;
    absl::StrAppend(&updated, "=== ", c.name, "\n", read.Report());
    if (update) continue;
    auto expected = golden.find(c.name);
    ASSERT_NE(expected, golden.end()) << "no golden report";
    EXPECT_EQ(read.Report(), expected->second);
  }
  if (update) std::ofstream(golden_path) << updated;
}

// What a client that does not lint sends: the message without its text.
TEST(Invalid, RulesAreTheSameForAnExperimentThatComesWithoutItsText) {
  // Nothing is left of these in the message: a value that is none, or one that says what holds
  // anyway.
  const std::set<std::string> gone = {
      "a window without a load",     "an interval for a load",
      "a date as people write it",   "a statement of its own in a remedy",
      "a promotion with two fences", "a protocol that the kind does not have"};
  const std::string base = TextOf(Folder() + "valid/unclosed-connections.yaml");
  const SiteFile site = ReadSite(TextOf(Folder() + "valid/site.yaml"), "site.yaml");
  v1::SiteSpec spec = site.site.spec();
  spec.clear_injectors();
  int cases = 0, same = 0;
  for (const Case& c : CasesOf(TextOf(Folder() + "invalid/rules.txt"))) {
    SCOPED_TRACE(c.name);
    const ExperimentFile linted = ReadExperiment(Edited(base, c), "x.yaml");
    const auto checked = CheckExperiment(linted.experiment, spec, "x.yaml", {});
    EXPECT_EQ(checked.ok(), gone.count(c.name) > 0) << checked.status();
    ++cases;
    bool all = !checked.ok();
    for (const Problem& problem : linted.problems) {
      all = all && absl::StrContains(checked.status().message(), problem.message);
    }
    same += all ? 1 : 0;
  }
  // In the others a value was no value of its type: it is missing now, and is told as missing.
  std::cout << same << " of " << cases << " are refused in the same words\n";
  EXPECT_GE(same, cases - 12);
}

TEST(Invalid, YamlThatIsNotPlain) { CheckFile("yaml", "", 25); }
TEST(Invalid, KeysTypesAndValues) { CheckFile("keys", "unclosed-connections.yaml", 70); }
TEST(Invalid, NamesReferencesAndLanguages) { CheckFile("rules", "unclosed-connections.yaml", 70); }
TEST(Invalid, SiteFiles) { CheckFile("site", "site.yaml", 30); }
TEST(Invalid, ControllerFiles) { CheckFile("controller", "controller.yaml", 5); }
TEST(Invalid, InjectorFiles) { CheckFile("injector", "injector.yaml", 7); }

TEST(Valid, DaemonFiles) {
  const std::string controller = TextOf(Folder() + "valid/controller.yaml");
  EXPECT_EQ(ReadController(controller, "controller.yaml").Report(), "");
  EXPECT_EQ(ReadDefinition(controller, "controller.yaml").Report(), "");
  const std::string injector = TextOf(Folder() + "valid/injector.yaml");
  EXPECT_EQ(ReadInjector(injector, "injector.yaml").Report(), "");
  EXPECT_EQ(ReadDefinition(injector, "injector.yaml").Report(), "");
}

}  // namespace
}  // namespace firedrill
