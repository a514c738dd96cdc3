// Rules, delays and rates of several faults made into one disturbance.
#include "injector/wire/wishes.h"

#include <algorithm>
#include <utility>

#include "base/status_macros.h"

namespace firedrill::wire {
namespace {

void AddHolds(const HoldLog& log, v1::WireCount* count) {
  std::vector<uint32_t> asked, held;
  log.Read(&asked, &held);
  // A delay of bytes has no rule that would say what it meets.
  count->set_hit(count->hit() + log.begun());
  count->set_delayed(log.count());
  count->set_cancelled(log.cancelled());
  count->set_asked_p50_nanos(absl::ToInt64Nanoseconds(Quantile(asked, 0.5)));
  count->set_held_p50_nanos(absl::ToInt64Nanoseconds(Quantile(held, 0.5)));
  count->set_held_p99_nanos(absl::ToInt64Nanoseconds(Quantile(held, 0.99)));
}

double Least(double one, double other) {
  if (one <= 0 || other <= 0) return std::max(one, other);
  return std::min(one, other);
}

bool HasRule(const v1::WireWish& wish) { return wish.has_delay() || wish.has_failure(); }

Rule RuleOf(const v1::WireWish& wish) {
  Rule rule;
  rule.name = wish.stamp();
  rule.match = wish.match();
  if (wish.has_delay()) rule.delay = wish.delay();
  if (wish.has_failure()) rule.failure = wish.failure();
  return rule;
}

}  // namespace

absl::Status Wishes::Check(v1::Protocol protocol, const v1::WireWishes& wishes) {
  std::vector<Rule> rules;
  for (const v1::WireWish& wish : wishes.wishes()) {
    if (HasRule(wish)) rules.push_back(RuleOf(wish));
  }
  if (rules.empty()) return absl::OkStatus();
  return Rules::Compile(protocol, rules, wishes.seed()).status();
}

void Wishes::Set(ByStamp wishes, uint64_t seed) {
  wishes_ = std::move(wishes);
  seed_ = seed;
}

bool Wishes::DropEnded(absl::Duration now) {
  return std::erase_if(wishes_, [now](const auto& one) {
           return absl::Nanoseconds(one.second.ends_at_nanos()) <= now;
         }) > 0;
}

void Wishes::Clear() {
  wishes_.clear();
  FoldRuleCounts();
  holds_.clear();
}

absl::StatusOr<Disturbance> Wishes::Compose(v1::Protocol protocol) {
  std::erase_if(holds_, [this](const auto& one) { return wishes_.count(one.first) == 0; });
  RETURN_IF_ERROR(CompileRules(protocol));
  Disturbance all;
  all.rules = rules_;
  all.rule_holds = rule_holds_;
  all.seed = seed_;
  for (const auto& [stamp, wish] : wishes_) {
    if (wish.has_delay_to_server()) {
      if (all.delay_to_server.has_value()) {
        return absl::FailedPreconditionError(
            "another fault delays the bytes to this server already; begin one after the other");
      }
      all.delay_to_server = wish.delay_to_server();
      all.holds_to_server = HoldsOf(stamp);
    }
    if (wish.has_delay_to_client()) {
      if (all.delay_to_client.has_value()) {
        return absl::FailedPreconditionError(
            "another fault delays the bytes of this server already; begin one after the other");
      }
      all.delay_to_client = wish.delay_to_client();
      all.holds_to_client = HoldsOf(stamp);
    }
    all.rate_to_server = Least(all.rate_to_server, wish.rate_to_server());
    all.rate_to_client = Least(all.rate_to_client, wish.rate_to_client());
    all.stall = std::max(all.stall, wish.stall());
    all.leak = std::max(all.leak, wish.leak());
  }
  return all;
}

// Rules go on counting while other faults come and go.
absl::Status Wishes::CompileRules(v1::Protocol protocol) {
  std::string made_from;
  for (const auto& [stamp, wish] : wishes_) {
    if (HasRule(wish)) wish.AppendToString(&made_from);
  }
  if (made_from == rules_made_from_) return absl::OkStatus();
  FoldRuleCounts();
  for (auto it = counted_.begin(); it != counted_.end();) {
    it = wishes_.count(it->first) == 0 ? counted_.erase(it) : std::next(it);
  }
  std::vector<Rule> rules;
  std::vector<std::string> stamps;
  std::vector<std::shared_ptr<HoldLog>> holds;
  for (const auto& [stamp, wish] : wishes_) {
    if (!HasRule(wish)) continue;
    const Rules::Count& before = counted_[stamp];
    Rule rule = RuleOf(wish);
    rule.match.set_after(wish.match().after() - std::min(wish.match().after(), before.matched));
    if (wish.match().first() > 0) {
      if (before.hit >= wish.match().first()) continue;
      rule.match.set_first(wish.match().first() - before.hit);
    }
    rules.push_back(std::move(rule));
    stamps.push_back(stamp);
    holds.push_back(wish.has_delay() ? HoldsOf(stamp) : nullptr);
  }
  std::shared_ptr<const Rules> compiled;
  if (!rules.empty()) {
    ASSIGN_OR_RETURN(compiled, Rules::Compile(protocol, rules, seed_));
  }
  rules_ = std::move(compiled);
  rule_stamps_ = std::move(stamps);
  rule_holds_ = std::move(holds);
  rules_made_from_ = std::move(made_from);
  return absl::OkStatus();
}

void Wishes::FoldRuleCounts() {
  for (size_t i = 0; rules_ != nullptr && i < rule_stamps_.size(); ++i) {
    const Rules::Count count = rules_->CountOf(i);
    counted_[rule_stamps_[i]].matched += count.matched;
    counted_[rule_stamps_[i]].hit += count.hit;
    counted_[rule_stamps_[i]].failed += count.failed;
  }
  rules_ = nullptr;
  rule_stamps_.clear();
  rule_holds_.clear();
  rules_made_from_.clear();
}

// They go on while other faults come and go, so that each is judged by its own.
std::shared_ptr<HoldLog> Wishes::HoldsOf(const std::string& stamp) {
  std::shared_ptr<HoldLog>& log = holds_[stamp];
  if (log == nullptr) log = std::make_shared<HoldLog>();
  return log;
}

void Wishes::Report(v1::WireStatus* status) const {
  for (const auto& [stamp, wish] : wishes_) {
    v1::WireCount& count = *status->add_wishes();
    count.set_stamp(stamp);
    const auto before = counted_.find(stamp);
    if (before != counted_.end()) {
      count.set_matched(before->second.matched);
      count.set_hit(before->second.hit);
      count.set_failed(before->second.failed);
    }
    if (const auto log = holds_.find(stamp); log != holds_.end()) AddHolds(*log->second, &count);
    const auto at = std::find(rule_stamps_.begin(), rule_stamps_.end(), stamp);
    if (at == rule_stamps_.end() || rules_ == nullptr) continue;
    const Rules::Count now = rules_->CountOf(static_cast<size_t>(at - rule_stamps_.begin()));
    count.set_matched(count.matched() + now.matched);
    count.set_hit(count.hit() + now.hit);
    count.set_failed(count.failed() + now.failed);
  }
}

}  // namespace firedrill::wire
