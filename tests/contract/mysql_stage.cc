// A MariaDB server with a table, its clients, and accounts for faults.
#include <vector>

#include "absl/strings/str_join.h"
#include "tests/contract/contract_stage.h"
#include "tests/testing/mariadb_stage.h"

namespace firedrill {
namespace {

class Client final : public TrafficClient {
 public:
  explicit Client(const MariadbServer& server) : session_(server, "traffic") {}
  bool connected() const { return session_.connected(); }
  bool Ask() override { return session_.Ask("SELECT count(*) FROM users") == "5000"; }
  bool AskMuch() override { return session_.Ask("SELECT repeat('x', 100000)").size() == 100'000; }

 private:
  const MariadbClient session_;
};

class MysqlStage final : public ContractStage {
 public:
  explicit MysqlStage(std::unique_ptr<MariadbServer> server) : server_(std::move(server)) {
    for (const char* user : {"leaker", "dba", "admin", "shop", "traffic"}) {
      server_->Run(absl::StrCat("CREATE USER ", user, "@'127.0.0.1'"));
      server_->Run(absl::StrCat("GRANT ALL ON test.* TO ", user, "@'127.0.0.1'"));
    }
    server_->Run("GRANT PROCESS, CONNECTION ADMIN ON *.* TO dba@'127.0.0.1'");
    server_->Run("GRANT ALL ON *.* TO admin@'127.0.0.1'");
    server_->Run("CREATE TABLE test.users (id int PRIMARY KEY, email varchar(80) NOT NULL)");
    server_->Run(
        "INSERT INTO test.users SELECT seq, CONCAT('u', seq, '@example.com') FROM "
        "test.seq_1_to_5000");
    server_->Run("CREATE INDEX users_email_idx ON test.users (email)");
    server_->Run("ANALYZE TABLE test.users");
  }

  void AddTrafficProfile(StageNode& node, const std::string& name) override {
    AddMysqlProfile(node, name, *server_, "traffic");
  }
  TrafficWords words() const override { return {"select", "users", "1205"}; }
  std::unique_ptr<TrafficClient> NewClient() override {
    auto client = std::make_unique<Client>(*server_);
    if (!client->connected()) return nullptr;
    return client;
  }

  void Furnish(StageNode& node) override {
    for (const char* name : {"leaker", "dba", "admin"}) {
      AddStatement(AddMysqlProfile(node, name, *server_, name), "count-users",
                   "SELECT count(*) FROM users");
    }
  }

  void Populate(int sessions) override {
    shop_.clear();
    for (int i = 0; i < sessions; ++i) shop_.push_back(std::make_unique<MariadbClient>(*server_));
  }

  // Every session, setting and index. What is of an account of faults is a fault's.
  std::string Snapshot() override {
    std::vector<std::string> lines;
    for (const auto& row : server_->Run(
             "SELECT IF(USER IN ('leaker', 'dba', 'admin'), 'firedrill', USER), COMMAND, '' FROM "
             "information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID() AND USER NOT IN ('system "
             "user', 'root', 'traffic', 'unauthenticated user') "
             "UNION ALL SELECT VARIABLE_NAME, REPLACE(VARIABLE_VALUE, 'firedrill', 'folder'), '' "
             "FROM "
             "information_schema.GLOBAL_VARIABLES WHERE VARIABLE_NAME NOT LIKE 'gtid%' AND "
             "VARIABLE_NAME <> 'TIMESTAMP' UNION ALL SELECT INDEX_NAME, COLUMN_NAME, IGNORED FROM "
             "information_schema.STATISTICS WHERE TABLE_SCHEMA = 'test' ORDER BY 1, 2, 3")) {
      lines.push_back(absl::StrJoin(row, " "));
    }
    return absl::StrJoin(lines, "\n");
  }

  // Of the lock that each session of a fault has.
  int Held() override {
    return server_->Number(
        "SELECT count(*) FROM information_schema.PROCESSLIST WHERE USER IN ('leaker', 'dba', "
        "'admin') AND IS_USED_LOCK(CONCAT('firedrill:r1a2b3:it:', ID)) = ID");
  }

 private:
  const std::unique_ptr<MariadbServer> server_;
  std::vector<std::unique_ptr<MariadbClient>> shop_;
};

const StageRegistration kStage(v1::PROTOCOL_MYSQL, []() -> std::unique_ptr<ContractStage> {
  auto server = MariadbServer::Start();
  if (server == nullptr) return nullptr;
  return std::make_unique<MysqlStage>(std::move(server));
});

}  // namespace
}  // namespace firedrill
