// Servers that only take connections in, for HTTP and for plain TCP.
#include "tests/contract/contract_stage.h"
#include "tests/testing/counting_server.h"

namespace firedrill {
namespace {

class StreamStage final : public ContractStage {
 public:
  explicit StreamStage(bool http) : http_(http) {}

  int port() const override { return server_.port(); }
  void Furnish(StageNode& node) override {
    v1::Profile& profile = *node.mutable_spec.add_profiles();
    const auto at = [this](auto& where) {
      where.set_host("127.0.0.1");
      where.set_port(static_cast<uint32_t>(server_.port()));
    };
    profile.set_name(http_ ? "front" : "queue");
    if (http_) {
      at(*profile.mutable_http());
    } else {
      at(*profile.mutable_tcp());
    }
  }
  void Populate() override {}
  std::string Snapshot() override {
    const int open = server_.open();
    return open == 0 ? "nothing" : absl::StrCat("firedrill: ", open, " connections");
  }
  // The look whether somebody listens is over at once.
  int Held() override {
    Within(absl::Seconds(1), [this] { return server_.open() == 0; });
    return server_.open();
  }

 private:
  const bool http_;
  CountingServer server_;
};

const StageRegistration kHttp(v1::PROTOCOL_HTTP,
                              [] { return std::make_unique<StreamStage>(true); });
const StageRegistration kTcp(v1::PROTOCOL_TCP, [] { return std::make_unique<StreamStage>(false); });

}  // namespace
}  // namespace firedrill
