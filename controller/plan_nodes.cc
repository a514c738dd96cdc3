// Who is chosen for each target, and why the others are not.
#include <algorithm>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/text.h"
#include "controller/plan_parts.h"

namespace firedrill::planning {
namespace {

std::string EnvironmentOf(const PlanInput& input, const v1::Registration& node) {
  return node.environment().empty() ? input.site.environment() : node.environment();
}

std::vector<std::string> Environments(const PlanInput& input) {
  const auto& allowed = input.experiment.spec().limits().environments();
  return {allowed.begin(), allowed.end()};
}

// "a, b or c".
std::string AnyOf(const std::vector<std::string>& words) {
  if (words.size() < 2) return absl::StrJoin(words, "");
  return absl::StrCat(absl::StrJoin(words.begin(), words.end() - 1, ", "), " or ", words.back());
}

std::string Expression(const v1::LabelCondition& condition) {
  const std::vector<std::string> values(condition.values().begin(), condition.values().end());
  switch (condition.operator_()) {
    case v1::LabelCondition::OPERATOR_IN:
      return absl::StrCat(condition.key(), " in (", absl::StrJoin(values, ", "), ")");
    case v1::LabelCondition::OPERATOR_NOT_IN:
      return absl::StrCat(condition.key(), " not in (", absl::StrJoin(values, ", "), ")");
    case v1::LabelCondition::OPERATOR_EXISTS:
      return absl::StrCat("a label ", condition.key());
    default:
      return absl::StrCat("no label ", condition.key());
  }
}

std::string SelectorText(const v1::Selector& selector) {
  std::vector<std::string> parts;
  for (const auto& [key, value] : selector.match_labels()) {
    parts.push_back(absl::StrCat(key, "=", value));
  }
  std::sort(parts.begin(), parts.end());
  for (const v1::LabelCondition& condition : selector.match_expressions()) {
    parts.push_back(Expression(condition));
  }
  return parts.empty() ? "any labels" : absl::StrJoin(parts, ", ");
}

using Labels = google::protobuf::Map<std::string, std::string>;

// Empty where the condition holds.
std::string WhyNot(const v1::LabelCondition& condition, const Labels& labels) {
  auto found = labels.find(condition.key());
  const bool has = found != labels.end();
  const bool listed = has && absl::c_linear_search(condition.values(), found->second);
  const std::vector<std::string> values(condition.values().begin(), condition.values().end());
  switch (condition.operator_()) {
    case v1::LabelCondition::OPERATOR_IN:
      if (!has) return absl::StrCat("has no label ", condition.key());
      if (listed) return "";
      return absl::StrCat("label ", condition.key(), " is ", found->second, ", not ",
                          AnyOf(values));
    case v1::LabelCondition::OPERATOR_NOT_IN:
      if (!listed) return "";
      return absl::StrCat("label ", condition.key(), " is ", found->second, ", which is excluded");
    case v1::LabelCondition::OPERATOR_EXISTS:
      return has ? "" : absl::StrCat("has no label ", condition.key());
    case v1::LabelCondition::OPERATOR_DOES_NOT_EXIST:
      return has ? absl::StrCat("has a label ", condition.key()) : "";
    default:
      return "has an unknown condition to meet";
  }
}

std::string WhyNot(const v1::Selector& selector, const Labels& labels) {
  std::vector<std::pair<std::string, std::string>> wanted(selector.match_labels().begin(),
                                                          selector.match_labels().end());
  std::sort(wanted.begin(), wanted.end());
  for (const auto& [key, value] : wanted) {
    auto found = labels.find(key);
    if (found == labels.end()) return absl::StrCat("has no label ", key, ", needs ", value);
    if (found->second != value) {
      return absl::StrCat("label ", key, " is ", found->second, ", not ", value);
    }
  }
  for (const v1::LabelCondition& condition : selector.match_expressions()) {
    std::string why = WhyNot(condition, labels);
    if (!why.empty()) return why;
  }
  return "";
}

// splitmix64: a few lines that give the same numbers on every machine and with every library.
uint64_t Next(uint64_t& state) {
  state += 0x9e3779b97f4a7c15;
  uint64_t z = state;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

std::vector<std::string> Draw(std::vector<std::string> names, size_t count, uint64_t seed) {
  for (size_t i = 0; i < count; ++i) {
    std::swap(names[i], names[i + Next(seed) % (names.size() - i)]);
  }
  names.resize(count);
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<const v1::Registration*> ByName(const PlanInput& input) {
  std::vector<const v1::Registration*> nodes;
  for (const v1::Registration& node : input.nodes) nodes.push_back(&node);
  std::sort(nodes.begin(), nodes.end(),
            [](const auto* a, const auto* b) { return a->node() < b->node(); });
  return nodes;
}

void Choose(const PlanInput& input, const v1::Target& target, v1::Plan& plan) {
  v1::TargetChoice& choice = *plan.add_targets();
  choice.set_target(target.name());
  const auto pass = [&choice](const std::string& node, std::string reason) {
    v1::TargetChoice::Passed& passed = *choice.add_passed();
    passed.set_node(node);
    passed.set_reason(std::move(reason));
  };
  std::vector<std::string> fit;
  size_t elsewhere = 0;
  std::string stopped;
  for (const v1::Registration* node : ByName(input)) {
    std::string why = WhyNot(target.selector(), node->labels());
    if (why.empty() && !absl::c_linear_search(Environments(input), EnvironmentOf(input, *node))) {
      why = absl::StrCat("its environment is ", EnvironmentOf(input, *node), ", not ",
                         AnyOf(Environments(input)));
      ++elsewhere;
    }
    if (why.empty() && !node->stopped().empty()) why = stopped = node->stopped();
    if (why.empty()) {
      fit.push_back(node->node());
    } else {
      pass(node->node(), std::move(why));
    }
  }
  const size_t count = std::max<uint32_t>(target.count(), 1);
  if (fit.size() < count) {
    AddFinding(plan, v1::Finding::KIND_CIRCUMSTANCE, "no-target", target.name(),
               absl::StrCat("target ", target.name(), " needs ", count, " node",
                            count == 1 ? "" : "s", " with ", SelectorText(target.selector()), "; ",
                            fit.size(), " of ", input.nodes.size(), " connected fit",
                            elsewhere > 0
                                ? absl::StrCat(" (", elsewhere, " more in a forbidden environment)")
                                : std::string(),
                            stopped.empty() ? "" : absl::StrCat(" (", stopped, ")")),
               "start the injector of such a node, or change the target's selector or count");
    return;
  }
  const std::vector<std::string> drawn = Draw(fit, count, SeedFor(input.seed, target.name()));
  for (const std::string& node : drawn) choice.add_nodes(node);
  for (const std::string& node : fit) {
    if (absl::c_linear_search(drawn, node)) continue;
    pass(node, absl::StrCat("fits, but ", count, " of ", fit.size(), " ",
                            count == 1 ? "was" : "were", " drawn with seed ", input.seed));
  }
}

}  // namespace

uint64_t SeedFor(uint64_t seed, absl::string_view what) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : what) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return seed ^ hash;
}

void ChooseNodes(const PlanInput& input, v1::Plan& plan) {
  if (!absl::c_linear_search(Environments(input), input.site.environment())) {
    AddFinding(plan, v1::Finding::KIND_CIRCUMSTANCE, "environment", input.site.environment(),
               absl::StrCat("the site's environment is ", input.site.environment(),
                            "; limits.environments permits ", AnyOf(Environments(input))),
               "run it at a site of such an environment, or widen limits.environments on purpose");
  }
  for (const v1::Target& target : input.experiment.spec().targets()) {
    Choose(input, target, plan);
  }
}

std::vector<std::string> NodesOf(const v1::Plan& plan, absl::string_view target) {
  for (const v1::TargetChoice& choice : plan.targets()) {
    if (absl::string_view(choice.target()) == target) {
      return {choice.nodes().begin(), choice.nodes().end()};
    }
  }
  return {};
}

const v1::Registration* FindNode(const PlanInput& input, absl::string_view name) {
  for (const v1::Registration& node : input.nodes) {
    if (absl::string_view(node.node()) == name) return &node;
  }
  return nullptr;
}

}  // namespace firedrill::planning
