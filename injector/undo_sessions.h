// Sessions by which changes of servers are undone: opened before the change, and kept until then.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>

#include "base/mutex.h"

namespace firedrill {

// One session for each undo that is to be ready, by its `access`. Any thread.
template <typename Session>
class UndoSessions {
 public:
  // A null pointer where there is none. Whoever takes it keeps it again, or lets go of it.
  std::unique_ptr<Session> Take(const std::string& access) FD_EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    const auto found = kept_.find(access);
    if (found == kept_.end()) return nullptr;
    auto session = std::move(found->second);
    kept_.erase(found);
    return session;
  }
  void Keep(const std::string& access, std::unique_ptr<Session> session) FD_EXCLUDES(mutex_) {
    if (session == nullptr || !session->usable()) return;
    MutexLock lock(mutex_);
    kept_[access] = std::move(session);
  }

 private:
  Mutex mutex_;
  std::map<std::string, std::unique_ptr<Session>> kept_ FD_GUARDED_BY(mutex_);
};

}  // namespace firedrill
