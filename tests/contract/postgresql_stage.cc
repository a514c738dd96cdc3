// A PostgreSQL server with a table, its clients, and roles for faults.
#include <libpq-fe.h>

#include <vector>

#include "absl/strings/str_join.h"
#include "tests/contract/contract_stage.h"
#include "tests/testing/postgres_server.h"

namespace firedrill {
namespace {

class Client final : public TrafficClient {
 public:
  explicit Client(const std::string& target) : session_(PQconnectdb(target.c_str()), PQfinish) {}
  bool connected() const { return PQstatus(session_.get()) == CONNECTION_OK; }
  bool Ask() override { return Get("SELECT count(*) FROM users") == "5000"; }
  bool AskMuch() override { return Get("SELECT repeat('x', 100000)").size() == 100'000; }

 private:
  std::string Get(const char* sql) {
    PGresult* result = PQexec(session_.get(), sql);
    const std::string value = PQntuples(result) == 1 ? PQgetvalue(result, 0, 0) : "";
    PQclear(result);
    return value;
  }
  std::unique_ptr<PGconn, decltype(&PQfinish)> session_;
};

class PostgresqlStage final : public ContractStage {
 public:
  explicit PostgresqlStage(std::unique_ptr<PostgresServer> server) : server_(std::move(server)) {
    server_->Run(
        "CREATE ROLE leaker LOGIN; CREATE ROLE shop LOGIN;"
        "CREATE ROLE dba LOGIN IN ROLE pg_signal_backend, pg_read_all_stats;"
        "CREATE ROLE admin LOGIN SUPERUSER;"
        "CREATE TABLE users (id int PRIMARY KEY, email text NOT NULL);"
        "INSERT INTO users SELECT n, 'u' || n || '@example.com' FROM generate_series(1, 5000) n;"
        "CREATE INDEX users_email_idx ON users (email);"
        "GRANT ALL ON users TO leaker, shop; ANALYZE users");
  }

  void AddTrafficProfile(StageNode& node, const std::string& name) override {
    node.AddProfile(name, "127.0.0.1", server_->port(), "postgres", "");
  }
  TrafficWords words() const override { return {"select", "users", "57014"}; }
  std::unique_ptr<TrafficClient> NewClient() override {
    auto client = std::make_unique<Client>(absl::StrCat(
        "host=127.0.0.1 port=", server_->port(), " user=postgres password=postgres dbname=postgres",
        " application_name=traffic connect_timeout=30 sslmode=disable gssencmode=disable"));
    if (!client->connected()) return nullptr;
    return client;
  }

  void Furnish(StageNode& node) override {
    for (const char* name : {"leaker", "dba", "admin"}) {
      node.AddProfile(name, server_->folder(), server_->port(), name, "");
    }
    v1::Statement& statement = *node.mutable_spec.mutable_profiles(0)->add_statements();
    statement.set_name("count-users");
    statement.set_sql("SELECT count(*) FROM users");
  }

  void Populate(int sessions) override {
    shop_.clear();
    for (int i = 0; i < sessions; ++i) {
      const std::string target = absl::StrCat("host=", server_->folder(), " port=", server_->port(),
                                              " user=shop dbname=postgres application_name=web");
      shop_.emplace_back(PQconnectdb(target.c_str()), PQfinish);
    }
  }

  // Every session, setting and index.
  std::string Snapshot() override {
    std::vector<std::string> lines;
    for (const auto& row : server_->Run(
             "SELECT usename, application_name, state FROM pg_stat_activity WHERE backend_type = "
             "'client backend' AND pid <> pg_backend_pid() AND application_name NOT IN ('test', "
             "'traffic') UNION "
             "ALL "
             "SELECT name, setting, source FROM pg_settings WHERE source NOT IN ('session', "
             "'client', 'default', 'override') AND name <> 'unix_socket_directories' UNION ALL "
             "SELECT rolname, rolconfig::text, '' FROM "
             "pg_roles UNION ALL SELECT indexrelid::regclass::text, indisvalid::text, (SELECT "
             "string_agg(attstattarget::text, ',') FROM pg_attribute WHERE attrelid = indrelid) "
             "FROM pg_index WHERE indexrelid >= 16384 ORDER BY 1, 2, 3")) {
      lines.push_back(absl::StrJoin(row, " "));
    }
    return absl::StrJoin(lines, "\n");
  }

  int Held() override {
    return server_->Number(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE "
        "'firedrill%' AND application_name NOT LIKE 'firedrill-control:%'");
  }

 private:
  const std::unique_ptr<PostgresServer> server_;
  std::vector<std::unique_ptr<PGconn, decltype(&PQfinish)>> shop_;
};

const StageRegistration kStage(v1::PROTOCOL_POSTGRESQL, []() -> std::unique_ptr<ContractStage> {
  auto server = PostgresServer::Start();
  if (server == nullptr) return nullptr;
  return std::make_unique<PostgresqlStage>(std::move(server));
});

}  // namespace
}  // namespace firedrill
