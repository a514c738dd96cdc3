// Servers that tell nobody how many connections they have: what is held is counted by the kernel.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "injector/faults/held_crowd.h"
#include "injector/os/stream.h"

namespace firedrill {

class StreamServer : public CrowdServer {
 public:
  // `family`: "http".
  StreamServer(std::string family, std::string host, uint32_t port, std::string stamp)
      : family_(std::move(family)), host_(std::move(host)), port_(port), stamp_(std::move(stamp)) {}

  absl::Status Open(const v1::Profile& profile, const std::string& run,
                    const Patience& patience) override;
  void Close() override { ForgetStamped(stamp_); }
  int usable() const override { return CrowdGoal::kUnlimited; }
  absl::StatusOr<int> Taken(const Patience&) override { return 0; }
  absl::StatusOr<CrowdCounts> Count(const Patience& patience) override;
  std::string identity() const override;
  // It cannot be found, and the kernel has nothing of ours either.
  bool Down(const absl::Status& status) const override;
  std::string ByHand() const override;

 protected:
  const StreamAddress& address() const { return address_; }
  const std::string& stamp() const { return stamp_; }

 private:
  const std::string family_;
  const std::string host_;
  const uint32_t port_;
  const std::string stamp_;
  StreamAddress address_;
};

// Refuses sizes that only a server that tells its limit can have.
absl::Status RefuseShares(const v1::HoldConnections& message, absl::string_view protocol);

}  // namespace firedrill
