// One bidirectional stream of a server as a Link: reads go to the executor, writes go through a
// queue, and the stream is finished only when the queue is empty, so that nothing queued is lost.
#pragma once

#include <grpcpp/grpcpp.h>

#include <deque>
#include <memory>
#include <string>
#include <utility>

#include "base/executor.h"
#include "base/link.h"
#include "base/mutex.h"
#include "identity/rpc/open_calls.h"

namespace firedrill {

inline grpc::Status ToGrpc(const absl::Status& status) {
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(status.message()));
}

template <typename Request, typename Response>
class ServerStream final : public grpc::ServerBidiReactor<Request, Response> {
 public:
  // More waiting messages than this, and the stream is given up.
  static constexpr size_t kMostQueued = 20000;

  // The sending end. Outlives the reactor; sends nothing after that.
  class Out final : public Link<Response> {
   public:
    void Send(const Response& message) override {
      {
        MutexLock lock(mutex_);
        if (reactor_ == nullptr || closing_ || broken_) return;
        if (queue_.size() >= kMostQueued) {
          closing_ = true;
          why_ = absl::ResourceExhaustedError("the other end does not read");
          queue_.erase(queue_.begin() + (writing_ ? 1 : 0), queue_.end());
        } else {
          queue_.push_back(message);
        }
      }
      Pump();
    }
    void Close(absl::Status why) override {
      {
        MutexLock lock(mutex_);
        if (closing_) return;
        closing_ = true;
        why_ = std::move(why);
      }
      Pump();
    }

   private:
    friend class ServerStream;

    // Starts the next write, or the end. At most one of them is under way, so the reactor lives.
    void Pump() {
      ServerStream* reactor = nullptr;
      const Response* next = nullptr;
      absl::Status why;
      {
        MutexLock lock(mutex_);
        if (reactor_ == nullptr || writing_ || finishing_) return;
        if (!queue_.empty() && !broken_) {
          writing_ = true;
          next = &queue_.front();
        } else if (closing_ || reads_ended_) {
          finishing_ = true;
          why = why_;
        } else {
          return;
        }
        reactor = reactor_;
      }
      if (next != nullptr) {
        reactor->StartWrite(next);
      } else {
        reactor->Finish(ToGrpc(why));
      }
    }
    void Written(bool ok) {
      {
        MutexLock lock(mutex_);
        writing_ = false;
        queue_.pop_front();
        if (!ok) {
          broken_ = true;
          queue_.clear();
        }
      }
      Pump();
    }
    void ReadsEnded() {
      {
        MutexLock lock(mutex_);
        reads_ended_ = true;
      }
      Pump();
    }
    void Detach() {
      MutexLock lock(mutex_);
      reactor_ = nullptr;
      queue_.clear();
    }

    Mutex mutex_;
    ServerStream* reactor_ FD_GUARDED_BY(mutex_) = nullptr;
    std::deque<Response> queue_ FD_GUARDED_BY(mutex_);
    bool writing_ FD_GUARDED_BY(mutex_) = false;
    bool closing_ FD_GUARDED_BY(mutex_) = false;
    bool broken_ FD_GUARDED_BY(mutex_) = false;
    bool finishing_ FD_GUARDED_BY(mutex_) = false;
    bool reads_ended_ FD_GUARDED_BY(mutex_) = false;
    absl::Status why_ FD_GUARDED_BY(mutex_);
  };

  // `accept` is called on the executor with the sending end, and says what to do with messages.
  using Accept = std::function<LinkEvents<Request>(std::shared_ptr<Link<Response>>)>;

  // The stream is cut when its caller's certificate ends; `calls` may be null.
  ServerStream(Executor& executor, OpenCalls* calls, const grpc::ServerContextBase& call,
               Accept accept)
      : executor_(executor), out_(std::make_shared<Out>()), events_(std::make_shared<Events>()) {
    if (calls != nullptr) {
      token_ = calls->Add(call, [&executor, out = out_, events = events_](const absl::Status& why) {
        Closed(executor, events, why);
        out->Close(why);
      });
    }
    {
      MutexLock lock(out_->mutex_);
      out_->reactor_ = this;
    }
    executor_.Post(
        [accept = std::move(accept), out = out_, events = events_] { events->to = accept(out); });
    this->StartRead(&request_);
  }

  void OnReadDone(bool ok) override {
    if (!ok) {
      Closed(absl::CancelledError("the other end has closed the stream"));
      out_->ReadsEnded();
      return;
    }
    executor_.Post([events = events_, message = std::move(request_)] {
      if (events->closed) return;
      if (events->to.message) events->to.message(message);
    });
    request_ = Request();
    this->StartRead(&request_);
  }
  void OnWriteDone(bool ok) override { out_->Written(ok); }
  void OnCancel() override { Closed(absl::CancelledError("the connection was lost")); }
  void OnDone() override {
    Closed(absl::OkStatus());
    out_->Detach();
    delete this;
  }

 private:
  // Used on the executor only.
  struct Events {
    LinkEvents<Request> to;
    bool closed = false;
  };

  static void Closed(Executor& executor, const std::shared_ptr<Events>& events, absl::Status why) {
    executor.Post([events, why = std::move(why)] {
      if (std::exchange(events->closed, true)) return;
      if (events->to.closed) events->to.closed(why);
    });
  }
  void Closed(absl::Status why) { Closed(executor_, events_, std::move(why)); }

  Executor& executor_;
  const std::shared_ptr<Out> out_;
  const std::shared_ptr<Events> events_;
  OpenCalls::Token token_;
  Request request_;
};

}  // namespace firedrill
