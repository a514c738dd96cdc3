// What a person sees while a run goes on: lines on any output, and on a terminal a status line
// below them.
#pragma once

#include <string>

#include "controller/report.h"

namespace firedrill {

class Screen {
 public:
  // Colours and the status line only where standard output is a terminal and `no_color` is not set.
  explicit Screen(bool no_color);
  ~Screen();

  bool terminal() const { return terminal_; }
  const ReportStyle& style() const { return style_; }
  // Prints a line, or several, above the status line; the last one needs no end.
  void Line(const std::string& text);
  // Replaces the status line, or lines; nothing where there is no terminal. Each is cut at the
  // terminal's width.
  void Status(const std::string& text);

 private:
  void Clear();

  bool terminal_ = false;
  ReportStyle style_;
  std::string status_;
};

}  // namespace firedrill
