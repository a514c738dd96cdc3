// Marks in a vector that is compacted now and then, over bytes kept the same way.
#include "injector/wire/flow.h"

#include <algorithm>
#include <cmath>

namespace firedrill::wire {
namespace {

// A rate goes out in pieces of this long, and what was not used is forgiven after as long again.
constexpr Nanos kQuantum = 5'000'000;
// So much may stay allocated by an empty flow: an idle connection is to be small.
constexpr size_t kSmallBytes = 256;
constexpr size_t kSmallMarks = 8;

}  // namespace

void HoldLog::Add(uint64_t asked_us, uint64_t held_us) {
  const uint64_t count = count_.fetch_add(1, std::memory_order_relaxed);
  const uint64_t most = UINT32_MAX;
  latest_[count % kLatest].store(std::min(asked_us, most) << 32 | std::min(held_us, most),
                                 std::memory_order_relaxed);
}

template <typename Task>
void HoldLogs::EachRule(const Hold& hold, const Task& task) {
  for (uint64_t left = hold.rules; left != 0; left &= left - 1) {
    const auto rule = static_cast<size_t>(__builtin_ctzll(left));
    if (rule < rules.size() && rules[rule] != nullptr) task(*rules[rule]);
  }
}

void HoldLogs::Add(const Hold& hold, uint64_t held_us) {
  all.Add(hold.total(), held_us);
  const auto without = [held_us](uint64_t others) { return held_us - std::min(held_us, others); };
  if (hold.network > 0 && network != nullptr) network->Add(hold.network, without(hold.request));
  if (hold.request == 0) return;
  EachRule(hold, [&](HoldLog& log) { log.Add(hold.request, without(hold.network)); });
}

void HoldLogs::AddCancelled(const Hold& hold) {
  EachRule(hold, [](HoldLog& log) { log.AddCancelled(); });
}

void HoldLog::Read(std::vector<uint32_t>* asked_us, std::vector<uint32_t>* held_us) const {
  const size_t there = std::min<uint64_t>(count(), kLatest);
  for (size_t i = 0; i < there; ++i) {
    const uint64_t both = latest_[i].load(std::memory_order_relaxed);
    // Counted, but not there yet.
    if (both == 0) continue;
    asked_us->push_back(static_cast<uint32_t>(both >> 32));
    held_us->push_back(static_cast<uint32_t>(both));
  }
}

absl::Duration Quantile(std::vector<uint32_t>& micros, double quantile) {
  if (micros.empty()) return absl::ZeroDuration();
  const auto place =
      micros.begin() + static_cast<ptrdiff_t>(quantile * static_cast<double>(micros.size() - 1));
  std::nth_element(micros.begin(), place, micros.end());
  return absl::Microseconds(*place);
}

bool Flow::Append(absl::string_view bytes, Nanos arrived, Hold hold) {
  if (bytes.empty()) return false;
  if (bytes_.size() + bytes.size() > bytes_.capacity()) Compact();
  bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  const uint64_t end = gone_ + held();
  if (first_ < marks_.size()) {
    Mark& last = marks_.back();
    const bool alike = last.arrived == arrived && last.hold.network == hold.network &&
                       last.hold.request == hold.request && last.hold.rules == hold.rules &&
                       last.hold.ticket == hold.ticket;
    if (alike || (hold.none() && last.hold.none())) {
      last.end = end;
      return false;
    }
  }
  if (first_ > 0 && marks_.size() == marks_.capacity()) {
    marks_.erase(marks_.begin(), marks_.begin() + static_cast<ptrdiff_t>(first_));
    first_ = 0;
  }
  marks_.push_back({end, arrived, hold});
  return true;
}

// Moves what is held to the front, when that makes room for as much again.
void Flow::Compact() {
  if (head_ < held()) return;
  bytes_.erase(bytes_.begin(), bytes_.begin() + static_cast<ptrdiff_t>(head_));
  head_ = 0;
}

uint64_t Flow::DueEnd(Nanos now) const {
  uint64_t end = gone_;
  for (size_t i = first_; i < marks_.size() && marks_[i].due() <= now; ++i) end = marks_[i].end;
  return std::min(end, stop_);
}

absl::string_view Flow::Ready(Nanos now) const {
  size_t count = DueEnd(now) - gone_;
  if (rate_ > 0) count = std::min(count, Permitted(now));
  return {bytes_.data() + head_, count};
}

size_t Flow::CountWaiting(Nanos now) {
  if (rate_ == 0) return 0;
  const uint64_t end = DueEnd(now);
  const uint64_t begin = std::max<uint64_t>(waited_, gone_ + std::min(end - gone_, Permitted(now)));
  if (end <= begin) return 0;
  waited_ = end;
  return end - begin;
}

size_t Flow::Permitted(Nanos now) const {
  if (rate_ == 0) return SIZE_MAX;
  if (now < paid_until_) return 0;
  // What was not used is lost, but for one quantum: a late wake-up does not slow the flow down.
  const Nanos unused = std::min(now - paid_until_, kQuantum);
  const double bytes = rate_ * static_cast<double>(kQuantum + unused) / 1e9;
  return std::max<size_t>(1, static_cast<size_t>(bytes));
}

void Flow::Pay(size_t count, Nanos now) {
  if (rate_ == 0) return;
  paid_until_ = std::max(paid_until_, now - kQuantum) +
                static_cast<Nanos>(std::ceil(static_cast<double>(count) / rate_ * 1e9));
}

void Flow::Wrote(size_t count, Nanos now, HoldLogs* logs) {
  Pay(count, now);
  gone_ += count;
  head_ += count;
  while (first_ < marks_.size() && marks_[first_].end <= gone_) {
    const Mark& mark = marks_[first_++];
    if (!mark.hold.none()) {
      logs->Add(mark.hold, static_cast<uint64_t>(std::max<Nanos>(0, now - mark.arrived)) / 1000);
    }
  }
  if (!empty()) return;
  head_ = first_ = 0;
  if (bytes_.capacity() <= kSmallBytes && marks_.capacity() <= kSmallMarks) {
    bytes_.clear();
    marks_.clear();
  } else {
    Drop();
  }
}

void Flow::Drop() {
  gone_ += held();
  stop_ = kNowhere;
  head_ = first_ = 0;
  std::vector<char>().swap(bytes_);
  std::vector<Mark>().swap(marks_);
}

Nanos Flow::NextReady(Nanos now) const {
  if (first_ == marks_.size() || stopped()) return kNever;
  // What is due waits for the rate; and the rate's next turn may find nothing due.
  return std::max(marks_[first_].due(), rate_ > 0 ? paid_until_ : 0);
}

Hold Flow::FrontHold(Nanos now) const {
  if (first_ == marks_.size() || marks_[first_].due() <= now) return {};
  return marks_[first_].hold;
}

void Flow::ReplaceFront(size_t count, absl::string_view instead, size_t released) {
  const Mark front = marks_[first_];
  const auto begin = bytes_.begin() + static_cast<ptrdiff_t>(head_);
  bytes_.insert(bytes_.erase(begin, begin + static_cast<ptrdiff_t>(count)), instead.begin(),
                instead.end());
  if (stop_ != kNowhere) stop_ = std::max(stop_, gone_ + count) + instead.size() - count;
  const size_t first_before = first_;
  uint64_t at = gone_ + count;
  const uint64_t free_until = at + released;
  while (first_ < marks_.size() && marks_[first_].end <= at) ++first_;
  for (size_t i = first_; i < marks_.size(); ++i) {
    Mark& mark = marks_[i];
    if (at < free_until) mark.hold.request = mark.hold.rules = mark.hold.ticket = 0;
    at = mark.end;
    mark.end += instead.size() - count;
  }
  if (instead.empty()) return;
  const Mark made = {gone_ + instead.size(), front.arrived, {.network = front.hold.network}};
  if (first_ > first_before) {
    // The place of one that has gone.
    marks_[--first_] = made;
  } else {
    marks_.insert(marks_.begin() + static_cast<ptrdiff_t>(first_), made);
  }
}

void Flow::Relax(uint32_t network, bool requests) {
  for (size_t i = first_; i < marks_.size(); ++i) {
    Hold& hold = marks_[i].hold;
    hold.network = std::min(hold.network, network);
    if (!requests) hold.request = hold.rules = hold.ticket = 0;
  }
}

void Flow::Stop() {
  if (stop_ == kNowhere) stop_ = gone_ + held();
}

void Flow::SetRate(double rate) {
  // A debt is forgiven: it was that of another rate.
  if (rate != rate_) paid_until_ = 0;
  rate_ = rate;
}

}  // namespace firedrill::wire
