// Reports that are not known to be in the history yet.
#include "injector/outbox.h"

#include <algorithm>
#include <utility>

namespace firedrill {
namespace {

bool IsMeasurement(const v1::Report& report) {
  return report.event().has_sample() || report.event().has_load();
}

bool IsObservation(const v1::Report& report) {
  return report.event().has_fault() && !report.has_answers() &&
         report.event().fault().state() == v1::FAULT_STATE_ACTIVE;
}

}  // namespace

bool Outbox::DropOne() {
  auto found = std::find_if(waiting_.begin(), waiting_.end(), IsMeasurement);
  if (found == waiting_.end())
    found = std::find_if(waiting_.begin(), waiting_.end(), IsObservation);
  if (found == waiting_.end()) return false;
  waiting_.erase(found);
  ++dropped_;
  return true;
}

void Outbox::Add(v1::Report report) {
  waiting_.push_back(std::move(report));
  // What is left when nothing can be dropped is bounded by the commands that were obeyed.
  while (waiting_.size() > kMostWaiting && DropOne()) {
  }
}

void Outbox::Flush(const std::function<void(const v1::Report&)>& send) {
  // A number is given only to what is sent: a gap in the numbers would never be acknowledged.
  while (numbered_.size() < kWindow && !waiting_.empty()) {
    waiting_.front().set_number(next_++);
    numbered_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
  }
  for (; sent_ < numbered_.size(); ++sent_) send(numbered_[sent_]);
}

void Outbox::Acknowledge(uint64_t number) {
  while (!numbered_.empty() && numbered_.front().number() <= number) {
    numbered_.pop_front();
    if (sent_ > 0) --sent_;
  }
}

}  // namespace firedrill
