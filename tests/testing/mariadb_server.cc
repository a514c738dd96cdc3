// Starts and stops a MariaDB server for a test.
#include "tests/testing/mariadb_server.h"

#include <mysql.h>
#include <pwd.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <stdexcept>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace firedrill {
namespace {

constexpr char kProgram[] = "/usr/sbin/mariadbd";
constexpr char kInstaller[] = "/usr/bin/mariadb-install-db";
// The server refuses root.
constexpr char kUser[] = "mysql";

using Connection = std::unique_ptr<MYSQL, decltype(&mysql_close)>;

// Closed already when it could not be connected.
Connection Connect(const std::string& socket) {
  Connection connection(mysql_init(nullptr), mysql_close);
  const unsigned patience = 20;
  mysql_options(connection.get(), MYSQL_OPT_CONNECT_TIMEOUT, &patience);
  if (mysql_real_connect(connection.get(), nullptr, "root", "", nullptr, 0, socket.c_str(), 0) ==
      nullptr) {
    throw std::runtime_error(mysql_error(connection.get()));
  }
  return connection;
}

}  // namespace

std::unique_ptr<MariadbServer> MariadbServer::Start(const MariadbOptions& options) {
  for (const char* program : {kProgram, kInstaller}) {
    if (access(program, X_OK) != 0) {
      std::fprintf(stderr, "no %s; install mariadb-server\n", program);
      return nullptr;
    }
  }
  std::unique_ptr<MariadbServer> server(new MariadbServer);
  const std::string folder = server->folder();
  if (geteuid() == 0) {
    const passwd* user = getpwnam(kUser);
    if (user == nullptr || chown(folder.c_str(), user->pw_uid, user->pw_gid) != 0) return nullptr;
  }
  Child::Options install;
  install.arguments = {kInstaller, "--no-defaults", absl::StrCat("--datadir=", folder, "/data"),
                       // In /tmp two servers give their temporary tables the same names.
                       absl::StrCat("--tmpdir=", folder),
                       "--auth-root-authentication-method=normal", "--skip-test-db",
                       "--skip-name-resolve", "--innodb-log-file-size=4M",
                       "--innodb-flush-method=nosync"};
  install.log = folder + "/log";
  install.user = kUser;
  auto installer = Child::Start(install);
  const auto code = installer.ok() ? (*installer)->Wait(absl::Seconds(120)) : installer.status();
  if (!code.ok() || *code != 0) {
    std::fprintf(stderr, "%s", ReadFile(install.log).c_str());
    return nullptr;
  }
  server->settings_ = options.settings;
  // Another process may take the port in between: then with another one.
  for (int attempt = 0; attempt < 5; ++attempt) {
    server->port_ = static_cast<uint16_t>(FreePort());
    if (!server->StartAgain()) continue;
    try {
      server->Run("CREATE DATABASE test");
      server->Run(
          "GRANT ALL ON *.* TO tester@'127.0.0.1' IDENTIFIED BY 'tester' WITH GRANT OPTION");
    } catch (const std::runtime_error& error) {
      std::fprintf(stderr, "%s\n", error.what());
      return nullptr;
    }
    return server;
  }
  std::fprintf(stderr, "%s", ReadFile(install.log).c_str());
  return nullptr;
}

bool MariadbServer::StartAgain() {
  const std::string& folder = folder_.path();
  Child::Options options;
  options.arguments = {kProgram,
                       "--no-defaults",
                       absl::StrCat("--datadir=", folder, "/data"),
                       absl::StrCat("--tmpdir=", folder),
                       absl::StrCat("--socket=", socket()),
                       absl::StrCat("--pid-file=", folder, "/pid"),
                       absl::StrCat("--port=", port_),
                       "--bind-address=127.0.0.1",
                       "--skip-name-resolve",
                       "--skip-log-bin",
                       "--local-infile=1",
                       "--innodb-buffer-pool-size=16M",
                       "--innodb-log-file-size=4M",
                       "--innodb-flush-log-at-trx-commit=0",
                       "--innodb-flush-method=nosync",
                       "--innodb-fast-shutdown=2"};
  for (const std::string& setting : settings_) options.arguments.push_back("--" + setting);
  options.log = folder + "/log";
  options.user = kUser;
  auto child = Child::Start(options);
  if (!child.ok()) return false;
  child_ = *std::move(child);
  for (int i = 0; i < 3000 && child_->Running(); ++i) {
    try {
      Connect(socket());
      return true;
    } catch (const std::runtime_error&) {
    }
    absl::SleepFor(absl::Milliseconds(10));
  }
  return false;
}

void MariadbServer::Stop() {
  if (child_ != nullptr) child_->Stop(SIGKILL);
}

MariadbServer::~MariadbServer() { Stop(); }

std::vector<std::vector<std::string>> MariadbServer::Run(const std::string& sql) const {
  const Connection connection = Connect(socket());
  if (mysql_real_query(connection.get(), sql.data(), sql.size()) != 0) {
    throw std::runtime_error(sql + ": " + mysql_error(connection.get()));
  }
  std::vector<std::vector<std::string>> rows;
  const std::unique_ptr<MYSQL_RES, decltype(&mysql_free_result)> result(
      mysql_store_result(connection.get()), mysql_free_result);
  if (result == nullptr) return rows;
  const unsigned columns = mysql_num_fields(result.get());
  while (const MYSQL_ROW row = mysql_fetch_row(result.get())) {
    const unsigned long* lengths = mysql_fetch_lengths(result.get());
    rows.emplace_back();
    for (unsigned column = 0; column < columns; ++column) {
      rows.back().emplace_back(row[column] == nullptr ? "" : row[column],
                               row[column] == nullptr ? 0 : lengths[column]);
    }
  }
  return rows;
}

int MariadbServer::Number(const std::string& sql) const { return std::stoi(Run(sql).at(0).at(0)); }

}  // namespace firedrill
