// Starts and stops a PostgreSQL server for a test.
#include "tests/testing/postgres_server.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <libpq-fe.h>
#include <pwd.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>

#include "tests/testing/test_folder.h"

namespace firedrill {
namespace {

namespace fs = std::filesystem;

std::string FindPrograms() {
  std::string newest;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator("/usr/lib/postgresql", error)) {
    const std::string bin = entry.path() / "bin";
    if (fs::exists(bin + "/initdb") && bin > newest) newest = bin;
  }
  return newest;
}

// initdb and postgres refuse root.
const passwd* Unprivileged() { return getuid() == 0 ? getpwnam("postgres") : nullptr; }

pid_t Spawn(std::vector<std::string> arguments, const std::string& log) {
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  const passwd* user = Unprivileged();
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid != 0) return pid;
  setsid();
  if (user != nullptr) {
    if (setgid(user->pw_gid) != 0 || setuid(user->pw_uid) != 0) _exit(126);
  }
  // SIGQUIT: an immediate shutdown, should the test die.
  prctl(PR_SET_PDEATHSIG, SIGQUIT);
  if (getppid() != parent) _exit(126);
  const int fd = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
  dup2(open("/dev/null", O_RDONLY), 0);
  dup2(fd, 1);
  dup2(fd, 2);
  for (int other = 3; other < 256; ++other) close(other);
  execv(argv[0], argv.data());
  _exit(127);
}

uint16_t FreePort() {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  bind(fd, reinterpret_cast<sockaddr*>(&address), size);
  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  close(fd);
  return ntohs(address.sin_port);
}

std::unique_ptr<PGconn, decltype(&PQfinish)> Connect(const std::string& folder, uint16_t port) {
  const std::string text = "host=" + folder + " port=" + std::to_string(port) +
                           " user=postgres dbname=postgres application_name=test";
  return {PQconnectdb(text.c_str()), PQfinish};
}

void PrintLog(const std::string& folder) {
  std::ifstream log(folder + "/log");
  for (std::string line; std::getline(log, line);) std::fprintf(stderr, "%s\n", line.c_str());
}

}  // namespace

std::unique_ptr<PostgresServer> PostgresServer::InNewFolder() {
  std::string folder = TestFolder() + "/pg-XXXXXX";
  if (mkdtemp(folder.data()) == nullptr) return nullptr;
  std::unique_ptr<PostgresServer> server(new PostgresServer);
  server->folder_ = folder;
  if (const passwd* user = Unprivileged(); user != nullptr) {
    if (chown(folder.c_str(), user->pw_uid, user->pw_gid) != 0) return nullptr;
  }
  return server;
}

std::unique_ptr<PostgresServer> PostgresServer::Start(const PostgresOptions& options) {
  const std::string bin = FindPrograms();
  if (bin.empty()) {
    std::fprintf(stderr, "no PostgreSQL in /usr/lib/postgresql; install postgresql-15\n");
    return nullptr;
  }
  std::unique_ptr<PostgresServer> server = InNewFolder();
  if (server == nullptr) return nullptr;
  const std::string& folder = server->folder_;
  const std::string data = folder + "/data";
  std::ofstream(folder + "/password") << "postgres\n";
  chmod((folder + "/password").c_str(), 0644);
  const pid_t initdb =
      Spawn({bin + "/initdb", "-D", data, "-N", "-U", "postgres", "-E", "UTF8", "--locale=C",
             "--auth-local=trust", "--auth-host=scram-sha-256", "--pwfile=" + folder + "/password"},
            folder + "/log");
  int status = 0;
  waitpid(initdb, &status, 0);
  if (status != 0) {
    PrintLog(folder);
    return nullptr;
  }
  server->arguments_ = {bin + "/postgres", "-D", data};
  for (const std::string& setting : std::vector<std::string>{
           "listen_addresses=127.0.0.1", "unix_socket_directories=" + folder, "fsync=off",
           "shared_buffers=16MB", "max_connections=" + std::to_string(options.max_connections),
           "superuser_reserved_connections=" + std::to_string(options.reserved),
           "autovacuum=off"}) {
    server->arguments_.insert(server->arguments_.end(), {"-c", setting});
  }
  for (const std::string& setting : options.settings) {
    server->arguments_.insert(server->arguments_.end(), {"-c", setting});
  }
  return server->StartOnFreePort() ? std::move(server) : nullptr;
}

std::unique_ptr<PostgresServer> PostgresServer::StartReplica(const PostgresServer& primary) {
  std::unique_ptr<PostgresServer> server = InNewFolder();
  if (server == nullptr) return nullptr;
  const std::string data = server->folder_ + "/data";
  const pid_t backup = Spawn({FindPrograms() + "/pg_basebackup", "-h", primary.folder_, "-p",
                              std::to_string(primary.port_), "-U", "postgres", "-D", data, "-R",
                              "-N", "-X", "stream", "-c", "fast"},
                             server->folder_ + "/log");
  int status = 0;
  waitpid(backup, &status, 0);
  if (status != 0) {
    PrintLog(server->folder_);
    return nullptr;
  }
  // A standby must have at least the slots of its primary.
  for (std::string argument : primary.arguments_) {
    const size_t at = argument.find(primary.folder_);
    if (at != std::string::npos) argument.replace(at, primary.folder_.size(), server->folder_);
    server->arguments_.push_back(argument);
  }
  return server->StartOnFreePort() ? std::move(server) : nullptr;
}

bool PostgresServer::StartOnFreePort() {
  // Another process may take the port in between: then with another one.
  for (int attempt = 0; attempt < 5; ++attempt) {
    port_ = FreePort();
    if (StartAgain()) return true;
  }
  return false;
}

bool PostgresServer::StartAgain() {
  auto arguments = arguments_;
  arguments.insert(arguments.end(), {"-c", "port=" + std::to_string(port_)});
  pid_ = Spawn(arguments, folder_ + "/log");
  for (int i = 0; i < 1500; ++i) {
    if (PQstatus(Connect(folder_, port_).get()) == CONNECTION_OK) return true;
    if (waitpid(pid_, nullptr, WNOHANG) == pid_) break;
    usleep(10'000);
  }
  PrintLog(folder_);
  pid_ = -1;
  return false;
}

void PostgresServer::Stop() {
  if (pid_ < 0) return;
  kill(pid_, SIGCONT);
  kill(pid_, SIGQUIT);
  waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

PostgresServer::~PostgresServer() {
  Stop();
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

std::vector<std::vector<std::string>> PostgresServer::Run(const std::string& sql) const {
  const auto connection = Connect(folder_, port_);
  const std::unique_ptr<PGresult, decltype(&PQclear)> result(PQexec(connection.get(), sql.c_str()),
                                                             PQclear);
  const ExecStatusType kind = PQresultStatus(result.get());
  if (kind != PGRES_TUPLES_OK && kind != PGRES_COMMAND_OK) {
    throw std::runtime_error(sql + ": " + PQerrorMessage(connection.get()));
  }
  std::vector<std::vector<std::string>> rows;
  for (int row = 0; row < PQntuples(result.get()); ++row) {
    rows.emplace_back();
    for (int column = 0; column < PQnfields(result.get()); ++column) {
      rows.back().emplace_back(PQgetvalue(result.get(), row, column));
    }
  }
  return rows;
}

int PostgresServer::Number(const std::string& sql) const { return std::stoi(Run(sql).at(0).at(0)); }

}  // namespace firedrill
