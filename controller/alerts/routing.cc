// Reads Alertmanager's configuration and walks its routing tree.
#include "controller/alerts/routing.h"

#include <yaml-cpp/yaml.h>

#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "base/status_macros.h"
#include "base/text.h"

namespace firedrill {
namespace {

// A tree that is deeper is not one that a person wrote.
constexpr int kDeepest = 64;

std::string Quoted(const std::string& value) {
  return absl::StrCat(
      "\"", absl::StrReplaceAll(value, {{"\\", "\\\\"}, {"\"", "\\\""}, {"\n", "\\n"}}), "\"");
}

// Alertmanager also takes values without quotes: severity=page, severity=~page|ticket.
std::string WithQuotes(const std::string& text) {
  const size_t sign = text.find_first_of("=!");
  if (sign == std::string::npos) return text;
  const size_t value = text.find_first_not_of("=!~", sign);
  const std::string rest(
      value == std::string::npos ? "" : absl::StripAsciiWhitespace(text.substr(value)));
  if (absl::StartsWith(rest, "\"")) return text;
  const std::string head = text.substr(0, value == std::string::npos ? text.size() : value);
  return absl::StrCat(absl::StripAsciiWhitespace(head), Quoted(rest));
}

// One entry of `matchers` may hold several, in braces and with commas.
std::vector<std::string> SplitMatchers(std::string text) {
  text = std::string(absl::StripAsciiWhitespace(text));
  if (absl::StartsWith(text, "{") && absl::EndsWith(text, "}"))
    text = text.substr(1, text.size() - 2);
  std::vector<std::string> parts(1);
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && quoted && i + 1 < text.size()) {
      parts.back() += text[i++];
    } else if (text[i] == '"') {
      quoted = !quoted;
    } else if (text[i] == ',' && !quoted) {
      parts.emplace_back();
      continue;
    }
    parts.back() += text[i];
  }
  std::vector<std::string> matchers;
  for (const std::string& part : parts) {
    if (!absl::StripAsciiWhitespace(part).empty()) matchers.push_back(WithQuotes(part));
  }
  return matchers;
}

absl::Status AddMatchers(const YAML::Node& node, Route& route) {
  std::vector<std::string> texts;
  for (const auto& pair : node["match"]) {
    texts.push_back(
        absl::StrCat(pair.first.as<std::string>(), "=", Quoted(pair.second.as<std::string>())));
  }
  for (const auto& pair : node["match_re"]) {
    texts.push_back(
        absl::StrCat(pair.first.as<std::string>(), "=~", Quoted(pair.second.as<std::string>())));
  }
  for (const auto& entry : node["matchers"]) {
    for (std::string& text : SplitMatchers(entry.as<std::string>()))
      texts.push_back(std::move(text));
  }
  for (const std::string& text : texts) {
    absl::StatusOr<Matcher> matcher = ParseMatcher(text);
    if (!matcher.ok()) return Annotate(matcher.status(), absl::StrCat("route matcher ", text));
    route.matchers.push_back(*std::move(matcher));
  }
  return absl::OkStatus();
}

// Prometheus' durations also have weeks and years.
absl::StatusOr<absl::Duration> ReadDuration(const std::string& text) {
  double days = 0;
  std::string rest = text;
  for (const auto& [unit, length] : {std::pair<char, int>{'y', 365}, {'w', 7}}) {
    const size_t end = rest.find(unit);
    double number = 0;
    if (end == std::string::npos || !absl::SimpleAtod(rest.substr(0, end), &number)) continue;
    days += number * length;
    rest.erase(0, end + 1);
  }
  if (rest.empty()) return absl::Hours(24 * days);
  ASSIGN_OR_RETURN(const absl::Duration parsed, ParseDuration(rest));
  return parsed + absl::Hours(24 * days);
}

absl::Status ReadInterval(const YAML::Node& node, const char* key, absl::Duration* into) {
  if (!node[key].IsDefined()) return absl::OkStatus();
  const absl::StatusOr<absl::Duration> interval = ReadDuration(node[key].as<std::string>());
  if (!interval.ok()) return Annotate(interval.status(), key);
  *into = *interval;
  return absl::OkStatus();
}

// `route` comes with what its parent has.
absl::StatusOr<Route> ReadRoute(const YAML::Node& node, Route route, int depth) {
  if (depth > kDeepest) return absl::InvalidArgumentError("the routing tree is too deep");
  route.matchers.clear();
  route.routes.clear();
  route.goes_on = node["continue"].IsDefined() && node["continue"].as<bool>();
  if (node["receiver"].IsDefined()) route.receiver = node["receiver"].as<std::string>();
  if (node["group_by"].IsDefined())
    route.group_by = node["group_by"].as<std::vector<std::string>>();
  RETURN_IF_ERROR(ReadInterval(node, "group_wait", &route.group_wait));
  RETURN_IF_ERROR(ReadInterval(node, "group_interval", &route.group_interval));
  RETURN_IF_ERROR(ReadInterval(node, "repeat_interval", &route.repeat_interval));
  RETURN_IF_ERROR(AddMatchers(node, route));
  std::vector<Route> children;
  for (const YAML::Node& child : node["routes"]) {
    ASSIGN_OR_RETURN(Route read, ReadRoute(child, route, depth + 1));
    children.push_back(std::move(read));
  }
  route.routes = std::move(children);
  return route;
}

// No value: it depends on an open label.
std::optional<bool> MatchesKnown(const Route& route, const Labels& known,
                                 const std::set<std::string>& open) {
  bool decided = true;
  for (const Matcher& matcher : route.matchers) {
    if (known.count(matcher.label) == 0 && open.count(matcher.label) > 0) {
      decided = false;
    } else if (!Matches(matcher, known)) {
      return false;
    }
  }
  if (!decided) return std::nullopt;
  return true;
}

class Walk {
 public:
  Walk(const Labels& known, const std::set<std::string>& open) : known_(known), open_(open) {}

  // What became of the node: true, false, or no value where it depends.
  std::optional<bool> Visit(const Route& route, std::string path, bool certain) {
    const std::optional<bool> matches = MatchesKnown(route, known_, open_);
    if (matches == false) return false;
    certain = certain && matches.has_value();
    for (const Matcher& matcher : route.matchers) {
      absl::StrAppend(&path, path.empty() ? "" : ", ", MatcherText(matcher));
    }
    // The node itself takes the alert where no child does.
    bool taken = false;      // By a child, for certain.
    bool maybe = false;      // By a child, depending on open labels.
    bool reached = certain;  // Whether the next child is tried for certain.
    for (const Route& child : route.routes) {
      const std::optional<bool> result = Visit(child, path, reached);
      if (result == false) continue;
      (result.has_value() ? taken : maybe) = true;
      if (child.goes_on) continue;
      if (result.has_value()) break;
      reached = false;
    }
    if (!taken) {
      RouteHit hit{route.receiver,       route.group_by,        route.group_wait,
                   route.group_interval, route.repeat_interval, path};
      (certain && !maybe ? decision_.hits : decision_.possible).push_back(std::move(hit));
    }
    return matches;
  }

  RouteDecision Take() { return std::move(decision_); }

 private:
  const Labels& known_;
  const std::set<std::string>& open_;
  RouteDecision decision_;
};

}  // namespace

absl::StatusOr<AlertmanagerConfig> ParseAlertmanagerConfig(absl::string_view yaml) {
  try {
    const YAML::Node config = YAML::Load(std::string(yaml));
    if (!config.IsMap() || !config["route"].IsDefined()) {
      return absl::DataLossError("Alertmanager's configuration has no route");
    }
    AlertmanagerConfig read;
    ASSIGN_OR_RETURN(read.root, ReadRoute(config["route"], Route(), 0));
    for (const YAML::Node& receiver : config["receivers"]) {
      auto& webhooks = read.receivers[receiver["name"].as<std::string>()];
      for (const YAML::Node& webhook : receiver["webhook_configs"]) {
        webhooks.push_back(
            {webhook["url"].as<std::string>(""), webhook["send_resolved"].as<bool>(true)});
      }
    }
    return read;
  } catch (const YAML::Exception& e) {
    return absl::DataLossError(
        absl::StrCat("Alertmanager's configuration cannot be read: ", e.what()));
  }
}

RouteDecision DecideRoutes(const Route& root, const Labels& known,
                           const std::set<std::string>& open) {
  Walk walk(known, open);
  walk.Visit(root, "", true);
  return walk.Take();
}

}  // namespace firedrill
