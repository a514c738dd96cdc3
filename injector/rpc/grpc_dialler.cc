// One bidirectional stream of a client as a Link: reads go to the executor, writes go through a
// queue, no lock is held from one reaction to the next, and the reactor goes in OnDone only.
#include "injector/rpc/grpc_dialler.h"

#include <grpcpp/grpcpp.h>

#include <deque>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/mutex.h"
#include "firedrill/v1/injector.grpc.pb.h"
#include "identity/protocol.h"
#include "identity/rpc/credentials.h"

namespace firedrill {
namespace {

// More waiting messages than this, and the stream is given up: the other end does not read.
constexpr size_t kMostQueued = 20000;
constexpr size_t kLongestSocketPath = 107;
constexpr int kFirstPauseMs = 50;
constexpr int kLongestPauseMs = 1000;

// How many streams there are still: the executor must outlive them all.
struct Live {
  Mutex mutex;
  CondVar changed;
  int streams FD_GUARDED_BY(mutex) = 0;

  void Add(int change) FD_EXCLUDES(mutex) {
    MutexLock lock(mutex);
    streams += change;
    changed.NotifyAll();
  }
};

class Stream final : public grpc::ClientBidiReactor<v1::ConnectRequest, v1::ConnectResponse> {
 public:
  // The sending end. Outlives the reactor, and does nothing after that.
  class Out final : public Link<v1::ConnectRequest> {
   public:
    void Send(const v1::ConnectRequest& message) override {
      {
        MutexLock lock(mutex_);
        if (stream_ == nullptr || closing_ || broken_) return;
        if (queue_.size() < kMostQueued) {
          queue_.push_back(message);
        } else {
          closing_ = cancelling_ = true;
        }
      }
      Pump();
    }

    // OK sends first what is queued; anything else ends the stream at once.
    void Close(absl::Status why) override {
      {
        MutexLock lock(mutex_);
        closing_ = true;
        if (!why.ok()) cancelling_ = true;
      }
      Pump();
    }

   private:
    friend class Stream;
    enum class Next { kNothing, kWrite, kWritesDone, kLetGo };

    // Starts the next operation. The hold keeps the reactor alive until kLetGo, which is the last
    // one, and is begun only while no write is under way.
    void Pump() {
      Stream* stream = nullptr;
      const v1::ConnectRequest* message = nullptr;
      Next next = Next::kNothing;
      std::shared_ptr<grpc::ClientContext> cancelled;
      {
        MutexLock lock(mutex_);
        if (std::exchange(cancelling_, false)) {
          broken_ = true;
          cancelled = context_;
        }
        stream = stream_;
        // What is under way pumps again when it is done.
        if (stream != nullptr && held_ && !busy_) next = ChooseNext();
        if (next == Next::kWrite) message = &queue_.front();
      }
      // Not under the lock: it may run reactions in this very call.
      if (cancelled != nullptr) cancelled->TryCancel();
      switch (next) {
        case Next::kWrite:
          return stream->StartWrite(message);
        case Next::kWritesDone:
          return stream->StartWritesDone();
        case Next::kLetGo:
          return stream->RemoveHold();
        case Next::kNothing:
          return;
      }
    }

    Next ChooseNext() FD_REQUIRES(mutex_) {
      if (!queue_.empty() && !broken_) {
        busy_ = true;
        return Next::kWrite;
      }
      if (closing_ && !broken_ && !writes_done_) {
        busy_ = writes_done_ = true;
        return Next::kWritesDone;
      }
      if (!closing_ && !broken_) return Next::kNothing;
      held_ = false;
      return Next::kLetGo;
    }

    void Written(bool ok) {
      {
        MutexLock lock(mutex_);
        busy_ = false;
        queue_.pop_front();
        if (!ok) broken_ = true;
      }
      Pump();
    }
    void WritesDone() {
      {
        MutexLock lock(mutex_);
        busy_ = false;
      }
      Pump();
    }
    void ReadsEnded() {
      {
        MutexLock lock(mutex_);
        broken_ = true;
      }
      Pump();
    }
    void Detach() {
      MutexLock lock(mutex_);
      stream_ = nullptr;
      queue_.clear();
    }

    // Lives as long as anybody may still cancel the call.
    const std::shared_ptr<grpc::ClientContext> context_ = std::make_shared<grpc::ClientContext>();
    Mutex mutex_;
    Stream* stream_ FD_GUARDED_BY(mutex_) = nullptr;
    std::deque<v1::ConnectRequest> queue_ FD_GUARDED_BY(mutex_);
    // A write is under way.
    bool busy_ FD_GUARDED_BY(mutex_) = false;
    bool held_ FD_GUARDED_BY(mutex_) = true;
    bool closing_ FD_GUARDED_BY(mutex_) = false;
    bool cancelling_ FD_GUARDED_BY(mutex_) = false;
    bool writes_done_ FD_GUARDED_BY(mutex_) = false;
    // Nothing can be written any more.
    bool broken_ FD_GUARDED_BY(mutex_) = false;
  };

  static std::shared_ptr<Out> Start(Executor& executor, v1::InjectorService::Stub& stub, Live& live,
                                    LinkEvents<v1::ConnectResponse> events) {
    live.Add(1);
    auto* const stream = new Stream(executor, live, std::move(events));
    // Before the call starts: afterwards the stream may be gone at any moment.
    const std::shared_ptr<Out> out = stream->out_;
    stub.async()->Connect(out->context_.get(), stream);
    stream->AddHold();
    stream->StartRead(&stream->response_);
    stream->StartCall();
    return out;
  }

  void OnReadDone(bool ok) override {
    if (!ok) return out_->ReadsEnded();
    executor_.Post([events = events_, message = std::move(response_)] {
      if (events->message) events->message(message);
    });
    response_ = v1::ConnectResponse();
    StartRead(&response_);
  }
  void OnWriteDone(bool ok) override { out_->Written(ok); }
  void OnWritesDoneDone(bool) override { out_->WritesDone(); }
  void OnDone(const grpc::Status& status) override {
    const absl::Status why(static_cast<absl::StatusCode>(status.error_code()),
                           status.error_message());
    executor_.Post([events = events_, why] {
      if (events->closed) events->closed(why);
    });
    out_->Detach();
    Live& live = live_;
    delete this;
    live.Add(-1);
  }

 private:
  Stream(Executor& executor, Live& live, LinkEvents<v1::ConnectResponse> events)
      : executor_(executor),
        live_(live),
        out_(std::make_shared<Out>()),
        events_(std::make_shared<const LinkEvents<v1::ConnectResponse>>(std::move(events))) {
    MutexLock lock(out_->mutex_);
    out_->stream_ = this;
  }

  Executor& executor_;
  Live& live_;
  const std::shared_ptr<Out> out_;
  const std::shared_ptr<const LinkEvents<v1::ConnectResponse>> events_;
  v1::ConnectResponse response_;
};

// The stream holds the sending end for itself; the user's handle is another one, whose end is a
// close.
class Handle final : public Link<v1::ConnectRequest> {
 public:
  explicit Handle(std::shared_ptr<Link<v1::ConnectRequest>> out) : out_(std::move(out)) {}
  ~Handle() override { out_->Close(absl::CancelledError("nobody uses the link any more")); }
  void Send(const v1::ConnectRequest& message) override { out_->Send(message); }
  void Close(absl::Status why) override { out_->Close(std::move(why)); }

 private:
  const std::shared_ptr<Link<v1::ConnectRequest>> out_;
};

class GrpcDialler final : public Dialler {
 public:
  GrpcDialler(Executor& executor, const std::string& address,
              const std::shared_ptr<grpc::ChannelCredentials>& credentials)
      : executor_(executor) {
    grpc::ChannelArguments arguments;
    arguments.SetUserAgentPrefix(ProtocolAgent());
    // The session paces the dialling; gRPC's own minutes of back-off would only hide a controller
    // that is back.
    arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, kFirstPauseMs);
    arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, kFirstPauseMs);
    arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kLongestPauseMs);
    channel_ = grpc::CreateCustomChannel(address, credentials, arguments);
    stub_ = v1::InjectorService::NewStub(channel_);
  }
  ~GrpcDialler() override {
    MutexLock lock(live_.mutex);
    while (live_.streams > 0) live_.changed.Wait(live_.mutex);
  }

  std::shared_ptr<Link<v1::ConnectRequest>> Dial(LinkEvents<v1::ConnectResponse> events) override {
    return std::make_shared<Handle>(Stream::Start(executor_, *stub_, live_, std::move(events)));
  }

 private:
  Executor& executor_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::InjectorService::Stub> stub_;
  Live live_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Dialler>> MakeGrpcDialler(
    Executor& executor, const std::string& address, const std::optional<IdentityFiles>& identity) {
  if (!absl::StartsWith(address, "unix:/")) {
    if (identity.has_value()) {
      return std::make_unique<GrpcDialler>(executor, address, ChannelTls(*identity));
    }
    return absl::InvalidArgumentError(
        absl::StrCat("--controller ", address,
                     ": only a Unix socket (unix:/path) is dialled without TLS; name an identity"));
  }
  const absl::string_view path = absl::StripPrefix(address, "unix:");
  if (path.size() > kLongestSocketPath) {
    return absl::InvalidArgumentError(
        absl::StrCat("--controller ", address, ": the path of a socket has at most ",
                     kLongestSocketPath, " bytes; use a shorter folder"));
  }
  return std::make_unique<GrpcDialler>(executor, address, grpc::InsecureChannelCredentials());
}

}  // namespace firedrill
