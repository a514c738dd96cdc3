// A Redis server with clients.
#include <algorithm>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "injector/os/redis.h"
#include "tests/contract/contract_stage.h"
#include "tests/contract/stream_client.h"
#include "tests/testing/redis_server.h"

namespace firedrill {
namespace {

class RedisStage final : public ContractStage {
 public:
  explicit RedisStage(std::unique_ptr<RedisServer> server) : server_(std::move(server)) {
    server_->Run({"SET", "users", "answer"});
    server_->Run({"SET", "much", std::string(StreamClient::kMuch, 'x')});
  }

  void AddTrafficProfile(StageNode& node, const std::string& name) override {
    v1::Profile& profile = *node.mutable_spec.add_profiles();
    profile.set_name(name);
    profile.mutable_redis()->set_host("127.0.0.1");
    profile.mutable_redis()->set_port(server_->port());
  }
  TrafficWords words() const override { return {"get", "users", "LOADING"}; }
  std::unique_ptr<TrafficClient> NewClient() override {
    return StreamClient::Connect(
        server_->port(), {"GET users\r\n", StreamClient::Exactly("$6\r\nanswer\r\n")},
        {"GET much\r\n",
         StreamClient::Exactly(absl::StrCat("$", StreamClient::kMuch, "\r\n",
                                            std::string(StreamClient::kMuch, 'x'), "\r\n"))});
  }

  void Furnish(StageNode& node) override { AddTrafficProfile(node, "cache"); }

  void Populate(int sessions) override {
    shop_.clear();
    const Patience patience(absl::Seconds(5));
    v1::RedisServer where;
    where.set_host("127.0.0.1");
    where.set_port(server_->port());
    const auto account = FindRedisAccount(where, patience);
    for (int i = 0; i < sessions && account.ok(); ++i) {
      auto session = RedisSession::Open(*account, "web", patience);
      if (session.ok()) shop_.push_back(*std::move(session));
    }
  }

  // Every client by its name, every setting and every key.
  std::string Snapshot() override {
    std::vector<std::string> lines;
    for (const std::string& name : Names()) lines.push_back("client " + name);
    std::sort(lines.begin(), lines.end());
    // Its folder may be called like a fault.
    lines.push_back(
        absl::StrReplaceAll(server_->Run({"CONFIG", "GET", "*"}), {{"firedrill", "folder"}}));
    lines.push_back(server_->Run({"KEYS", "*"}));
    return absl::StrJoin(lines, "\n");
  }

  int Held() override {
    int held = 0;
    for (const std::string& name : Names()) held += absl::StartsWith(name, "firedrill:") ? 1 : 0;
    return held;
  }

 private:
  // But for the look itself, which has none.
  std::vector<std::string> Names() const {
    std::vector<std::string> names;
    for (absl::string_view line : absl::StrSplit(server_->Run({"CLIENT", "LIST"}), '\n')) {
      for (absl::string_view word : absl::StrSplit(line, ' ')) {
        if (absl::StartsWith(word, "name=") && word.size() > 5) {
          names.emplace_back(word.substr(5));
        }
      }
    }
    return names;
  }

  const std::unique_ptr<RedisServer> server_;
  std::vector<std::unique_ptr<RedisSession>> shop_;
};

const StageRegistration kStage(v1::PROTOCOL_REDIS, []() -> std::unique_ptr<ContractStage> {
  // Leaving a few free is quickly done.
  auto server = RedisServer::Start({.settings = {"--maxclients", "40"}});
  if (server == nullptr) return nullptr;
  return std::make_unique<RedisStage>(std::move(server));
});

}  // namespace
}  // namespace firedrill
