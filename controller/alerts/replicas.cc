// Weighs what several servers say.
#include "controller/alerts/replicas.h"

#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "base/time_proto.h"

namespace firedrill {
namespace {

std::string KeyOf(const v1::AlertTransition& transition) {
  const std::map<std::string, std::string> labels(transition.labels().begin(),
                                                  transition.labels().end());
  std::string key = transition.alert();
  for (const auto& [name, value] : labels) absl::StrAppend(&key, "\1", name, "\2", value);
  return key;
}

int Rank(const v1::AlertTransition& transition) {
  return transition.state() == v1::ALERT_STATE_FIRING ? 2 : 1;
}

v1::MonitorGap GapOf(const std::string& source, absl::Time from, const std::string& reason) {
  v1::MonitorGap gap;
  gap.set_source(source);
  gap.set_reason(reason);
  *gap.mutable_from() = ToProto(from);
  return gap;
}

v1::MonitorGap Over(v1::MonitorGap gap, absl::Time to) {
  gap.clear_reason();
  *gap.mutable_to() = ToProto(to);
  return gap;
}

}  // namespace

AlertChanges Replicas::Feed(size_t member, const AlertChanges& changes) {
  if (members_ == 1) return changes;
  AlertChanges out;
  for (const v1::AlertTransition& transition : changes.begun) {
    Instance& instance = instances_[KeyOf(transition)];
    instance.words.resize(members_);
    std::optional<v1::AlertTransition>& word = instance.words[member];
    const bool new_life =
        word.has_value() && FromProto(word->active_at()) != FromProto(transition.active_at());
    word = transition;
    Weigh(instance, nullptr, new_life, out);
  }
  for (const EndedAlert& ended : changes.ended) {
    const auto found = instances_.find(KeyOf(ended.transition));
    if (found == instances_.end()) continue;
    found->second.words[member].reset();
    Weigh(found->second, &ended, false, out);
    if (!found->second.was_told) instances_.erase(found);
  }
  return out;
}

AlertChanges Replicas::Lapse(size_t member, absl::Time now) {
  AlertChanges lapsed;
  for (const auto& [key, instance] : instances_) {
    const std::optional<v1::AlertTransition>& word = instance.words[member];
    if (!word.has_value()) continue;
    EndedAlert ended{*word, /*rule_gone=*/true};
    const bool prometheus = word->source() == v1::ALERT_SOURCE_PROMETHEUS;
    ended.transition.set_state(prometheus ? v1::ALERT_STATE_INACTIVE : v1::ALERT_STATE_RESOLVED);
    *ended.transition.mutable_evaluated_at() = ToProto(now);
    *ended.transition.mutable_ends_at() = ToProto(now);
    lapsed.ended.push_back(std::move(ended));
  }
  return Feed(member, lapsed);
}

void Replicas::Weigh(Instance& instance, const EndedAlert* ended, bool new_life,
                     AlertChanges& out) {
  const v1::AlertTransition* furthest = nullptr;
  size_t holders = 0;
  bool suppressed = true;
  for (const auto& word : instance.words) {
    if (!word.has_value()) continue;
    ++holders;
    suppressed = suppressed && word->suppressed();
    if (furthest == nullptr || Rank(*word) > Rank(*furthest)) furthest = &*word;
  }
  const bool less =
      instance.was_told && (furthest == nullptr || Rank(*furthest) < Rank(instance.told));
  if (less && ended != nullptr) {
    EndedAlert told = *ended;
    *told.transition.mutable_active_at() = instance.told.active_at();
    out.ended.push_back(std::move(told));
  }
  if (furthest == nullptr) {
    instance.was_told = false;
    return;
  }
  v1::AlertTransition now = *furthest;
  now.set_suppressed(suppressed);
  // Where others hold it as well, one that begins anew is a server that was started again.
  const bool anew = new_life && holders == 1;
  if (instance.was_told && !less && !anew && Rank(now) == Rank(instance.told) &&
      now.suppressed() == instance.told.suppressed()) {
    return;
  }
  instance.told = now;
  instance.was_told = true;
  out.begun.push_back(std::move(now));
}

GapBook::GapBook(std::string all, std::vector<std::string> members)
    : all_(members.size() == 1 ? members.front() : std::move(all)),
      names_(std::move(members)),
      members_(names_.size()) {}

std::vector<v1::MonitorGap> GapBook::Open(size_t member, const std::string& about, absl::Time from,
                                          const std::string& reason, absl::Time now) {
  std::vector<v1::MonitorGap> told;
  if (!members_[member].emplace(about, Blindness{from, reason}).second) return told;
  if (names_.size() > 1) {
    told.push_back(GapOf(names_[member], from, reason));
    told.back().set_covered(true);
  }
  Update(now, told);
  return told;
}

std::vector<v1::MonitorGap> GapBook::Close(size_t member, const std::string& about,
                                           absl::Time now) {
  std::vector<v1::MonitorGap> told;
  const auto found = members_[member].find(about);
  if (found == members_[member].end()) return told;
  if (names_.size() > 1) {
    told.push_back(Over(GapOf(names_[member], found->second.from, ""), now));
    told.back().set_covered(true);
  }
  members_[member].erase(found);
  Update(now, told);
  return told;
}

std::optional<GapBook::Blindness> GapBook::All(const std::string& about) const {
  std::optional<Blindness> all;
  for (const Blindnesses& member : members_) {
    std::optional<Blindness> own;
    // Who does not answer at all does not see this either.
    for (const std::string& reason : {std::string(), about}) {
      const auto found = member.find(reason);
      if (found == member.end()) continue;
      if (!own.has_value() || found->second.from < own->from) own = found->second;
    }
    if (!own.has_value()) return std::nullopt;
    if (!all.has_value() || own->from > all->from) all = own;
  }
  return all;
}

void GapBook::Update(absl::Time now, std::vector<v1::MonitorGap>& told) {
  std::set<std::string> abouts;
  for (const Blindnesses& member : members_) {
    for (const auto& [about, blindness] : member) abouts.insert(about);
  }
  for (const auto& [about, from] : open_) abouts.insert(about);
  for (const std::string& about : abouts) {
    const std::optional<Blindness> all = All(about);
    const auto open = open_.find(about);
    if (all.has_value() && open == open_.end()) {
      open_[about] = all->from;
      told.push_back(GapOf(all_, all->from, all->reason));
    } else if (!all.has_value() && open != open_.end()) {
      told.push_back(Over(GapOf(all_, open->second, ""), now));
      open_.erase(open);
    }
  }
}

}  // namespace firedrill
