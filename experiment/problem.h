// What is wrong in a definition, where, and how people and GitHub are shown it.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace firedrill {

// A place in a file: from 1, columns in characters. 0 where there is none (an empty file).
struct Place {
  int line = 0;
  int column = 0;
};

struct Problem {
  int line = 0;
  int column = 0;
  // What is wrong, in a sentence that names the value or the key.
  std::string message;
  // What to do about it; may be empty.
  std::string suggestion;
  // The key it is about, "expect.alerts[0].since"; empty where the file is no tree at all.
  std::string path;
  // A secret may stand at this place: the rest of the line is never shown.
  bool secret = false;
};

// Sorted by place; two problems at one place with the same message become one.
void SortProblems(std::vector<Problem>* problems);

// "file:3:7: error: message", the line, a caret, "help: suggestion"; for each problem, in order.
std::string RenderProblems(absl::string_view file, absl::string_view text,
                           const std::vector<Problem>& problems);

// One workflow command of GitHub a line: "::error file=…,line=…,col=…::message".
std::string RenderProblemsForGithub(absl::string_view file, const std::vector<Problem>& problems);

// Where the character at `offset` of a scalar stands, for a scalar that begins at `start` and is
// written there as it is; `start` itself where it is not (escapes, folded blocks).
Place PlaceInside(absl::string_view text, Place start, absl::string_view scalar, size_t offset);

// The text for a terminal or a log: control characters and bytes that are no UTF-8 become '?'.
std::string Printable(absl::string_view text);

// The length in bytes of the character at the front of `text`, which is not empty; 0 where it is
// not valid UTF-8.
size_t Utf8Length(absl::string_view text);

// Number of characters (not bytes) in valid UTF-8.
size_t CountCharacters(absl::string_view text);

}  // namespace firedrill
