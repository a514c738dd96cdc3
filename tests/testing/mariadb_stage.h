// What the tests of faults inside MariaDB share: the profile of a server, and an application's own
// session there.
#pragma once

#include <fcntl.h>
#include <mysql.h>

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/testing/fault_stage.h"
#include "tests/testing/mariadb_server.h"

namespace firedrill {

// Of an account without a password, in the database `test`.
inline v1::Profile& AddMysqlProfile(StageNode& node, const std::string& name,
                                    const MariadbServer& server, const std::string& user) {
  v1::Profile& profile = *node.mutable_spec.add_profiles();
  profile.set_name(name);
  profile.mutable_mysql()->set_host("127.0.0.1");
  profile.mutable_mysql()->set_port(server.port());
  profile.mutable_mysql()->set_user(user);
  profile.mutable_mysql()->set_database("test");
  return profile;
}
inline void AddStatement(v1::Profile& profile, const std::string& name, const std::string& sql) {
  v1::Statement& statement = *profile.add_statements();
  statement.set_name(name);
  statement.set_sql(sql);
}

// A session of an application, over TCP.
class MariadbClient {
 public:
  explicit MariadbClient(const MariadbServer& server, const std::string& user = "shop")
      : connection_(mysql_init(nullptr), mysql_close) {
    const unsigned patience = 20;
    mysql_options(connection_.get(), MYSQL_OPT_CONNECT_TIMEOUT, &patience);
    connected_ = mysql_real_connect(connection_.get(), "127.0.0.1", user.c_str(), "", "test",
                                    server.port(), nullptr, 0) != nullptr;
    // Else a worker that carries traffic would have it too, and take it for one of its own.
    if (connected_) fcntl(mysql_get_socket(connection_.get()), F_SETFD, FD_CLOEXEC);
  }
  bool connected() const { return connected_; }
  unsigned long id() const { return mysql_thread_id(connection_.get()); }
  // The values, one row a line; or "error 1205: ...".
  std::string Ask(const std::string& sql) const {
    if (mysql_real_query(connection_.get(), sql.data(), sql.size()) != 0) {
      return absl::StrCat("error ", mysql_errno(connection_.get()), ": ",
                          mysql_error(connection_.get()));
    }
    const std::unique_ptr<MYSQL_RES, decltype(&mysql_free_result)> result(
        mysql_store_result(connection_.get()), mysql_free_result);
    std::string text;
    if (result == nullptr) return text;
    while (const MYSQL_ROW row = mysql_fetch_row(result.get())) {
      if (!text.empty()) text += "\n";
      for (unsigned i = 0; i < mysql_num_fields(result.get()); ++i) {
        absl::StrAppend(&text, i > 0 ? " " : "", row[i] == nullptr ? "NULL" : row[i]);
      }
    }
    return text;
  }

 private:
  std::unique_ptr<MYSQL, decltype(&mysql_close)> connection_;
  bool connected_ = false;
};

// Sessions of faults, whose account is `admin` or `leaker` in these tests.
inline int SessionsOfFaults(const MariadbServer& server) {
  return server.Number(
      "SELECT count(*) FROM information_schema.processlist WHERE user IN ('admin', 'leaker')");
}

}  // namespace firedrill
