// Reads the files of a command.
#include "cli/definitions.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "cli/commands.h"
#include "experiment/explain.h"
#include "experiment/problem.h"
#include "experiment/reader.h"
#include "experiment/schema.h"

namespace firedrill {
namespace {

constexpr char kSiteHere[] = "firedrill.site.yaml";
constexpr char kSiteOfMachine[] = "/etc/firedrill/site.yaml";

void Complain(const absl::Status& status) {
  std::fprintf(stderr, "firedrill: %s\n", std::string(status.message()).c_str());
}

// The site file that holds, or empty where there is none (said).
std::string ChooseSite(const std::string& wanted) {
  if (!wanted.empty()) return wanted;
  for (const char* file : {kSiteHere, kSiteOfMachine}) {
    if (access(file, F_OK) == 0) return file;
  }
  std::fprintf(
      stderr,
      "firedrill: no site file says where things are: give --site FILE, or write %s or %s\n"
      "  (the rehearsal stack writes one: experiments/lab/lab up)\n",
      kSiteHere, kSiteOfMachine);
  return "";
}

}  // namespace

std::optional<Definitions> ReadDefinitions(const std::vector<std::string>& files,
                                           const Places& places) {
  Definitions all;
  // A controller has its own site: only it can say what is there.
  const bool elsewhere = !places.controller.empty() && places.site.empty();
  if (!elsewhere) all.site_file = ChooseSite(places.site);
  bool good = elsewhere || !all.site_file.empty();
  if (good && !elsewhere) {
    const absl::StatusOr<std::string> text = ReadFileText(all.site_file);
    if (!text.ok()) {
      Complain(text.status());
      good = false;
    } else {
      SiteFile read = ReadSite(*text, all.site_file);
      if (!read.ok()) {
        std::fputs(read.Report().c_str(), stderr);
        good = false;
      }
      all.site = std::move(read.site);
    }
  }
  const bool site_good = good && !elsewhere;
  for (const std::string& file : files) {
    const absl::StatusOr<std::string> text = ReadFileText(file);
    if (!text.ok()) {
      Complain(text.status());
      good = false;
      continue;
    }
    ExperimentFile read = ReadExperiment(*text, file);
    if (read.ok() && site_good) {
      for (Problem& problem : CheckAgainstSite(read, all.site.spec())) {
        read.problems.push_back(std::move(problem));
      }
    }
    if (!read.ok()) {
      std::fputs(read.Report().c_str(), stderr);
      good = false;
      continue;
    }
    all.experiments.push_back({file, read.experiment, read.Positions()});
  }
  if (!good) {
    std::fprintf(stderr, "firedrill: nothing was started, nothing was touched\n");
    return std::nullopt;
  }
  return all;
}

namespace {

// /dev/stdout, a pipe: nothing that could be replaced.
bool IsStream(const std::string& file) {
  struct stat about;
  return stat(file.c_str(), &about) == 0 && !S_ISREG(about.st_mode) && !S_ISDIR(about.st_mode);
}

}  // namespace

absl::Status ClearForWriting(const std::string& file) {
  if (IsStream(file)) return absl::OkStatus();
  RETURN_IF_ERROR(WriteText(file, ""));
  unlink(file.c_str());
  return absl::OkStatus();
}

absl::Status WriteText(const std::string& file, const std::string& text) {
  const bool stream = IsStream(file);
  const std::string beside = stream ? file : absl::StrCat(file, ".new");
  const int create = stream ? 0 : O_CREAT | O_TRUNC;
  UniqueFd fd(open(beside.c_str(), O_WRONLY | create | O_CLOEXEC, 0644));
  const auto failed = [&](const char* doing) {
    const int error = errno;
    if (fd.valid() && !stream) unlink(beside.c_str());
    return absl::UnavailableError(absl::StrCat(doing, " ", file, ": ", std::strerror(error)));
  };
  if (!fd.valid()) return failed("writing");
  size_t written = 0;
  while (written < text.size()) {
    const ssize_t count = write(fd.get(), text.data() + written, text.size() - written);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return failed("writing");
    written += static_cast<size_t>(count);
  }
  if (!stream && rename(beside.c_str(), file.c_str()) != 0) return failed("replacing");
  return absl::OkStatus();
}

int LintCommand(const std::vector<std::string>& files, const std::string& site,
                const std::string& format) {
  SiteFile site_file;
  bool good = true;
  // What cannot be read at all has no place in it.
  const auto cannot_read = [&](const std::string& file, const absl::Status& status) {
    good = false;
    if (format != "github") return Complain(status);
    const Problem problem{0, 0, std::string(status.message()), "", "", false};
    std::fputs(RenderProblemsForGithub(file, {problem}).c_str(), stdout);
  };
  const auto show = [&](const DefinitionFile& read) {
    if (read.ok()) return;
    good = false;
    // Where GitHub reads them is standard output.
    if (format == "github") {
      std::fputs(read.ReportForGithub().c_str(), stdout);
    } else {
      std::fputs(read.Report().c_str(), stderr);
    }
  };
  if (!site.empty()) {
    const absl::StatusOr<std::string> text = ReadFileText(site);
    if (text.ok()) {
      site_file = ReadSite(*text, site);
      show(site_file);
    } else {
      cannot_read(site, text.status());
    }
  }
  for (const std::string& file : files) {
    const absl::StatusOr<std::string> text = ReadFileText(file);
    if (!text.ok()) {
      cannot_read(file, text.status());
      continue;
    }
    const DefinitionFile any = ReadDefinition(*text, file);
    if (any.ok() && !site_file.file.empty() && site_file.ok()) {
      ExperimentFile read = ReadExperiment(*text, file);
      if (read.ok()) read.problems = CheckAgainstSite(read, site_file.site.spec());
      // A site file among the files was checked above.
      if (read.experiment.kind() == "Experiment") {
        show(read);
        continue;
      }
    }
    show(any);
  }
  if (good && format == "text") {
    std::printf("%zu file%s, no errors\n", files.size(), files.size() == 1 ? "" : "s");
  }
  return good ? 0 : kUsageError;
}

int SchemaCommand(const std::string& kind) {
  std::fputs(JsonSchema(kind).c_str(), stdout);
  return 0;
}

int ExplainCommand(const std::string& path) {
  const absl::StatusOr<std::string> text = Explain(path);
  if (!text.ok()) {
    Complain(text.status());
    return kUsageError;
  }
  std::fputs(text->c_str(), stdout);
  return 0;
}

}  // namespace firedrill
