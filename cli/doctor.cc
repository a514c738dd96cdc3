// `firedrill doctor`: whether this machine, and a controller, could do their work now; a line for
// each thing that was looked at, with what to do. Touches nothing.
#include <linux/capability.h>
#include <linux/magic.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <sys/timex.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "base/text.h"
#include "cli/commands.h"
#include "cli/leftovers.h"
#include "cli/rpc/diagnose.h"
#include "controller/diagnosis.h"
#include "controller/lever.h"
#include "controller/lost_runs.h"
#include "controller/sqlite_schema.h"
#include "controller/sqlite_store.h"

namespace firedrill {
namespace {

using Diagnoses = std::vector<v1::Diagnosis>;

// pidfd_getfd, close_range, cgroup BPF links.
constexpr int kKernelMajor = 5, kKernelMinor = 10;
constexpr rlim_t kFewFiles = 4096;

v1::Diagnosis LookAtKernel() {
  utsname name{};
  uname(&name);
  const std::vector<std::string> parts = absl::StrSplit(name.release, absl::ByAnyChar(".-"));
  int major = 0, minor = 0;
  if (parts.size() > 1) {
    (void)absl::SimpleAtoi(parts[0], &major);
    (void)absl::SimpleAtoi(parts[1], &minor);
  }
  if (std::pair(major, minor) >= std::pair(kKernelMajor, kKernelMinor))
    return Fine("kernel", name.release);
  return Failure("kernel", absl::StrCat(name.release, " is too old"),
                 absl::StrCat("use ", kKernelMajor, ".", kKernelMinor, " or newer"));
}

// What faults on live traffic, on processes and on their groups take, and the reaper's priority.
v1::Diagnosis LookAtPrivileges() {
  uint64_t effective = 0;
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    absl::string_view text = line;
    if (absl::ConsumePrefix(&text, "CapEff:"))
      (void)absl::SimpleHexAtoi(absl::StripAsciiWhitespace(text), &effective);
  }
  std::vector<std::string> missing;
  const std::vector<std::pair<int, const char*>> needed = {
      {CAP_SYS_ADMIN, "CAP_SYS_ADMIN"},   {CAP_NET_ADMIN, "CAP_NET_ADMIN"},
      {CAP_SYS_PTRACE, "CAP_SYS_PTRACE"}, {CAP_DAC_OVERRIDE, "CAP_DAC_OVERRIDE"},
      {CAP_SYS_NICE, "CAP_SYS_NICE"},     {CAP_IPC_LOCK, "CAP_IPC_LOCK"}};
  for (const auto& [number, name] : needed) {
    if ((effective >> number & 1) == 0) missing.emplace_back(name);
  }
  if (missing.empty()) return Fine("privileges", "all that faults on this machine take");
  return Warning("privileges", absl::StrCat("without ", JoinWords(missing)),
                 "faults on live traffic and on processes need them, and undoing that stays "
                 "punctual on an overloaded machine: run as root; those on a server's own "
                 "connections do not");
}

v1::Diagnosis LookAtPrograms() {
  std::error_code error;
  const auto folder = std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
  std::vector<std::string> missing;
  for (const char* name :
       {"firedrill-controller", "firedrill-injector", "firedrill-reaper", "firedrill-wire"}) {
    if (access((folder / name).c_str(), X_OK) != 0) missing.emplace_back(name);
  }
  if (missing.empty()) return Fine("programs", absl::StrCat("all are in ", folder.string()));
  return Failure("programs",
                 absl::StrCat(JoinWords(missing), " cannot be started in ", folder.string()),
                 "install all of firedrill's programs into one folder; without the reaper nothing "
                 "lasting is changed");
}

v1::Diagnosis LookAtControlGroups() {
  for (const char* path : {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}) {
    struct statfs about {};
    if (statfs(path, &about) == 0 && about.f_type == CGROUP2_SUPER_MAGIC)
      return Fine("control groups", absl::StrCat("version 2 is mounted on ", path));
  }
  return Warning("control groups", "version 2 is not mounted",
                 "faults on live traffic cannot redirect connections: mount -t cgroup2 none "
                 "/sys/fs/cgroup/unified");
}

v1::Diagnosis LookAtClock() {
  timex about{};
  const int state = adjtimex(&about);
  if (state >= 0 && (about.status & STA_UNSYNC) == 0) return Fine("clock", "is kept by NTP");
  return Warning("clock", "nobody keeps it right, as far as the kernel knows",
                 "start chrony or systemd-timesyncd: a controller elsewhere, Prometheus and this "
                 "machine compare times");
}

v1::Diagnosis LookAtFiles() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  const std::string found = absl::StrCat("at most ", limit.rlim_max, " at once");
  if (limit.rlim_max >= kFewFiles) return Fine("open files", found);
  return Warning(
      "open files", found,
      absl::StrCat("to hold many connections raise it: ulimit -Hn ", kFewFiles, " or more"));
}

// Where journals and histories are.
Diagnoses LookAtState(const Places& places) {
  const absl::StatusOr<std::string> folder = StateDirToRead(places);
  if (!folder.ok()) {
    // The usual one is made by the first run.
    if (places.state_dir.empty()) return {Fine("state", "no run has left any yet")};
    return {Failure("state", folder.status().message(), "correct --state-dir")};
  }
  Diagnoses all = {DiagnoseStateFolder(*folder)};
  const std::vector<std::string> left = DescribeLeftovers(*folder);
  all.push_back(left.empty() ? Fine("leftovers", "no node of this machine carries anything")
                             : Failure("leftovers", absl::StrJoin(left, "; "),
                                       "firedrill leftovers undoes what nobody owns"));
  const Lever lever(absl::StrCat(*folder, "/STOP"));
  const std::optional<Pull> pull = lever.Pulled();
  all.push_back(DiagnoseLever(pull.has_value() ? std::make_optional(pull->Words()) : std::nullopt));
  if (pull.has_value())
    all.back().set_next(absl::StrCat(all.back().next(), "; or remove ", lever.path()));
  const std::string history = absl::StrCat(*folder, "/history.db");
  if (access(history.c_str(), F_OK) != 0) return all;
  // To open it would change one of an older firedrill.
  const absl::StatusOr<int> schema = SchemaOf(history);
  if (schema.ok() && *schema < kSqliteSchema) {
    all.push_back(Warning("history",
                          absl::StrCat(history, " is of an older firedrill (schema ", *schema, ")"),
                          "the next run brings it up to date; keep a copy if you go back"));
    return all;
  }
  const auto store = SqliteStore::Open(history);
  const absl::StatusOr<std::vector<OpenRun>> open =
      store.ok() ? OpenRuns(**store, *folder)
                 : absl::StatusOr<std::vector<OpenRun>>(store.status());
  if (!open.ok()) {
    all.push_back(Failure("history", open.status().message(), "put a backup back"));
    return all;
  }
  const auto dead =
      std::count_if(open->begin(), open->end(), [](const OpenRun& run) { return !run.alive; });
  if (dead > 0) {
    all.push_back(Warning("history",
                          absl::StrCat(dead, dead == 1 ? " run was" : " runs were",
                                       " left unfinished by a controller that has died"),
                          "firedrill leftovers looks what is left of them, and ends them"));
  } else {
    all.push_back(Fine("history", history));
  }
  return all;
}

Diagnoses LookAtThisMachine(const Places& places) {
  Diagnoses all = {LookAtKernel(),        LookAtPrivileges(), LookAtPrograms(),
                   LookAtControlGroups(), LookAtClock(),      LookAtFiles()};
  for (v1::Diagnosis& diagnosis : LookAtState(places)) all.push_back(std::move(diagnosis));
  return all;
}

}  // namespace

int DoctorCommand(const Places& places) {
  const Diagnoses all =
      places.controller.empty() ? LookAtThisMachine(places) : AskDiagnoses(places);
  size_t width = 0;
  for (const v1::Diagnosis& each : all) width = std::max(width, each.subject().size());
  bool well = true;
  for (const v1::Diagnosis& each : all) {
    const char* word = each.level() == v1::Diagnosis::LEVEL_OK     ? "ok  "
                       : each.level() == v1::Diagnosis::LEVEL_WARN ? "warn"
                                                                   : "FAIL";
    std::printf("%s  %-*s  %s%s%s\n", word, static_cast<int>(width), each.subject().c_str(),
                each.found().c_str(), each.next().empty() ? "" : "; ", each.next().c_str());
    well = well && each.level() != v1::Diagnosis::LEVEL_FAIL;
  }
  return well ? 0 : 1;
}

}  // namespace firedrill
