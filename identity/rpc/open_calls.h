// Calls that go on for long: each is ended when its caller's certificate is, by revocation or by
// time. Whether a call may begin is the gate's matter.
#pragma once

#include <grpcpp/server_context.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "identity/rpc/gate.h"

namespace firedrill {

// Any thread. Tokens may outlive it.
class OpenCalls {
 public:
  // Ends the call; `why` is for both ends of it. Called at most once, perhaps when the call has
  // ended already.
  using Cut = std::function<void(const absl::Status& why)>;
  // The call goes on until it is dropped.
  using Token = std::shared_ptr<void>;

  explicit OpenCalls(std::shared_ptr<const Gate> gate) : gate_(std::move(gate)) {}

  // Null where the caller has no certificate: who comes by a Unix socket has none that could end.
  Token Add(const grpc::ServerContextBase& call, Cut cut);
  // To be called often.
  void CutEnded(absl::Time now);

 private:
  struct Call {
    Certificate caller;
    Cut cut;
  };
  struct Calls {
    Mutex mutex;
    uint64_t next FD_GUARDED_BY(mutex) = 0;
    std::map<uint64_t, Call> all FD_GUARDED_BY(mutex);
  };

  const std::shared_ptr<const Gate> gate_;
  const std::shared_ptr<Calls> calls_ = std::make_shared<Calls>();
};

}  // namespace firedrill
