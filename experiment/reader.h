// Reads experiment and site files, and those of daemons: from text to a checked definition, or to
// everything that is wrong with it. Offline: no server is asked, nothing but the text is looked at.
// Safe from any thread.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "experiment/problem.h"
#include "experiment/reporter.h"
#include "firedrill/v1/daemon.pb.h"
#include "firedrill/v1/experiment.pb.h"
#include "firedrill/v1/run.pb.h"
#include "firedrill/v1/site.pb.h"

namespace firedrill {

// What every file has, whatever it defines.
struct DefinitionFile {
  // As the user gave it, for messages.
  std::string file;
  std::string text;
  // Everything that is wrong, by line. The definition is complete only where this is empty.
  std::vector<Problem> problems;
  Locations locations;

  bool ok() const { return problems.empty(); }
  // For terminals: place, line, caret, help. Empty where all is well.
  std::string Report() const { return RenderProblems(file, text, problems); }
  std::string ReportForGithub() const { return RenderProblemsForGithub(file, problems); }
  // Where each key stands: "expect.alerts[0]" → line and column.
  std::map<std::string, v1::Position> Positions() const;
};

// Defaults of keys that were left out are filled in.
struct ExperimentFile : DefinitionFile {
  v1::Experiment experiment;
};

struct SiteFile : DefinitionFile {
  v1::Site site;
};

struct ControllerFile : DefinitionFile {
  v1::Controller controller;
};

struct InjectorFile : DefinitionFile {
  v1::Injector injector;
};

ExperimentFile ReadExperiment(absl::string_view text, absl::string_view file);
SiteFile ReadSite(absl::string_view text, absl::string_view file);
ControllerFile ReadController(absl::string_view text, absl::string_view file);
InjectorFile ReadInjector(absl::string_view text, absl::string_view file);

// Any of them, as its `kind` says; an experiment where it says none.
DefinitionFile ReadDefinition(absl::string_view text, absl::string_view file);

// The content of a file. NotFound, PermissionDenied or InvalidArgument (a folder), with the path
// and what to do next. Of a file that is larger than any definition only the beginning, which is
// refused for its size by those that read it as one.
absl::StatusOr<std::string> ReadFileText(const std::string& path);

// What of an experiment cannot be had at this site: endpoints, receivers, environment, and, where
// the site describes nodes, targets, profiles, statements, programs and value files. Places are in
// the experiment's file; add them to its problems to report them.
std::vector<Problem> CheckAgainstSite(const ExperimentFile& experiment, const v1::SiteSpec& site);

// True where all conditions of the selector hold for these labels.
bool SelectorMatches(const v1::Selector& selector,
                     const google::protobuf::Map<std::string, std::string>& labels);

}  // namespace firedrill
