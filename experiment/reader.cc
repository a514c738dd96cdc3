// Text → tree → message → rules, collecting problems on the way.
#include "experiment/reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/unique_fd.h"
#include "experiment/mapper.h"
#include "experiment/rules.h"
#include "experiment/yaml_tree.h"

namespace firedrill {
namespace {

// A little more than the tree takes, so that a larger file is refused with its own words there: no
// more of it is read.
constexpr size_t kMaxFileBytes = 1024 * 1024;

// Maps and checks; `rules` is called only where there is a tree.
template <typename Definition, typename Rules>
void Read(absl::string_view text, Definition* definition, DefinitionFile* out, Rules rules) {
  Reporter reporter(out->text);
  if (std::optional<YamlNode> root = ReadYaml(text, &reporter.problems())) {
    MapYaml(*root, definition, &reporter);
    CheckTexts(*definition, &reporter);
    rules(*definition, &reporter);
  }
  out->locations = std::move(reporter.locations());
  out->problems = std::move(reporter.problems());
  SortProblems(&out->problems);
}

}  // namespace

std::map<std::string, v1::Position> DefinitionFile::Positions() const {
  std::map<std::string, v1::Position> positions;
  for (const auto& [path, place] : locations.keys) {
    v1::Position& position = positions[path];
    position.set_line(place.line);
    position.set_column(place.column);
  }
  return positions;
}

ExperimentFile ReadExperiment(absl::string_view text, absl::string_view file) {
  ExperimentFile out;
  out.file = std::string(file);
  out.text = std::string(text);
  Read(out.text, &out.experiment, &out, [](const v1::Experiment& experiment, Reporter* reporter) {
    CheckReferences(experiment, reporter);
    CheckSteps(experiment, reporter);
    CheckProbes(experiment, reporter);
    CheckExpectations(experiment, reporter);
  });
  return out;
}

SiteFile ReadSite(absl::string_view text, absl::string_view file) {
  SiteFile out;
  out.file = std::string(file);
  out.text = std::string(text);
  Read(out.text, &out.site, &out, &CheckSiteRules);
  return out;
}

ControllerFile ReadController(absl::string_view text, absl::string_view file) {
  ControllerFile out;
  out.file = std::string(file);
  out.text = std::string(text);
  Read(out.text, &out.controller, &out, [](const v1::Controller&, Reporter*) {});
  return out;
}

InjectorFile ReadInjector(absl::string_view text, absl::string_view file) {
  InjectorFile out;
  out.file = std::string(file);
  out.text = std::string(text);
  Read(out.text, &out.injector, &out, &CheckInjectorRules);
  return out;
}

DefinitionFile ReadDefinition(absl::string_view text, absl::string_view file) {
  std::vector<Problem> ignored;
  if (std::optional<YamlNode> root = ReadYaml(text, &ignored)) {
    for (const auto& [key, value] : root->entries) {
      if (key.scalar != "kind") continue;
      if (value.scalar == "Site") return ReadSite(text, file);
      if (value.scalar == "Controller") return ReadController(text, file);
      if (value.scalar == "Injector") return ReadInjector(text, file);
    }
  }
  return ReadExperiment(text, file);
}

absl::StatusOr<std::string> ReadFileText(const std::string& path) {
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  auto failed = [&](int error) {
    std::string message = absl::StrCat("cannot read ", path, ": ", std::strerror(error));
    if (error == ENOENT) return absl::NotFoundError(message + "; check the path");
    if (error == EACCES) return absl::PermissionDeniedError(message);
    return absl::InvalidArgumentError(message);
  };
  if (fd.get() < 0) return failed(errno);
  struct stat info;
  if (fstat(fd.get(), &info) != 0) return failed(errno);
  if (S_ISDIR(info.st_mode)) return failed(EISDIR);
  std::string text;
  char buffer[65536];
  while (true) {
    ssize_t count = read(fd.get(), buffer, sizeof buffer);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return failed(errno);
    if (count == 0) return text;
    text.append(buffer, count);
    if (text.size() > kMaxFileBytes) return text;
  }
}

}  // namespace firedrill
