// What a person sees while a run goes on.
#include "cli/screen.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace firedrill {
namespace {

// Below it nothing can be read in any case.
constexpr size_t kNarrowest = 40;

}  // namespace

Screen::Screen(bool no_color) {
  const char* term = std::getenv("TERM");
  terminal_ = isatty(STDOUT_FILENO) != 0 && term != nullptr && std::string(term) != "dumb";
  style_.color = terminal_ && !no_color && std::getenv("NO_COLOR") == nullptr;
  winsize size{};
  if (terminal_ && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
    style_.width = std::max<size_t>(size.ws_col, kNarrowest);
  }
}

Screen::~Screen() { Clear(); }

void Screen::Clear() {
  if (status_.empty()) return;
  std::fputs("\r\033[K", stdout);
  // Upwards, line by line.
  for (const char c : status_) {
    if (c == '\n') std::fputs("\033[A\033[K", stdout);
  }
  std::fflush(stdout);
}

void Screen::Line(const std::string& text) {
  Clear();
  std::fputs(text.c_str(), stdout);
  if (text.empty() || text.back() != '\n') std::fputc('\n', stdout);
  if (!status_.empty()) std::fputs(status_.c_str(), stdout);
  std::fflush(stdout);
}

void Screen::Status(const std::string& text) {
  if (!terminal_) return;
  std::string cut;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    absl::StrAppend(&cut, cut.empty() ? "" : "\n", line.substr(0, style_.width - 1));
  }
  if (cut == status_) return;
  Clear();
  status_ = cut;
  std::fputs(status_.c_str(), stdout);
  std::fflush(stdout);
}

}  // namespace firedrill
