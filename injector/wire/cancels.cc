// Asks every lane, and tells the one who wanted to know.
#include "injector/wire/cancels.h"

#include <algorithm>

#include "injector/wire/lane.h"

namespace firedrill::wire {

void Cancels::Join(Lane* lane) {
  MutexLock lock(mutex_);
  lanes_.push_back(lane);
}

void Cancels::Leave(Lane* lane) {
  MutexLock lock(mutex_);
  std::erase(lanes_, lane);
}

void Cancels::Ask(uint64_t key, Lane* asker, uint64_t relay) {
  const auto question = std::make_shared<Question>();
  question->key = key;
  question->asker = asker;
  question->relay = relay;
  MutexLock lock(mutex_);
  question->left = lanes_.size();
  for (Lane* lane : lanes_) {
    lane->loop().Post([this, lane, question] {
      if (lane->Cancel(question->key)) question->cancelled = true;
      if (--question->left == 0 && question->asker != nullptr) Answer(*question);
    });
  }
}

void Cancels::Answer(const Question& question) {
  MutexLock lock(mutex_);
  Lane* const asker = question.asker;
  if (std::find(lanes_.begin(), lanes_.end(), asker) == lanes_.end()) return;
  asker->loop().Post([asker, relay = question.relay, cancelled = question.cancelled.load()] {
    asker->Tell(relay, cancelled);
  });
}

std::optional<Hold> CancelFront(Codec& codec, Flow& flow, Nanos now) {
  const Hold hold = flow.FrontHold(now);
  if (hold.ticket == 0) return std::nullopt;
  const std::optional<Cancelled> cancelled = codec.Cancel(hold.ticket, flow.Held());
  if (!cancelled.has_value()) return std::nullopt;
  flow.ReplaceFront(cancelled->length, cancelled->to_server, cancelled->released);
  return hold;
}

}  // namespace firedrill::wire
