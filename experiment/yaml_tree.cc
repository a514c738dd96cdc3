// Builds the tree from yaml-cpp's events: its own tree would have resolved aliases already (a few
// hundred bytes can expand to millions of nodes) and kept duplicate keys silently.
#include "experiment/yaml_tree.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <set>
#include <sstream>
#include <tuple>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "experiment/brackets.h"

namespace firedrill {
namespace {

constexpr size_t kMaxBytes = 256 * 1024;
constexpr size_t kMaxDepth = 32;
constexpr int kMaxNodes = 10'000;

// Thrown through yaml-cpp's parser where nothing after this point can be believed.
struct GiveUp {};

// Where in the text a byte stands.
class Lines {
 public:
  explicit Lines(absl::string_view text) : text_(text) {
    starts_.push_back(0);
    for (size_t i = 0; i < text.size(); ++i) {
      if (text[i] == '\n') starts_.push_back(i + 1);
    }
  }

  // yaml-cpp counts columns in bytes, people in characters.
  Place At(const YAML::Mark& mark) const {
    if (mark.line < 0) return {1, 1};
    size_t line = std::min<size_t>(mark.line, starts_.size() - 1);
    absl::string_view rest = text_.substr(starts_[line]);
    size_t bytes = std::min<size_t>(std::max(mark.column, 0), rest.size());
    return {static_cast<int>(line) + 1,
            static_cast<int>(CountCharacters(rest.substr(0, bytes))) + 1};
  }

  Place AtByte(size_t byte) const {
    size_t line = std::upper_bound(starts_.begin(), starts_.end(), byte) - starts_.begin() - 1;
    return {
        static_cast<int>(line) + 1,
        static_cast<int>(CountCharacters(text_.substr(starts_[line], byte - starts_[line]))) + 1};
  }

  size_t ByteOf(const YAML::Mark& mark) const {
    size_t line = std::min<size_t>(std::max(mark.line, 0), starts_.size() - 1);
    return std::min<size_t>(starts_[line] + std::max(mark.column, 0), text_.size());
  }

 private:
  absl::string_view text_;
  std::vector<size_t> starts_;
};

class Builder : public YAML::EventHandler {
 public:
  Builder(absl::string_view text, const Lines& lines, std::vector<Problem>* problems)
      : text_(text), lines_(lines), problems_(problems) {}

  std::optional<YamlNode> TakeRoot() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (documents_++ == 0) return;
    bool separated = absl::StartsWith(text_.substr(lines_.ByteOf(mark)), "---");
    Add(lines_.At(mark),
        separated ? "a second document begins here; a file holds one definition"
                  : "this does not belong to anything above it",
        separated ? "put each definition into a file of its own" : "check the indentation");
    throw GiveUp{};
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t) override {
    YamlNode node;
    node.place = lines_.At(mark);
    Put(std::move(node));
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    Add(lines_.At(mark), "aliases (*name) are not allowed", "write the value out");
    YamlNode node;
    node.kind = YamlNode::Kind::kRefused;
    node.place = lines_.At(mark);
    Put(std::move(node));
  }

  void OnAnchor(const YAML::Mark& mark, const std::string& name) override {
    Add(lines_.At(mark), absl::StrCat("anchors (&", name, ") are not allowed"),
        "write the value out where it is needed");
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                const std::string& value) override {
    CheckTag(mark, tag);
    YamlNode node;
    node.kind = YamlNode::Kind::kScalar;
    node.place = lines_.At(mark);
    node.scalar = value;
    node.quoted = tag != "?";
    if (node.quoted) CheckClosed(mark);
    Put(std::move(node));
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {
    Open(mark, tag, YamlNode::Kind::kList);
  }
  void OnSequenceEnd() override { Close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {
    Open(mark, tag, YamlNode::Kind::kMap);
  }
  void OnMapEnd() override { Close(); }

 private:
  struct OpenNode {
    YamlNode node;
    // Maps: the key that waits for its value.
    std::optional<YamlNode> key;
    std::set<std::string> keys;
  };

  void Add(Place place, std::string message, std::string suggestion = "") {
    problems_->push_back(
        {place.line, place.column, std::move(message), std::move(suggestion), "", false});
  }

  void CheckTag(const YAML::Mark& mark, const std::string& tag) {
    if (tag.empty() || tag == "?" || tag == "!") return;
    Add(lines_.At(mark), "tags (!name) are not allowed",
        "leave the tag out; quotes make a text of a value");
  }

  // yaml-cpp takes the end of the file for the closing quote.
  void CheckClosed(const YAML::Mark& mark) {
    size_t start = lines_.ByteOf(mark);
    if (start >= text_.size()) return;
    char quote = text_[start];
    if (quote != '"' && quote != '\'') return;
    for (size_t i = start + 1; i < text_.size(); ++i) {
      if (quote == '"' && text_[i] == '\\') {
        ++i;
      } else if (text_[i] == quote) {
        if (quote == '"' || i + 1 == text_.size() || text_[i + 1] != '\'') return;
        ++i;
      }
    }
    Add(lines_.At(mark), "the quote that opens here is never closed",
        absl::StrCat("close it with ", std::string(1, quote)));
    throw GiveUp{};
  }

  void CountNode(Place place) {
    if (++nodes_ <= kMaxNodes) return;
    Add(place, absl::StrCat("more than ", kMaxNodes, " values in one file"),
        "split the definition");
    throw GiveUp{};
  }

  void Open(const YAML::Mark& mark, const std::string& tag, YamlNode::Kind kind) {
    CheckTag(mark, tag);
    OpenNode open;
    open.node.kind = kind;
    open.node.place = lines_.At(mark);
    CountNode(open.node.place);
    if (open_.size() >= kMaxDepth) {
      Add(open.node.place, absl::StrCat("nested more than ", kMaxDepth, " levels deep"));
      throw GiveUp{};
    }
    open_.push_back(std::move(open));
  }

  void Close() {
    YamlNode node = std::move(open_.back().node);
    open_.pop_back();
    Attach(std::move(node));
  }

  void Put(YamlNode node) {
    CountNode(node.place);
    Attach(std::move(node));
  }

  // Into the innermost open node, or as the root.
  void Attach(YamlNode node) {
    if (open_.empty()) {
      root_ = std::move(node);
      return;
    }
    OpenNode& parent = open_.back();
    if (parent.node.kind == YamlNode::Kind::kList) {
      parent.node.items.push_back(std::move(node));
    } else if (!parent.key) {
      CheckKey(node);
      parent.key = std::move(node);
    } else {
      PlaceEntry(parent, std::move(node));
    }
  }

  void CheckKey(const YamlNode& key) {
    if (key.kind == YamlNode::Kind::kRefused) return;
    if (key.kind != YamlNode::Kind::kScalar) {
      Add(key.place, "a key must be a plain text");
    } else if (key.scalar == "<<" && !key.quoted) {
      Add(key.place, "merges (<<) are not allowed", "write the keys out");
    }
  }

  void PlaceEntry(OpenNode& parent, YamlNode value) {
    YamlNode key = *std::move(parent.key);
    parent.key.reset();
    if (key.kind != YamlNode::Kind::kScalar || (key.scalar == "<<" && !key.quoted)) return;
    if (!parent.keys.insert(key.scalar).second) {
      for (const auto& [other, unused] : parent.node.entries) {
        if (other.scalar != key.scalar) continue;
        Add(key.place, absl::StrCat("the key '", key.scalar, "' stands here twice"),
            absl::StrCat("it stands in line ", other.place.line, " already; keep one of them"));
      }
      return;
    }
    // An empty value has the place of whatever comes next: the key is where to look.
    if (value.kind == YamlNode::Kind::kNull) value.place = key.place;
    parent.node.entries.push_back({std::move(key), std::move(value)});
  }

  absl::string_view text_;
  const Lines& lines_;
  std::vector<Problem>* problems_;
  std::vector<OpenNode> open_;
  std::optional<YamlNode> root_;
  int documents_ = 0;
  int nodes_ = 0;
};

// yaml-cpp's words, and those for the person who typed the file.
struct Words {
  const char* theirs;
  const char* ours;
  const char* help;
};
constexpr Words kWords[] = {
    {"illegal map value", "a value or a key that does not belong here",
     "check the indentation; a text with ': ' in it stands in quotes"},
    {"illegal block entry", "a list entry that does not belong here", "check the indentation"},
    {"illegal map key", "a key that does not belong here", "check the indentation"},
    {"illegal flow end", "a closing bracket, and none is open", ""},
    {"unknown token", "a text cannot begin with this character", "put the text in quotes"},
    {"anchor is not defined", "aliases (*name) are not allowed", "write the value out"},
    {"end of map not found", "this does not fit the mapping around it", "check the indentation"},
    {"end of sequence not found", "this does not fit the list around it", "check the indentation"},
};

// What made the parser stop.
Problem ProblemOf(const YAML::Exception& error, const Lines& lines, absl::string_view text) {
  Problem problem;
  const Place place = lines.At(error.mark);
  problem.line = place.line;
  problem.column = place.column;
  const size_t at = lines.ByteOf(error.mark);
  const size_t line_start = at == 0 ? 0 : text.rfind('\n', at - 1) + 1;
  const size_t word = text.find_first_not_of(" \t", line_start);
  const size_t tab = text.substr(0, word).find('\t', line_start);
  if (tab != absl::string_view::npos && word != absl::string_view::npos) {
    problem.column = static_cast<int>(tab - line_start) + 1;
    problem.message = "not valid YAML: a tab as indentation";
    problem.suggestion = "indent with blanks";
    return problem;
  }
  // The parser goes on past a bracket that is not closed, and stops wherever that makes no sense.
  if (const std::optional<OpenBracket> open = FindOpenBracket(text, at)) {
    const Place opened = lines.AtByte(open->at);
    problem.line = opened.line;
    problem.column = opened.column;
    problem.message = "not valid YAML: the bracket that opens here is not closed";
    if (open->closed_by.has_value()) {
      const Place other = lines.AtByte(*open->closed_by);
      absl::StrAppend(&problem.message, " before the '", text.substr(*open->closed_by, 1),
                      "' in line ", other.line, ", column ", other.column);
    }
    problem.suggestion = absl::StrCat("close it with ", text[open->at] == '{' ? "}" : "]");
    return problem;
  }
  problem.message = "not valid YAML: " + error.msg;
  for (const Words& words : kWords) {
    if (!absl::StrContains(error.msg, words.theirs)) continue;
    problem.message = absl::StrCat("not valid YAML: ", words.ours);
    problem.suggestion = words.help;
    return problem;
  }
  return problem;
}

// True where the text can be given to the parser at all.
bool CheckText(absl::string_view text, const Lines& lines, std::vector<Problem>* problems) {
  if (text.size() > kMaxBytes) {
    problems->push_back({1, 1, absl::StrCat("the file is larger than ", kMaxBytes / 1024, " KiB"),
                         "split the definition", "", false});
    return false;
  }
  for (size_t i = 0; i < text.size();) {
    size_t length = Utf8Length(text.substr(i));
    unsigned char c = static_cast<unsigned char>(text[i]);
    bool control = (c < 0x20 && c != '\t' && c != '\n' && c != '\r') || c == 0x7f;
    if (length == 0 || control) {
      Place place = lines.AtByte(i);
      problems->push_back(
          {place.line, place.column,
           length == 0 ? "the file is not valid UTF-8" : "a control character stands here",
           length == 0 ? "save it as UTF-8" : "remove it, or write it as an escape in quotes", "",
           false});
      return false;
    }
    i += length;
  }
  return true;
}

}  // namespace

std::optional<YamlNode> ReadYaml(absl::string_view text, std::vector<Problem>* problems) {
  if (absl::StartsWith(text, "\xef\xbb\xbf")) text.remove_prefix(3);
  Lines lines(text);
  if (!CheckText(text, lines, problems)) return std::nullopt;
  Builder builder(text, lines, problems);
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const GiveUp&) {
    return std::nullopt;
  } catch (const YAML::Exception& error) {
    Problem problem = ProblemOf(error, lines, text);
    // What a bracket has swallowed is not what it seems to be.
    const auto behind = [&](const Problem& other) {
      return std::tie(other.line, other.column) > std::tie(problem.line, problem.column);
    };
    problems->erase(std::remove_if(problems->begin(), problems->end(), behind), problems->end());
    problems->push_back(std::move(problem));
    return std::nullopt;
  }
  std::optional<YamlNode> root = builder.TakeRoot();
  if (!root) problems->push_back({1, 1, "the file is empty", "", "", false});
  return root;
}

}  // namespace firedrill
