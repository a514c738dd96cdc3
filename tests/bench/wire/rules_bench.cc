// How long rules take to decide about a request whose shape they know.
#include <algorithm>
#include <cstdio>
#include <ctime>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "injector/wire/rules.h"
#include "injector/wire/sql_facts.h"

namespace firedrill::wire {
namespace {

// Of this thread, as the machine may be busy with others.
double CpuNanos() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

template <typename Work>
double NanosEach(int times, Work work) {
  double best = 1e18;
  for (int round = 0; round < 7; ++round) {
    const double begin = CpuNanos();
    for (int i = 0; i < times; ++i) work(i);
    best = std::min(best, (CpuNanos() - begin) / times);
  }
  return best;
}

std::vector<Rule> Twenty(bool regex, const std::string& table) {
  std::vector<Rule> rules;
  for (int i = 0; i < 20; ++i) {
    Rule rule;
    rule.name = absl::StrCat("rule", i);
    rule.match.add_verbs("select");
    rule.match.add_tables(absl::StrCat(table, i));
    if (regex) rule.match.set_regex(absl::StrCat("column", i, " *= *[0-9]+"));
    if (i % 2 == 0) rule.match.set_user("ann");
    rule.delay.emplace().mutable_delay()->set_seconds(1);
    rules.push_back(std::move(rule));
  }
  return rules;
}

void Measure(const char* name, const std::vector<Rule>& rules, bool statement) {
  auto compiled = Rules::Compile(v1::PROTOCOL_POSTGRESQL, rules, 1);
  if (!compiled.ok()) return;
  // pgbench -S, with another literal each time.
  std::vector<std::string> texts;
  for (int i = 0; i < 1024; ++i) {
    texts.push_back(
        absl::StrCat("SELECT abalance FROM pgbench_accounts WHERE aid = ", 100000 + i * 37, ";"));
  }
  Request request;
  request.user = "ann";
  request.database = "shop";
  request.statement = statement ? 4711 : 0;
  uint64_t hits = 0;
  const double nanos = NanosEach(1'000'000, [&](int i) {
    request.text = texts[i % texts.size()];
    hits += (*compiled)->Decide(request).hit;
  });
  std::printf("%-44s %8.1f ns  (%llu)\n", name, nanos, static_cast<unsigned long long>(hits));
}

void Run() {
  Measure("20 rules, none means it", Twenty(false, "other"), false);
  Measure("20 rules, a statement's number", Twenty(false, "other"), true);
  std::vector<Rule> one = Twenty(false, "other");
  one[3].match.clear_tables();
  one[3].match.add_tables("pgbench_accounts");
  Measure("20 rules, one hits", one, false);
  std::vector<Rule> regexes = Twenty(true, "other");
  for (Rule& rule : regexes) rule.match.clear_tables();
  Measure("20 rules of verb and regex", regexes, false);
  const std::string text = "SELECT abalance FROM pgbench_accounts WHERE aid = 4711;";
  uint64_t sum = 0;
  std::printf("%-44s %8.1f ns\n", "the shape alone",
              NanosEach(1'000'000, [&](int) { sum += ShapeOf(Dialect::kPostgresql, text); }));
  std::printf(
      "%-44s %8.1f ns\n", "a shape seen for the first time (libpg_query)",
      NanosEach(2'000, [&](int) { sum += FactsOf(Dialect::kPostgresql, text, true).fingerprint; }));
  if (sum == 0) std::puts("");
}

}  // namespace
}  // namespace firedrill::wire

int main() { firedrill::wire::Run(); }
