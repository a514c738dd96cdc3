// Looks at the certificates of calls that go on.
#include "identity/rpc/open_calls.h"

#include <utility>
#include <vector>

namespace firedrill {

OpenCalls::Token OpenCalls::Add(const grpc::ServerContextBase& call, Cut cut) {
  absl::StatusOr<Certificate> caller = CallerOf(*call.auth_context());
  if (!caller.ok()) return nullptr;
  MutexLock lock(calls_->mutex);
  const uint64_t number = ++calls_->next;
  calls_->all[number] = {*std::move(caller), std::move(cut)};
  return Token(nullptr, [calls = calls_, number](void*) {
    MutexLock lock(calls->mutex);
    calls->all.erase(number);
  });
}

void OpenCalls::CutEnded(absl::Time now) {
  std::vector<std::pair<Cut, absl::Status>> ended;
  {
    MutexLock lock(calls_->mutex);
    for (auto it = calls_->all.begin(); it != calls_->all.end();) {
      const absl::Status good = gate_->StillGood(it->second.caller, now);
      const auto next = std::next(it);
      if (!good.ok()) {
        ended.emplace_back(std::move(it->second.cut), good);
        calls_->all.erase(it);
      }
      it = next;
    }
  }
  // Not under the lock: what ends may drop its token.
  for (const auto& [cut, why] : ended) cut(why);
}

}  // namespace firedrill
