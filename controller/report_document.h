// A report between facts and paper: headings, paragraphs, tables and pictures, without a word on
// how a terminal or a web page shows them. Nobody but report*.cc and their tests includes this.
#pragma once

#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "controller/report.h"
#include "controller/report_parts.h"

namespace firedrill::reporting {

// Words of one kind.
struct Span {
  std::string text;
  Ink ink = Ink::kPlain;
};
using Words = std::vector<Span>;

inline Words Plain(std::string text) { return {{std::move(text), Ink::kPlain}}; }

struct Title {
  Words words;
};
struct Heading {
  std::string text;
};
// `hang`: by how many columns the lines after the first are set in; -1: the paragraph is one line.
struct Paragraph {
  Words words;
  int hang = 0;
  // Of the first line.
  size_t indent = 0;
};
struct Bullets {
  std::vector<Words> items;
};
// One thing with what is said of it, beneath its name.
struct Entry {
  Words name;
  // (label, text); those without a text are left out.
  std::vector<std::pair<std::string, std::string>> fields;
};
struct Column {
  std::string name;
  bool right = false;
  // Broken into several lines where there is no room; the others never are.
  bool wraps = false;
};
// The first column stays where the table must be cut into several, side by side.
struct Table {
  std::vector<Column> columns;
  std::vector<std::vector<Span>> rows;
  // Without names above the columns where a terminal needs none.
  bool names = true;
};
// Lines that stay as they are: a drawing, or what is to be pasted.
struct Picture {
  std::vector<std::string> lines;
  // Below the drawing.
  std::vector<std::string> legend;
};

using Block = std::variant<Title, Heading, Paragraph, Bullets, Entry, Table, Picture>;
using Document = std::vector<Block>;

// For a terminal: no line is wider than the style's width, if its words allow that.
std::string ToText(const Document& document, const ReportStyle& style);
// CommonMark with GitHub's tables.
std::string ToMarkdown(const Document& document);

// ---- parts of the report

// Lanes of faults, remedies, alerts, conditions and their values; empty where nothing was injected.
Picture Timeline(const std::vector<v1::Event>& history, size_t width);
// What was touched, and how it is known to be undone; times since `zero`.
Document Touched(const std::vector<v1::Event>& history, const v1::Judgement& judgement,
                 absl::Time zero);
// Faults whose undo was not seen, each with what to paste; empty where all is well.
Document UndoWarning(const std::vector<v1::Event>& history, const v1::Judgement& judgement);

}  // namespace firedrill::reporting
