// Compiles matches, and decides by what it remembers of a statement's shape.
#include "injector/wire/rules.h"

#include <re2/re2.h>
#include <re2/set.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <deque>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "injector/wire/chance.h"
#include "injector/wire/delay.h"
#include "injector/wire/literal_filter.h"
#include "injector/wire/redis_keys.h"
#include "injector/wire/rule_check.h"
#include "injector/wire/sql_facts.h"

namespace firedrill::wire {
namespace {

constexpr size_t kMaxRules = 64;

// What a thread has found out already, of all rules there are. A place is taken over by the next
// one that falls on it.
class Memory {
 public:
  static Memory& OfThisThread() {
    thread_local Memory memory;
    return memory;
  }
  // nullptr: not known. `key` is well mixed.
  const uint64_t* Find(uint64_t key) const {
    const Place& place = places_[key % kPlaces];
    return place.key == key ? &place.rules : nullptr;
  }
  void Keep(uint64_t key, uint64_t rules) { places_[key % kPlaces] = {key, rules}; }

 private:
  static constexpr size_t kPlaces = 4096;
  struct Place {
    uint64_t key = 0;
    uint64_t rules = 0;
  };
  std::vector<Place> places_ = std::vector<Place>(kPlaces);
};

// Clients of a proxy write it with scheme and host in front.
absl::string_view PathOf(absl::string_view target) {
  const size_t scheme = target.find("://");
  if (scheme == target.npos || scheme > target.find_first_of("/?")) return target;
  const size_t path = target.find_first_of("/?", scheme + 3);
  return path == target.npos || target[path] == '?' ? "/" : target.substr(path);
}

bool FitsPattern(absl::string_view pattern, absl::string_view name) {
  if (absl::EndsWith(pattern, "*")) {
    return absl::StartsWith(name, pattern.substr(0, pattern.size() - 1));
  }
  return pattern == name;
}

struct Compiled {
  std::string name;
  std::vector<std::string> verbs;
  std::vector<std::string> tables;
  uint64_t fingerprint = 0;
  std::unique_ptr<RE2> regex;
  std::string user;
  std::string database;
  double share = 1;
  uint64_t after = 0;
  uint64_t first = 0;
  Delay delay;
  std::optional<v1::QueryFailure> failure;

  bool Verb(absl::string_view verb) const {
    return std::any_of(verbs.begin(), verbs.end(), [&](const std::string& wanted) {
      return absl::EqualsIgnoreCase(wanted, verb);
    });
  }
};

// A line for itself: threads that count for different rules do not wait for each other.
struct alignas(64) Counters {
  std::atomic<uint64_t> matched{0};
  std::atomic<uint64_t> hit{0};
  std::atomic<uint64_t> failed{0};
};

class CompiledRules final : public Rules {
 public:
  CompiledRules(v1::Protocol protocol, uint64_t seed) : protocol_(protocol), seed_(seed) {
    static std::atomic<uint64_t> all{0};
    salt_ = Mix(all.fetch_add(1, std::memory_order_relaxed) + 1);
  }

  absl::Status Add(const Rule& rule);
  void Ready();
  Decision Decide(const Request& request) const override;
  Count CountOf(size_t rule) const override {
    return {counters_[rule].matched.load(std::memory_order_relaxed),
            counters_[rule].hit.load(std::memory_order_relaxed),
            counters_[rule].failed.load(std::memory_order_relaxed)};
  }
  void NoteFailed(size_t rule) const override {
    counters_[rule].failed.fetch_add(1, std::memory_order_relaxed);
  }

 private:
  bool sql() const {
    return protocol_ == v1::PROTOCOL_POSTGRESQL || protocol_ == v1::PROTOCOL_MYSQL;
  }
  uint64_t Matching(const Request& request) const;
  uint64_t ByShape(absl::string_view text) const;
  uint64_t ByFacts(absl::string_view text) const;
  uint64_t ByLine(const Request& request) const;
  uint64_t ByRegex(absl::string_view text, uint64_t rules) const;
  uint64_t BySession(const Request& request, uint64_t rules) const;
  bool Strikes(size_t rule, Decision* decision) const;

  const v1::Protocol protocol_;
  const uint64_t seed_;
  uint64_t salt_ = 0;
  std::vector<Compiled> rules_;
  std::unique_ptr<RE2::Set> set_;
  std::vector<size_t> set_rules_;
  // Where each regular expression needs some literal.
  std::optional<LiteralFilter> filter_;
  // Bits by the rule's place: those that ask for a verb, table or fingerprint, ...
  uint64_t asks_words_ = 0;
  uint64_t asks_connect_ = 0;
  uint64_t asks_regex_ = 0;
  uint64_t asks_session_ = 0;
  uint64_t all_ = 0;
  bool asks_tables_ = false;
  mutable std::deque<Counters> counters_;
};

absl::Status CompiledRules::Add(const Rule& rule) {
  const uint64_t bit = uint64_t{1} << rules_.size();
  const v1::QueryMatch& match = rule.match;
  if (absl::Status status = CheckRule(protocol_, rule); !status.ok()) return status;
  Compiled made;
  made.name = rule.name;
  for (const std::string& verb : match.verbs()) made.verbs.push_back(absl::AsciiStrToLower(verb));
  for (const std::string& table : match.tables()) {
    made.tables.push_back(table);
    // What is not quoted is folded; a rule means both.
    if (sql()) made.tables.push_back(absl::AsciiStrToLower(table));
  }
  if (!match.fingerprint().empty() &&
      !absl::SimpleHexAtoi(match.fingerprint(), &made.fingerprint)) {
    return absl::InvalidArgumentError("`fingerprint` is not 16 hexadecimal digits");
  }
  if (!match.regex().empty()) {
    RE2::Options options;
    options.set_log_errors(false);
    made.regex = std::make_unique<RE2>(match.regex(), options);
    if (!made.regex->ok()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "`regex` ", match.regex(), ": ", made.regex->error(), "; write it as RE2 reads it"));
    }
    asks_regex_ |= bit;
  }
  made.user = match.user();
  made.database = match.database();
  if (!made.user.empty() || !made.database.empty()) asks_session_ |= bit;
  made.share = match.share() == 0 ? 1 : match.share();
  made.after = match.after();
  made.first = match.first();
  if (rule.delay.has_value()) {
    absl::StatusOr<Delay> delay = Delay::Make(*rule.delay);
    if (!delay.ok()) return delay.status();
    made.delay = *delay;
  }
  made.failure = rule.failure;
  if (made.Verb("connect")) asks_connect_ |= bit;
  if (!made.verbs.empty() || !made.tables.empty() || made.fingerprint != 0) asks_words_ |= bit;
  asks_tables_ = asks_tables_ || !made.tables.empty() || made.fingerprint != 0;
  all_ |= bit;
  rules_.push_back(std::move(made));
  counters_.emplace_back();
  return absl::OkStatus();
}

void CompiledRules::Ready() {
  for (size_t i = 0; i < rules_.size(); ++i) {
    if (rules_[i].regex != nullptr) set_rules_.push_back(i);
  }
  LiteralFilter filter;
  const bool all = std::all_of(set_rules_.begin(), set_rules_.end(), [&](size_t rule) {
    const std::string literal = RequiredLiteral(rules_[rule].regex->pattern());
    if (!literal.empty()) filter.Add(literal);
    return !literal.empty();
  });
  if (all) filter_ = filter;
  if (set_rules_.size() < 2) return;
  RE2::Options options;
  options.set_log_errors(false);
  set_ = std::make_unique<RE2::Set>(options, RE2::UNANCHORED);
  for (size_t rule : set_rules_) set_->Add(rules_[rule].regex->pattern(), nullptr);
  // Too much for one automaton: then one by one.
  if (!set_->Compile()) set_.reset();
}

uint64_t CompiledRules::Matching(const Request& request) const {
  if (request.connect) return BySession(request, asks_connect_);
  if (request.statement == 0) {
    const uint64_t rules = asks_words_ == 0 ? all_
                           : sql()          ? ByShape(request.text)
                                            : ByLine(request);
    return BySession(request, ByRegex(request.text, rules));
  }
  Memory& memory = Memory::OfThisThread();
  const uint64_t key = Mix(salt_ ^ (request.statement * 2 + 1));
  if (const uint64_t* known = memory.Find(key)) return *known;
  Request unknown = request;
  unknown.statement = 0;
  const uint64_t rules = Matching(unknown);
  memory.Keep(key, rules);
  return rules;
}

uint64_t CompiledRules::ByShape(absl::string_view text) const {
  const Dialect dialect = protocol_ == v1::PROTOCOL_MYSQL ? Dialect::kMysql : Dialect::kPostgresql;
  Memory& memory = Memory::OfThisThread();
  const uint64_t key = Mix(salt_ + ShapeOf(dialect, text));
  if (const uint64_t* known = memory.Find(key)) return *known;
  const uint64_t rules = ByFacts(text);
  memory.Keep(key, rules);
  return rules;
}

uint64_t CompiledRules::ByFacts(absl::string_view text) const {
  const Dialect dialect = protocol_ == v1::PROTOCOL_MYSQL ? Dialect::kMysql : Dialect::kPostgresql;
  const SqlFacts facts = FactsOf(dialect, text, asks_tables_);
  uint64_t found = 0;
  for (size_t i = 0; i < rules_.size(); ++i) {
    const Compiled& rule = rules_[i];
    const auto is_verb = [&](const std::string& verb) { return rule.Verb(verb); };
    const auto is_table = [&](const std::string& table) {
      // Without a schema, a rule means the table of every schema.
      return std::any_of(rule.tables.begin(), rule.tables.end(), [&](const std::string& wanted) {
        return wanted == table || absl::EndsWith(table, absl::StrCat(".", wanted)) ||
               absl::EndsWith(wanted, absl::StrCat(".", table));
      });
    };
    if (!rule.verbs.empty() && std::none_of(facts.verbs.begin(), facts.verbs.end(), is_verb)) {
      continue;
    }
    if (!rule.tables.empty() && std::none_of(facts.tables.begin(), facts.tables.end(), is_table)) {
      continue;
    }
    if (rule.fingerprint != 0 && rule.fingerprint != facts.fingerprint) continue;
    found |= uint64_t{1} << i;
  }
  return found;
}

// A command of Redis and its keys, or a method of HTTP and its path.
uint64_t CompiledRules::ByLine(const Request& request) const {
  const bool http = protocol_ == v1::PROTOCOL_HTTP;
  const std::pair<absl::string_view, absl::string_view> line =
      absl::StrSplit(request.text, absl::MaxSplits(' ', 1));
  const absl::string_view verb = http ? line.first : request.words[0];
  const absl::string_view path = PathOf(line.second.substr(0, line.second.find(' ')));
  uint64_t found = 0;
  for (size_t i = 0; i < rules_.size(); ++i) {
    const Compiled& rule = rules_[i];
    if (!rule.verbs.empty() && !rule.Verb(verb)) continue;
    const auto meant = [&rule](absl::string_view name) {
      return std::any_of(rule.tables.begin(), rule.tables.end(),
                         [name](const std::string& pattern) { return FitsPattern(pattern, name); });
    };
    const bool fits =
        rule.tables.empty() || (http ? meant(path) || meant(path.substr(0, path.find('?')))
                                     : AnyRedisKey(request.words, meant));
    if (fits) found |= uint64_t{1} << i;
  }
  return found;
}

uint64_t CompiledRules::ByRegex(absl::string_view text, uint64_t rules) const {
  const uint64_t asked = rules & asks_regex_;
  if (asked == 0) return rules;
  if (filter_.has_value() && !filter_->MayContainAny(text)) return rules & ~asks_regex_;
  const re2::StringPiece piece(text.data(), text.size());
  if (set_ != nullptr && (asked & (asked - 1)) != 0) {
    // Mostly none fits, and that is found out without memory of its own.
    RE2::Set::ErrorInfo error{};
    if (!set_->Match(piece, nullptr, &error) && error.kind == RE2::Set::kNoError) {
      return rules & ~asks_regex_;
    }
  }
  for (size_t rule : set_rules_) {
    const uint64_t bit = uint64_t{1} << rule;
    if ((asked & bit) != 0 && !RE2::PartialMatch(piece, *rules_[rule].regex)) rules &= ~bit;
  }
  return rules;
}

uint64_t CompiledRules::BySession(const Request& request, uint64_t rules) const {
  for (uint64_t left = rules & asks_session_; left != 0; left &= left - 1) {
    const Compiled& rule = rules_[static_cast<size_t>(__builtin_ctzll(left))];
    const bool fits = (rule.user.empty() || rule.user == request.user) &&
                      (rule.database.empty() || rule.database == request.database);
    if (!fits) rules &= ~(left & -left);
  }
  return rules;
}

// Everything by chance hangs on the seed, the rule and the how-manieth match it is.
bool CompiledRules::Strikes(size_t i, Decision* decision) const {
  const Compiled& rule = rules_[i];
  Counters& counters = counters_[i];
  const uint64_t nth = counters.matched.fetch_add(1, std::memory_order_relaxed);
  if (nth < rule.after) return false;
  if (rule.share < 1 && !Picked(seed_, i, nth, rule.share)) return false;
  if (rule.first == 0) {
    counters.hit.fetch_add(1, std::memory_order_relaxed);
  } else {
    uint64_t hit = counters.hit.load(std::memory_order_relaxed);
    do {
      if (hit >= rule.first) return false;
    } while (!counters.hit.compare_exchange_weak(hit, hit + 1, std::memory_order_relaxed));
  }
  if (!rule.delay.none()) {
    uint64_t chance = Mix(Mix(seed_ + i) ^ nth);
    decision->delay = std::max(decision->delay, absl::Microseconds(rule.delay.Draw(&chance)));
  }
  if (decision->failure == nullptr && rule.failure.has_value()) {
    decision->failure = &*rule.failure;
    decision->failing = i;
  }
  return true;
}

Decision CompiledRules::Decide(const Request& request) const {
  Decision decision;
  for (uint64_t left = Matching(request); left != 0; left &= left - 1) {
    const auto rule = static_cast<size_t>(__builtin_ctzll(left));
    if (Strikes(rule, &decision)) decision.hit |= uint64_t{1} << rule;
  }
  return decision;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Rules>> Rules::Compile(v1::Protocol protocol,
                                                      const std::vector<Rule>& rules,
                                                      uint64_t seed) {
  if (rules.size() > kMaxRules) {
    return absl::InvalidArgumentError(absl::StrCat(rules.size(),
                                                   " rules for one server are more than ",
                                                   kMaxRules, "; run fewer faults at a time"));
  }
  auto made = std::make_unique<CompiledRules>(protocol, seed);
  for (const Rule& rule : rules) {
    if (absl::Status status = made->Add(rule); !status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("`", rule.name, "`: ", status.message()));
    }
  }
  made->Ready();
  return made;
}

}  // namespace firedrill::wire
