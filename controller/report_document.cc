// A document as text for a terminal.
#include "controller/report_document.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace firedrill::reporting {
namespace {

constexpr size_t kLabelWidth = 10;
constexpr size_t kBetween = 2;
// A column that is broken into lines keeps at least so much.
constexpr size_t kNarrowestText = 24;

std::string Painted(const Words& words, const ReportStyle& style) {
  std::string text;
  for (const Span& span : words) absl::StrAppend(&text, Paint(style, span.ink, span.text));
  return text;
}

std::string PadLeft(absl::string_view text, size_t width) {
  const size_t size = Visible(text);
  return absl::StrCat(std::string(size < width ? width - size : 0, ' '), text);
}

std::string Trimmed(std::string line) {
  line.erase(line.find_last_not_of(' ') + 1);
  return line;
}

class TextWriter {
 public:
  explicit TextWriter(const ReportStyle& style) : style_(style) {}

  void operator()(const Title& title) {
    absl::StrAppend(&out_, Painted(title.words, style_), "\n");
  }

  void operator()(const Heading& heading) {
    absl::StrAppend(&out_, "\n", Paint(style_, Ink::kBold, heading.text), "\n");
  }

  void operator()(const Paragraph& paragraph) {
    const std::string text = Painted(paragraph.words, style_);
    const auto hang = static_cast<size_t>(std::max(paragraph.hang, 0));
    absl::StrAppend(&out_, std::string(paragraph.indent, ' '),
                    paragraph.hang < 0 ? text : Wrap(text, style_.width, hang, paragraph.indent),
                    "\n");
  }

  void operator()(const Bullets& bullets) {
    for (const Words& item : bullets.items) {
      absl::StrAppend(&out_, "  - ", Wrap(Painted(item, style_), style_.width, 4, 4), "\n");
    }
  }

  void operator()(const Entry& entry) {
    absl::StrAppend(&out_, "  ", Painted(entry.name, style_), "\n");
    for (const auto& [label, text] : entry.fields) {
      if (text.empty()) continue;
      const std::string head = absl::StrCat("    ", Pad(label, kLabelWidth));
      absl::StrAppend(&out_, Paint(style_, Ink::kDim, head),
                      Wrap(text, style_.width, head.size(), head.size()), "\n");
    }
  }

  void operator()(const Table& table) {
    std::vector<size_t> widths = WidthsOf(table);
    size_t first = 0;
    // As many columns side by side as there is room for; the first stands before each part.
    for (size_t begin = 1; first == 0 || begin < widths.size(); first = 1) {
      size_t end = begin, used = kBetween + (widths.empty() ? 0 : widths[0]);
      while (end < widths.size() &&
             (end == begin || used + kBetween + widths[end] <= style_.width)) {
        used += kBetween + widths[end++];
      }
      WritePart(table, widths, begin, end);
      begin = end;
      if (begin >= widths.size()) break;
    }
  }

  void operator()(const Picture& picture) {
    for (const std::string& line : picture.lines) {
      absl::StrAppend(&out_, Trimmed(absl::StrCat("  ", line)), "\n");
    }
    for (const std::string& line : picture.legend) {
      absl::StrAppend(&out_, "  ", Paint(style_, Ink::kDim, Wrap(line, style_.width, 2, 2)), "\n");
    }
  }

  std::string Take() { return std::move(out_); }

 private:
  std::vector<size_t> WidthsOf(const Table& table) const {
    std::vector<size_t> widths;
    size_t sum = 0;
    for (size_t i = 0; i < table.columns.size(); ++i) {
      size_t width = table.names ? Visible(table.columns[i].name) : 0;
      for (const auto& row : table.rows) width = std::max(width, Visible(row[i].text));
      widths.push_back(width);
      sum += kBetween + width;
    }
    for (size_t i = 0; i < widths.size(); ++i) {
      if (!table.columns[i].wraps || sum <= style_.width) continue;
      const size_t excess = sum - style_.width;
      const size_t cut = std::max(kNarrowestText, widths[i] > excess ? widths[i] - excess : 0);
      sum -= widths[i] > cut ? widths[i] - cut : 0;
      widths[i] = std::min(widths[i], cut);
    }
    return widths;
  }

  void WritePart(const Table& table, const std::vector<size_t>& widths, size_t begin, size_t end) {
    std::vector<size_t> shown;
    if (!widths.empty()) shown.push_back(0);
    for (size_t i = begin; i < end; ++i) shown.push_back(i);
    if (table.names) {
      std::string line;
      for (size_t i : shown) {
        const Column& column = table.columns[i];
        absl::StrAppend(
            &line, "  ",
            column.right ? PadLeft(column.name, widths[i]) : Pad(column.name, widths[i]));
      }
      absl::StrAppend(&out_, Paint(style_, Ink::kDim, Trimmed(line)), "\n");
    }
    for (const auto& row : table.rows) {
      std::string line;
      size_t column = 0;
      for (size_t i : shown) {
        const Span& cell = row[i];
        column += kBetween;
        std::string text = Paint(style_, cell.ink, cell.text);
        if (table.columns[i].wraps) {
          text = Wrap(text, column + widths[i], column, column);
        } else {
          text = table.columns[i].right ? PadLeft(text, widths[i]) : Pad(text, widths[i]);
        }
        // What is broken into lines is the last in its row, or short enough.
        if (table.columns[i].wraps && i != shown.back()) text = Pad(text, widths[i]);
        absl::StrAppend(&line, "  ", text);
        column += widths[i];
      }
      absl::StrAppend(&out_, Trimmed(line), "\n");
    }
  }

  ReportStyle style_;
  std::string out_;
};

}  // namespace

std::string ToText(const Document& document, const ReportStyle& style) {
  TextWriter writer(style);
  for (const Block& block : document) std::visit(writer, block);
  return writer.Take();
}

}  // namespace firedrill::reporting
