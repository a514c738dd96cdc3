// Processes, folders and ports of tests.
#include "tests/testing/child.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/unique_fd.h"

extern char** environ;

namespace firedrill {
namespace {

constexpr char kSetpriv[] = "/usr/bin/setpriv";

}  // namespace

absl::StatusOr<std::unique_ptr<Child>> Child::Start(const Options& options) {
  // setpriv changes the user and ties the child's life to ours, then becomes the program: same pid.
  std::vector<std::string> words = {kSetpriv, "--pdeathsig", "KILL"};
  if (!options.user.empty() && geteuid() == 0) {
    words.insert(words.end(), {absl::StrCat("--reuid=", options.user),
                               absl::StrCat("--regid=", options.user), "--init-groups"});
  }
  words.push_back("--");
  words.insert(words.end(), options.arguments.begin(), options.arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  const std::string log = options.log.empty() ? "/dev/null" : options.log;
  posix_spawn_file_actions_addopen(&actions, 1, log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
  posix_spawn_file_actions_adddup2(&actions, 1, 2);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setpgroup(&attributes, 0);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
  pid_t pid = -1;
  const int error = posix_spawn(&pid, kSetpriv, &actions, &attributes, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (error != 0) {
    return absl::UnavailableError(
        absl::StrCat("starting ", options.arguments.front(), ": ", std::strerror(error)));
  }
  return std::unique_ptr<Child>(new Child(pid));
}

Child::~Child() { Stop(SIGKILL); }

bool Child::Running() {
  if (ended_) return false;
  int status = 0;
  if (waitpid(pid_, &status, WNOHANG) != pid_) return true;
  ended_ = true;
  code_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return false;
}

void Child::Signal(int signal) {
  if (Running()) kill(pid_, signal);
}

absl::StatusOr<int> Child::Wait(absl::Duration patience) {
  const absl::Time end = absl::Now() + patience;
  while (Running()) {
    if (absl::Now() > end) return absl::DeadlineExceededError("the child still runs");
    absl::SleepFor(absl::Milliseconds(2));
  }
  return code_;
}

void Child::Stop(int signal, absl::Duration patience) {
  Signal(signal);
  if (Wait(patience).ok()) return;
  Signal(SIGKILL);
  Wait(absl::Seconds(30)).IgnoreError();
}

TempDir::TempDir(const std::string& prefix) {
  path_ = absl::StrCat(TestFolder(), "/", prefix, "-XXXXXX");
  if (mkdtemp(path_.data()) == nullptr || chmod(path_.c_str(), 0755) != 0) std::abort();
}

TempDir::~TempDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

int FreePort() {
  const UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (bind(fd.get(), reinterpret_cast<sockaddr*>(&address), size) != 0) std::abort();
  if (getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) std::abort();
  return ntohs(address.sin_port);
}

void WriteFile(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::trunc) << text;
}

std::string ReadFile(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

}  // namespace firedrill
