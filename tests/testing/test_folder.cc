// One folder a test process, named after its owner.
#include "tests/testing/test_folder.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace firedrill {
namespace {

namespace fs = std::filesystem;

// Of /proc/<pid>/stat, counted behind the name in brackets, which may hold blanks.
constexpr size_t kStartTime = 19;

// Clock ticks after boot; empty where there is no such process.
std::string StartOf(pid_t pid) {
  std::ostringstream text;
  text << std::ifstream(absl::StrCat("/proc/", pid, "/stat")).rdbuf();
  const std::string stat = text.str();
  const size_t name_ends = stat.rfind(") ");
  if (name_ends == std::string::npos) return "";
  const std::vector<std::string> fields = absl::StrSplit(stat.substr(name_ends + 2), ' ');
  return fields.size() > kStartTime ? fields[kStartTime] : "";
}

class Folder {
 public:
  Folder() {
    std::error_code ignored;
    const std::string binary = fs::read_symlink("/proc/self/exe", ignored).filename().string();
    const std::string base = fs::temp_directory_path().string();
    RemoveFoldersOfTheDead(base, binary);
    path_ = absl::StrCat(base, "/", FolderNameOf(binary, getpid()));
    if ((mkdir(path_.c_str(), 0755) != 0 && errno != EEXIST) || chmod(path_.c_str(), 0755) != 0) {
      std::abort();
    }
  }
  ~Folder() {
    std::error_code ignored;
    // A forked child that exits is not its owner.
    if (getpid() == owner_) fs::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }

 private:
  pid_t owner_ = getpid();
  std::string path_;
};

}  // namespace

std::string FolderNameOf(absl::string_view binary, pid_t pid) {
  const std::string start = StartOf(pid);
  return start.empty() ? "" : absl::StrCat("firedrill-", binary, ".", pid, ".", start);
}

void RemoveFoldersOfTheDead(const std::string& base, absl::string_view binary) {
  const std::string prefix = absl::StrCat("firedrill-", binary, ".");
  std::error_code ignored;
  std::vector<fs::path> dead;
  for (const fs::directory_entry& entry : fs::directory_iterator(base, ignored)) {
    const std::string name = entry.path().filename().string();
    if (!absl::StartsWith(name, prefix)) continue;
    const std::vector<std::string> words = absl::StrSplit(name.substr(prefix.size()), '.');
    pid_t pid = 0;
    if (words.size() != 2 || !absl::SimpleAtoi(words[0], &pid)) continue;
    if (FolderNameOf(binary, pid) != name) dead.push_back(entry.path());
  }
  for (const fs::path& folder : dead) fs::remove_all(folder, ignored);
}

const std::string& TestFolder() {
  static const Folder folder;
  return folder.path();
}

}  // namespace firedrill
