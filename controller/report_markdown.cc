// A document as Markdown: for a pull request, a wiki, the page of an incident.
#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "controller/report_document.h"

namespace firedrill::reporting {
namespace {

// Nothing that a server, a rule or a file says may become a link, a tag or a heading.
std::string Escaped(absl::string_view text) {
  std::string escaped;
  const auto word = [&](size_t i) { return i < text.size() && absl::ascii_isalnum(text[i]); };
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const char next = i + 1 < text.size() ? text[i + 1] : ' ';
    const bool special =
        absl::StrContains("\\`*[]|$", absl::string_view(&c, 1)) ||
        // Within a word it marks nothing.
        (c == '_' && !(i > 0 && word(i - 1) && word(i + 1))) ||
        (c == '<' && (absl::ascii_isalpha(next) || next == '/' || next == '!' || next == '?')) ||
        (c == '&' && (absl::ascii_isalnum(next) || next == '#')) || (c == '~' && next == '~');
    if (special) escaped.push_back('\\');
    // Spaces that align columns on a terminal mean nothing here.
    if (c == ' ' && !escaped.empty() && escaped.back() == ' ') continue;
    escaped.push_back(c == '\n' || c == '\r' ? ' ' : c);
  }
  return escaped;
}

std::string Marked(const Words& words) {
  std::string text;
  for (const Span& span : words) {
    const bool strong = span.ink != Ink::kPlain && span.ink != Ink::kDim;
    // Spaces within the marks would keep them from being marks.
    const size_t begin = span.text.find_first_not_of(' ');
    if (!strong || begin == std::string::npos) {
      absl::StrAppend(&text, Escaped(span.text));
      continue;
    }
    const size_t end = span.text.find_last_not_of(' ') + 1;
    absl::StrAppend(&text, begin > 0 ? " " : "", "**",
                    Escaped(span.text.substr(begin, end - begin)), "**",
                    end < span.text.size() ? " " : "");
  }
  return text;
}

// A line that begins with these is no paragraph.
std::string AsParagraph(std::string text) {
  const size_t begin = text.find_first_not_of(' ');
  text.erase(0, begin == std::string::npos ? text.size() : begin);
  const size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  const bool numbered =
      digits > 0 && digits < text.size() && (text[digits] == '.' || text[digits] == ')');
  if (numbered) text.insert(digits, "\\");
  if (!text.empty() && absl::StrContains("-+=>#", text.substr(0, 1))) text.insert(0, "\\");
  return text;
}

class MarkdownWriter {
 public:
  void operator()(const Title& title) {
    absl::StrAppend(&out_, "# ", Escaped(Joined(title.words)), "\n\n");
  }
  void operator()(const Heading& heading) {
    absl::StrAppend(&out_, "## ", Escaped(heading.text), "\n\n");
  }
  void operator()(const Paragraph& paragraph) {
    const std::string text = AsParagraph(Marked(paragraph.words));
    if (!text.empty()) absl::StrAppend(&out_, text, "\n\n");
  }
  void operator()(const Bullets& bullets) {
    for (const Words& item : bullets.items) {
      absl::StrAppend(&out_, "- ", AsParagraph(Marked(item)), "\n");
    }
    absl::StrAppend(&out_, "\n");
  }
  void operator()(const Entry& entry) {
    absl::StrAppend(&out_, "- ", AsParagraph(Marked(entry.name)), "\n");
    for (const auto& [label, text] : entry.fields) {
      if (!text.empty()) absl::StrAppend(&out_, "  - *", label, "*: ", Escaped(text), "\n");
    }
    absl::StrAppend(&out_, "\n");
  }
  void operator()(const Table& table) {
    std::string head = "|", line = "|";
    for (const Column& column : table.columns) {
      absl::StrAppend(&head, " ", Escaped(column.name), " |");
      absl::StrAppend(&line, column.right ? " ---: |" : " --- |");
    }
    absl::StrAppend(&out_, head, "\n", line, "\n");
    for (const auto& row : table.rows) {
      absl::StrAppend(&out_, "|");
      for (const Span& cell : row) absl::StrAppend(&out_, " ", Marked({cell}), " |");
      absl::StrAppend(&out_, "\n");
    }
    absl::StrAppend(&out_, "\n");
  }
  void operator()(const Picture& picture) {
    // Longer than any fence inside.
    absl::StrAppend(&out_, "~~~~text\n");
    for (const std::string& line : picture.lines) {
      absl::StrAppend(&out_, absl::StrReplaceAll(line, {{"~~~~", "~~~ ~"}}), "\n");
    }
    for (const std::string& line : picture.legend) absl::StrAppend(&out_, line, "\n");
    absl::StrAppend(&out_, "~~~~\n\n");
  }
  std::string Take() {
    while (out_.size() > 1 && out_[out_.size() - 2] == '\n') out_.pop_back();
    return std::move(out_);
  }

 private:
  static std::string Joined(const Words& words) {
    std::string text;
    for (const Span& span : words) absl::StrAppend(&text, span.text);
    return text;
  }

  std::string out_;
};

}  // namespace

std::string ToMarkdown(const Document& document) {
  MarkdownWriter writer;
  for (const Block& block : document) std::visit(writer, block);
  return writer.Take();
}

}  // namespace firedrill::reporting
