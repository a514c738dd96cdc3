// lose_index against a real PostgreSQL server: what an application's sessions plan, whom it
// refuses, and that it is undone whatever happens.
#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>
#include <libpq-fe.h>

#include <sys/stat.h>

#include <cstdlib>
#include <fstream>
#include <future>

#include "absl/strings/match.h"
#include "base/status_macros.h"
#include "tests/testing/fault_stage.h"
#include "tests/testing/postgres_server.h"

namespace firedrill {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Pair;
using ::testing::StartsWith;

constexpr char kLose[] = "profile: 'admin' superuser: true index: 'public.users_email_idx' ";

class LoseIndexTest : public ::testing::Test {
 protected:
  using Connection = std::unique_ptr<PGconn, decltype(&PQfinish)>;

  static void SetUpTestSuite() {
    server_ = PostgresServer::Start({.max_connections = 20}).release();
    ASSERT_NE(server_, nullptr);
    server_->Run("CREATE ROLE admin SUPERUSER LOGIN; CREATE ROLE shop LOGIN");
  }
  static void TearDownTestSuite() {
    delete server_;
    server_ = nullptr;
  }
  void SetUp() override {
    ASSERT_NE(server_, nullptr);
    server_->Run(
        "DROP TABLE IF EXISTS users, parts, tags, tiny CASCADE;"
        "CREATE TABLE users (id int PRIMARY KEY, email text NOT NULL UNIQUE, name text, age int,"
        "  span int4range, EXCLUDE USING gist (span WITH &&));"
        "ALTER TABLE users DROP CONSTRAINT users_email_key;"
        "INSERT INTO users SELECT n, 'u' || n, 'n' || n, n % 3 FROM generate_series(1, 3000) n;"
        "CREATE INDEX users_email_idx ON users (email);"
        "CREATE INDEX users_lower_idx ON users (lower(name)) WHERE id > 10;"
        "CREATE INDEX users_age_idx ON users (age);"
        "CREATE UNIQUE INDEX users_name_idx ON users (name);"
        "CREATE TABLE parts (id int, v text) PARTITION BY RANGE (id);"
        "CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10000);"
        "CREATE INDEX parts_v_idx ON parts (v);"
        "INSERT INTO parts SELECT n, 'v' || n FROM generate_series(1, 3000) n;"
        "CREATE TABLE tiny (a int); CREATE INDEX tiny_a_idx ON tiny (a);"
        "INSERT INTO tiny VALUES (1);"
        "CREATE TABLE tags (t tsvector); CREATE INDEX tags_t_idx ON tags USING gin (t);"
        "ALTER TABLE users ALTER COLUMN id SET STATISTICS 77; ANALYZE users; ANALYZE tiny; ANALYZE "
        "parts");
    node_.AddProfile("admin", server_->folder(), server_->port(), "admin", "");
    node_.AddProfile("shop", server_->folder(), server_->port(), "shop", "");
    auto* statement = node_.mutable_spec.mutable_profiles(0)->add_statements();
    statement->set_name("login");
    statement->set_sql("SELECT name FROM users WHERE email = $1");
    statement = node_.mutable_spec.mutable_profiles(0)->add_statements();
    statement->set_name("by-id");
    statement->set_sql("SELECT name FROM users WHERE id = $1");
    statement = node_.mutable_spec.mutable_profiles(0)->add_statements();
    statement->set_name("whole");
    statement->set_sql("SELECT * FROM users WHERE email = $1");
    statement = node_.mutable_spec.mutable_profiles(0)->add_statements();
    statement->set_name("age");
    statement->set_sql("SELECT age FROM users WHERE email = $1");
    before_ = State();
  }
  void TearDown() override {
    if (!server_->Run("SELECT 1").empty()) changes_.UndoAll();
    fault_.reset();
  }

  // All that the fault might leave behind.
  static std::string State() {
    std::string state;
    for (const auto& row : server_->Run(
             "SELECT indexrelid::regclass::text, indisvalid::text, indisready::text FROM pg_index"
             " WHERE indexrelid >= 16384 UNION ALL SELECT attrelid::regclass || '.' || attname,"
             " attstattarget::text, '' FROM pg_attribute WHERE attrelid >= 16384 AND attnum > 0"
             " UNION ALL SELECT name, setting, source FROM pg_settings"
             " WHERE source NOT IN ('session', 'client', 'default', 'override') ORDER BY 1, 2, "
             "3")) {
      absl::StrAppend(&state, row[0], " ", row[1], " ", row[2], "\n");
    }
    return state;
  }
  static int OurSessions() {
    return server_->Number(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'firedrill%'");
  }

  // A session of the application, with the login prepared and its plan made for every value.
  static Connection Pooled() {
    const std::string target = absl::StrCat("host=", server_->folder(), " port=", server_->port(),
                                            " user=admin dbname=postgres application_name=shop");
    Connection connection(PQconnectdb(target.c_str()), PQfinish);
    for (const char* sql :
         {"SET plan_cache_mode = force_generic_plan",
          "PREPARE login AS SELECT name FROM users WHERE email = $1", "EXECUTE login('u7')"}) {
      PQclear(PQexec(connection.get(), sql));
    }
    return connection;
  }
  static std::string PlanOf(const Connection& connection) {
    PGresult* result = PQexec(connection.get(), "EXPLAIN (COSTS OFF) EXECUTE login('u7')");
    const std::string plan = PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "";
    PQclear(result);
    return plan;
  }

  absl::Status Make(const std::string& text) {
    v1::Fault fault;
    EXPECT_TRUE(
        google::protobuf::TextFormat::ParseFromString("lose_index { " + text + " }", &fault));
    fault_ = *MakeFault(fault);
    return fault_->Validate(node_);
  }
  absl::Status Apply(const std::string& text = kLose) {
    RETURN_IF_ERROR(Make(text));
    return fault_->Apply(StageContext("lost"), node_, changes_);
  }
  std::string Refusal(const std::string& text) {
    const absl::Status status = Apply(text);
    EXPECT_FALSE(status.ok());
    EXPECT_EQ(State(), before_) << "refused, and changed all the same";
    return std::string(status.message());
  }
  static std::string Of(const std::string& index) {
    return absl::StrCat("profile: 'admin' superuser: true index: '", index, "'");
  }
  std::string After() {
    return dynamic_cast<TellsAfter&>(*fault_).After().value_or(v1::Observation()).detail();
  }
  v1::Observation Seen() { return *fault_->Observe(StageContext("lost"), node_); }
  absl::Status NotSeen() { return fault_->Observe(StageContext("lost"), node_).status(); }

  static inline PostgresServer* server_ = nullptr;
  StageNode node_;
  StageChanges changes_;
  std::unique_ptr<Fault> fault_;
  std::string before_;
};

TEST_F(LoseIndexTest, PooledAndFreshSessionsFollowBothTimes) {
  const Connection pooled = Pooled();
  ASSERT_EQ(PlanOf(pooled), "Index Scan using users_email_idx on users");
  ASSERT_TRUE(Apply().ok());
  EXPECT_EQ(PlanOf(pooled), "Seq Scan on users");
  EXPECT_EQ(PlanOf(Pooled()), "Seq Scan on users");
  EXPECT_NE(State(), before_);
  const v1::Observation seen = Seen();
  EXPECT_TRUE(seen.reached());
  EXPECT_EQ(seen.real(), 2);
  EXPECT_EQ(seen.detail(),
            "the index public.users_email_idx is lost; users was read by Index Scan using "
            "users_email_idx, now by Seq Scan on a prepared and Seq Scan on a fresh session");
  EXPECT_GT(seen.figures().at("cost_prepared"), seen.figures().at("cost_before"));
  EXPECT_EQ(seen.figures().at("cost_before_fresh"), seen.figures().at("cost_before"));
  // Born while the index is lost, and prepared then.
  const Connection born = Pooled();
  EXPECT_FALSE(fault_->ReadBack(StageContext("lost"), node_).ok());
  fault_->Release();
  EXPECT_THAT(changes_.UndoAll(), ElementsAre(Pair(UndoResult::kRestored, "")));
  EXPECT_EQ(PlanOf(pooled), "Index Scan using users_email_idx on users");
  EXPECT_EQ(PlanOf(born), "Index Scan using users_email_idx on users");
  EXPECT_EQ(After(), "");
  EXPECT_TRUE(fault_->ReadBack(StageContext("lost"), node_).ok());
  EXPECT_EQ(After(),
            "the index public.users_email_idx is usable; users was read by Index Scan using "
            "users_email_idx, now by Index Scan using users_email_idx on a prepared and Index Scan "
            "using users_email_idx on a fresh session");
  EXPECT_EQ(State(), before_);
  EXPECT_TRUE(Within(absl::Seconds(1), [] { return OurSessions() == 0; }));
}

// The negative control of the look at plans: what does not make sessions plan anew is seen.
TEST_F(LoseIndexTest, SeesASessionThatGoesOnWithItsOldPlan) {
  ASSERT_TRUE(Apply().ok());
  ASSERT_TRUE(Seen().reached());  // Plans without the index.
  fault_->Release();
  server_->Run(
      "UPDATE pg_index SET indisvalid = true WHERE indexrelid = 'users_email_idx'::regclass");
  const absl::Status left = fault_->ReadBack(StageContext("lost"), node_);
  EXPECT_THAT(std::string(left.message()),
              HasSubstr("prepared sessions still read users by Seq Scan"));
  server_->Run("ALTER TABLE users ALTER COLUMN id SET STATISTICS 77");
  EXPECT_TRUE(fault_->ReadBack(StageContext("lost"), node_).ok());
}

// Neither need the fresh session use the index: what counts is whether the prepared one plans anew.
TEST_F(LoseIndexTest, SeesAnOldPlanAlsoWhereAnotherIndexTakesOver) {
  server_->Run("CREATE INDEX users_email_age ON users (email, age)");
  server_->Run("VACUUM ANALYZE users");
  server_->Run(
      "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'users_email_age'::regclass;"
      "ALTER TABLE users ALTER COLUMN id SET STATISTICS 77");
  ASSERT_TRUE(Apply(absl::StrCat(kLose, "statement: 'age'")).ok());
  ASSERT_TRUE(Seen().reached());
  fault_->Release();
  // Behind the back of every session.
  server_->Run(
      "UPDATE pg_index SET indisvalid = true WHERE indexrelid IN ('users_email_idx'::regclass,"
      " 'users_email_age'::regclass)");
  const absl::Status left = fault_->ReadBack(StageContext("lost"), node_);
  EXPECT_THAT(std::string(left.message()),
              HasSubstr("prepared sessions still read users by Seq Scan, where a fresh one does by "
                        "Index Only Scan using users_email_age"));
  server_->Run("ALTER TABLE users ALTER COLUMN id SET STATISTICS 77");
  EXPECT_TRUE(fault_->ReadBack(StageContext("lost"), node_).ok());
  EXPECT_THAT(After(),
              HasSubstr("using users_email_age on a fresh session: so chooses the planner, "
                        "who may use the index again"));
}

// What others do meanwhile changes the planner's mind: that the index is back is true all the same.
TEST_F(LoseIndexTest, IsBackWhereAPersonHasHelpedOut) {
  struct Help {
    std::vector<const char*> statements;
    const char* now;
  };
  for (const Help& help :
       {Help{{"CREATE INDEX CONCURRENTLY users_email_too ON users (email)"}, "users_email_"},
        Help{{"DELETE FROM users WHERE id > 20", "VACUUM ANALYZE users"}, "Seq Scan"}}) {
    ASSERT_TRUE(Apply().ok());
    ASSERT_TRUE(Seen().reached());
    for (const char* statement : help.statements) server_->Run(statement);
    EXPECT_TRUE(fault_->Observe(StageContext("lost"), node_).ok());
    EXPECT_FALSE(fault_->ReadBack(StageContext("lost"), node_).ok()) << "still lost";
    fault_->Release();
    EXPECT_THAT(changes_.UndoAll(), ElementsAre(Pair(UndoResult::kRestored, "")));
    const absl::Status back = fault_->ReadBack(StageContext("lost"), node_);
    EXPECT_TRUE(back.ok()) << back;
    EXPECT_THAT(After(), HasSubstr("the index public.users_email_idx is usable; users was read by "
                                   "Index Scan using users_email_idx, now by "));
    EXPECT_THAT(After(), HasSubstr(help.now));
    server_->Run("DROP INDEX IF EXISTS users_email_too");
    fault_.reset();
  }
}

// A migration of the table: an application that is told so prepares its statements anew.
TEST_F(LoseIndexTest, GoesOnWhenTheTableGetsAColumn) {
  for (const char* statement : {"", "statement: 'whole'"}) {
    ASSERT_TRUE(Apply(absl::StrCat(kLose, statement)).ok());
    ASSERT_TRUE(Seen().reached());
    server_->Run("ALTER TABLE users ADD COLUMN more int DEFAULT 3");
    const auto seen = fault_->Observe(StageContext("lost"), node_);
    ASSERT_TRUE(seen.ok()) << seen.status();
    EXPECT_TRUE(seen->reached()) << seen->detail();
    EXPECT_FALSE(fault_->ReadBack(StageContext("lost"), node_).ok()) << "still lost";
    fault_->Release();
    EXPECT_THAT(changes_.UndoAll(), ElementsAre(Pair(UndoResult::kRestored, "")));
    const absl::Status back = fault_->ReadBack(StageContext("lost"), node_);
    EXPECT_TRUE(back.ok()) << back;
    EXPECT_THAT(After(), HasSubstr("using users_email_idx on a fresh session"));
    server_->Run("ALTER TABLE users DROP COLUMN more");
    fault_.reset();
  }
}

TEST_F(LoseIndexTest, GoesOnWhenTheTableAndItsColumnAreRenamed) {
  ASSERT_TRUE(Apply().ok());
  ASSERT_TRUE(Seen().reached());
  server_->Run("ALTER TABLE users RENAME COLUMN email TO mail");
  server_->Run("ALTER TABLE users RENAME TO members");
  const auto seen = fault_->Observe(StageContext("lost"), node_);
  EXPECT_TRUE(seen.ok()) << seen.status();
  EXPECT_TRUE(seen.ok() && seen->reached());
  fault_->Release();
  EXPECT_THAT(changes_.UndoAll(), ElementsAre(Pair(UndoResult::kRestored, "")));
  const absl::Status back = fault_->ReadBack(StageContext("lost"), node_);
  server_->Run("ALTER TABLE members RENAME TO users");
  EXPECT_TRUE(back.ok()) << back;
  EXPECT_THAT(After(), HasSubstr("using users_email_idx on a fresh session"));
}

// The profile's own statement is refused then, to everybody: it is said at once, and the undo is
// seen by the index itself.
TEST_F(LoseIndexTest, SaysThatItsStatementIsNotUnderstoodAnyMore) {
  ASSERT_TRUE(Apply(absl::StrCat(kLose, "statement: 'login'")).ok());
  ASSERT_TRUE(Seen().reached());
  server_->Run("ALTER TABLE users RENAME TO members");
  const absl::Status seen = NotSeen();
  EXPECT_FALSE(absl::IsAborted(seen));
  const char* const blind =
      "and how now is not to be seen: preparing SELECT name FROM users WHERE email = $1: relation "
      "\"users\" does not exist (SQLSTATE 42P01)";
  EXPECT_THAT(std::string(seen.message()), HasSubstr("the index public.users_email_idx is lost; "));
  EXPECT_THAT(std::string(seen.message()), HasSubstr(blind));
  const absl::Status lost = fault_->ReadBack(StageContext("lost"), node_);
  EXPECT_THAT(std::string(lost.message()), HasSubstr("is still not usable"));
  fault_->Release();
  EXPECT_THAT(changes_.UndoAll(), ElementsAre(Pair(UndoResult::kRestored, "")));
  const absl::Status back = fault_->ReadBack(StageContext("lost"), node_);
  server_->Run("ALTER TABLE members RENAME TO users");
  EXPECT_TRUE(back.ok()) << back;
  EXPECT_THAT(After(), HasSubstr("the index public.users_email_idx is usable; "));
  EXPECT_THAT(After(), HasSubstr(blind));
  EXPECT_EQ(State(), before_);
}

TEST_F(LoseIndexTest, NoticesAtOnceThatTheTableIsGone) {
  ASSERT_TRUE(Apply().ok());
  ASSERT_TRUE(Seen().reached());
  server_->Run("DROP TABLE users");
  const absl::Status seen = NotSeen();
  EXPECT_TRUE(absl::IsAborted(seen)) << seen;
  EXPECT_THAT(std::string(seen.message()), HasSubstr("somebody has dropped or rebuilt it"));
}

TEST_F(LoseIndexTest, IsNotInForceAnyMoreWhenSomebodyHasGivenItBack) {
  ASSERT_TRUE(Apply().ok());
  ASSERT_TRUE(Seen().reached());
  server_->Run("VACUUM FULL users");
  const absl::Status seen = NotSeen();
  EXPECT_TRUE(absl::IsAborted(seen)) << seen;
  EXPECT_THAT(std::string(seen.message()),
              StartsWith("it is not in force any more, by somebody else's doing: the index "
                         "public.users_email_idx is usable"));
  EXPECT_THAT(changes_.UndoAll(), ElementsAre(Pair(UndoResult::kUntouched, "")));
}

TEST_F(LoseIndexTest, TheIndexIsWholeWhenItComesBack) {
  ASSERT_TRUE(Apply().ok());
  server_->Run("INSERT INTO users SELECT n, 'u' || n, 'n' || n FROM generate_series(4001, 4500) n");
  changes_.UndoAll();
  server_->Run("CREATE EXTENSION IF NOT EXISTS amcheck");
  EXPECT_NO_THROW(server_->Run("SELECT bt_index_check('users_email_idx', true)"));
}

TEST_F(LoseIndexTest, WatchesAStatementOfTheProfile) {
  ASSERT_TRUE(Apply(absl::StrCat(kLose, "statement: 'login'")).ok());
  EXPECT_THAT(Seen().detail(),
              HasSubstr("was read by Index Scan using users_email_idx, now by Seq Scan"));
}

// "By Index Scan, now by Index Scan" was no proof of anything.
TEST_F(LoseIndexTest, NamesTheIndexThatTakesOver) {
  ASSERT_TRUE(Apply().ok());
  server_->Run("CREATE INDEX users_email_too ON users (email)");
  EXPECT_THAT(Seen().detail(),
              HasSubstr("was read by Index Scan using users_email_idx, now by Index Scan using "
                        "users_email_too on a prepared and Index Scan using users_email_too on a "
                        "fresh session"));
  // A bitmap has its index beneath it.
  server_->Run("ALTER SYSTEM SET enable_indexscan = off");
  server_->Run("SELECT pg_reload_conf()");
  EXPECT_TRUE(Within(absl::Seconds(10), [this] {
    return absl::StrContains(Seen().detail(),
                             "Bitmap Heap Scan using users_email_too on a fresh session");
  })) << Seen().detail();
  server_->Run("ALTER SYSTEM RESET enable_indexscan");
  server_->Run("SELECT pg_reload_conf()");
}

TEST_F(LoseIndexTest, GuessesASearchOfAnExpressionInAPartialIndex) {
  ASSERT_TRUE(Apply(Of("public.users_lower_idx")).ok());
  EXPECT_TRUE(Seen().reached()) << Seen().detail();
}

TEST_F(LoseIndexTest, ThatOfAPartitionIsLost) {
  ASSERT_TRUE(Apply(absl::StrCat(Of("public.parts_1_v_idx"))).ok());
  EXPECT_TRUE(Seen().reached()) << Seen().detail();
}

TEST_F(LoseIndexTest, RefusesWhatMustNotBeLost) {
  EXPECT_THAT(Refusal(Of("public.users_pkey")),
              StartsWith("the index public.users_pkey is not taken away: it is the primary key of "
                         "users: without it the same row could be there twice"));
  EXPECT_THAT(Refusal(Of("public.users_name_idx")), HasSubstr("it is unique"));
  EXPECT_THAT(Refusal(Of("public.users_span_excl")), HasSubstr("it keeps an exclusion constraint"));
  EXPECT_THAT(Refusal(Of("pg_catalog.pg_class_relname_nsp_index")),
              HasSubstr("it belongs to the system catalogs"));
  EXPECT_THAT(Refusal(Of("public.parts_v_idx")),
              HasSubstr("it is the parent of the indexes of partitions; name one of those: "
                        "parts_1_v_idx"));
  server_->Run(
      "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'users_age_idx'::regclass");
  before_ = State();
  EXPECT_THAT(Refusal(Of("public.users_age_idx")),
              HasSubstr("it is not valid even now: its build has failed or is under way"));
}

// Only a unique index can be one; the answer must name the use all the same if that ever changes.
TEST_F(LoseIndexTest, RefusesAReplicaIdentity) {
  server_->Run(
      "ALTER TABLE users ALTER name SET NOT NULL;"
      "ALTER TABLE users REPLICA IDENTITY USING INDEX users_name_idx");
  before_ = State();
  EXPECT_THAT(Refusal(Of("public.users_name_idx")), HasSubstr("is not taken away"));
}

TEST_F(LoseIndexTest, NamesTheIndexThatWasMeant) {
  EXPECT_EQ(Refusal(Of("public.user_email_idx")),
            "there is no index public.user_email_idx in the database postgres; did you mean "
            "public.users_email_idx?");
  EXPECT_THAT(Refusal(Of("public.tags")), HasSubstr("the table tags has public.tags_t_idx"));
  EXPECT_THAT(Refusal(Of("nowhere.xyz")), HasSubstr("; it has public."));
}

TEST_F(LoseIndexTest, RefusesWhatWouldHaveNoEffect) {
  EXPECT_THAT(
      Refusal(Of("public.tiny_a_idx")),
      HasSubstr("would have no effect: the planner reads tiny by Seq Scan for SELECT * FROM "
                "public.tiny WHERE (a) = $1; name a statement of the profile"));
  EXPECT_THAT(
      Refusal(absl::StrCat(kLose, "statement: 'by-id'")),
      HasSubstr("would have no effect: the planner reads users by Index Scan using users_pkey "
                "for SELECT name FROM users WHERE id = $1; name another statement"));
  EXPECT_THAT(Refusal(Of("public.tags_t_idx")), HasSubstr("is a gin index, whose use cannot be"));
  EXPECT_EQ(Refusal(absl::StrCat(kLose, "statement: 'logn'")),
            "there is no statement logn in profile admin; it has login, by-id, whole and age");
}

TEST_F(LoseIndexTest, IsOnlyForSuperusersWhoSaySo) {
  EXPECT_THAT(Refusal("profile: 'admin' index: 'public.users_email_idx'"),
              HasSubstr("say `superuser: true`"));
  EXPECT_THAT(Refusal("profile: 'shop' superuser: true index: 'public.users_email_idx'"),
              HasSubstr("the role shop is no superuser"));
  EXPECT_THAT(Refusal("profile: 'admin' superuser: true index: 'users_email_idx'"),
              HasSubstr("write it with its schema"));
}

// A lock of anybody on the table neither holds us up, nor do we stand in a queue before others.
TEST_F(LoseIndexTest, WaitsForNoLockOnTheTable) {
  const Connection vacuum = Pooled();
  PQclear(PQexec(vacuum.get(), "BEGIN; LOCK users IN SHARE UPDATE EXCLUSIVE MODE"));
  ASSERT_TRUE(Apply().ok());
  EXPECT_TRUE(Seen().reached());
  EXPECT_THAT(changes_.UndoAll(), ElementsAre(Pair(UndoResult::kRestored, "")));
  EXPECT_EQ(State(), before_);
}

TEST_F(LoseIndexTest, GivesUpOnARowThatSomebodyHolds) {
  const Connection other = Pooled();
  PQclear(PQexec(other.get(),
                 "BEGIN; SELECT FROM pg_index WHERE indexrelid = "
                 "'users_email_idx'::regclass FOR UPDATE"));
  ASSERT_TRUE(Make(kLose).ok());
  const absl::Status status =
      fault_->Apply(StageContext("lost", absl::Seconds(2)), node_, changes_);
  EXPECT_FALSE(status.ok());
  PQclear(PQexec(other.get(), "ROLLBACK"));
  EXPECT_TRUE(Within(absl::Seconds(3), [this] { return State() == before_; }));
}

// The process that changes it may die after it has said COMMIT and before the server has heard it.
TEST_F(LoseIndexTest, AChangeUnderWayIsWaitedForAndUndone) {
  ASSERT_TRUE(Apply().ok());
  const Undo undo = changes_.undos.back();
  changes_.UndoAll();
  const Connection dying = Pooled();
  PQclear(PQexec(dying.get(),
                 "BEGIN; UPDATE pg_index SET indisvalid = false WHERE indexrelid = "
                 "'users_email_idx'::regclass"));
  std::string why;
  auto undone = std::async(std::launch::async, [&] { return RunUndo(undo, &why); });
  EXPECT_EQ(undone.wait_for(std::chrono::milliseconds(300)), std::future_status::timeout);
  PQclear(PQexec(dying.get(), "COMMIT"));
  EXPECT_EQ(undone.get(), UndoResult::kRestored) << why;
  EXPECT_EQ(State(), before_);
}

TEST_F(LoseIndexTest, OfOneThatWasRebuiltNothingIsLeftToUndo) {
  ASSERT_TRUE(Apply().ok());
  server_->Run("REINDEX INDEX CONCURRENTLY users_email_idx");
  EXPECT_TRUE(absl::IsAborted(NotSeen()));
  EXPECT_THAT(changes_.UndoAll(), ElementsAre(Pair(UndoResult::kUntouched, "")));
  EXPECT_TRUE(fault_->ReadBack(StageContext("lost"), node_).ok());
  EXPECT_THAT(After(), HasSubstr("somebody has dropped or rebuilt it"));
  server_->Run("DROP INDEX users_email_idx");
}

TEST_F(LoseIndexTest, NeverUndoesAPerson) {
  ASSERT_TRUE(Apply().ok());
  server_->Run("DROP INDEX users_email_idx");
  auto results = changes_.UndoAll();
  ASSERT_EQ(results.size(), 1u);
  EXPECT_EQ(results[0].first, UndoResult::kSuperseded);
  EXPECT_THAT(results[0].second, HasSubstr("somebody has dropped or rebuilt it since"));
}

TEST_F(LoseIndexTest, ARenamedIndexIsGivenBackByItsOid) {
  ASSERT_TRUE(Apply().ok());
  server_->Run("ALTER INDEX users_email_idx RENAME TO old_idx");
  EXPECT_TRUE(Seen().reached()) << Seen().detail();
  EXPECT_THAT(changes_.UndoAll(), ElementsAre(Pair(UndoResult::kRestored, "")));
  const absl::Status back = fault_->ReadBack(StageContext("lost"), node_);
  server_->Run("ALTER INDEX old_idx RENAME TO users_email_idx");
  EXPECT_TRUE(back.ok()) << back;
  EXPECT_EQ(State(), before_);
}

TEST_F(LoseIndexTest, AnIndexOfAnotherTableIsNotTouched) {
  ASSERT_TRUE(Apply().ok());
  const Undo undo = changes_.undos.back();
  Undo other = undo;
  const auto at = other.access.find("\"table\":\"") + 9;
  other.access[at] = other.access[at] == '1' ? '2' : '1';
  const std::string lost = State();
  std::string why;
  EXPECT_EQ(RunUndo(other, &why), UndoResult::kSuperseded);
  EXPECT_EQ(State(), lost);
  EXPECT_EQ(RunUndo(undo, &why), UndoResult::kRestored) << why;
}

// A record of before the table was noted was refused as unreadable, so that an injector that was
// replaced by a newer one in mid-fault left the index lost.
TEST_F(LoseIndexTest, ARecordOfAnOlderBuildIsUndone) {
  ASSERT_TRUE(Apply().ok());
  Undo older = changes_.undos.back();
  changes_.undos.clear();
  const auto at = older.access.find(",\"table\":\"");
  ASSERT_NE(at, std::string::npos) << older.access;
  older.access.erase(at, older.access.rfind('}') - at);
  std::string why;
  // The oid may be another index's by now: without the table only the name tells.
  server_->Run("ALTER INDEX users_email_idx RENAME TO old_idx");
  EXPECT_EQ(RunUndo(older, &why), UndoResult::kFailed);
  EXPECT_THAT(why, HasSubstr("must say whether it is to be used"));
  server_->Run("ALTER INDEX old_idx RENAME TO users_email_idx");
  EXPECT_EQ(RunUndo(older, &why), UndoResult::kRestored) << why;
  EXPECT_EQ(State(), before_);
  EXPECT_EQ(RunUndo(older, &why), UndoResult::kUntouched) << why;
  server_->Run("DROP INDEX users_email_idx");
  EXPECT_EQ(RunUndo(older, &why), UndoResult::kSuperseded) << why;
  older.access.insert(1, "\"table\":7,");
  EXPECT_EQ(RunUndo(older, &why), UndoResult::kFailed);
  EXPECT_THAT(why, HasSubstr("the record does not say where it is"));
}

TEST_F(LoseIndexTest, AnotherServerIsNotTouched) {
  ASSERT_TRUE(Apply().ok());
  Undo undo = changes_.undos.back();
  const auto at = undo.access.find("\"system\":\"") + 10;
  undo.access[at] = undo.access[at] == '1' ? '2' : '1';
  std::string why;
  EXPECT_EQ(RunUndo(undo, &why), UndoResult::kFailed);
  EXPECT_THAT(why, HasSubstr("the server that answers has the system identifier"));
}

TEST_F(LoseIndexTest, TheCommandForAPersonDoesTheSame) {
  ASSERT_TRUE(Apply().ok());
  const std::string command = changes_.undos.back().by_hand;
  EXPECT_THAT(command, StartsWith("psql -h '"));
  EXPECT_THAT(command, HasSubstr("'ALTER TABLE public.users ALTER COLUMN id SET STATISTICS 77'"));
  EXPECT_EQ(std::system((command + " >/dev/null 2>&1").c_str()), 0);
  EXPECT_EQ(State(), before_);
  EXPECT_TRUE(fault_->ReadBack(StageContext("lost"), node_).ok());
}

TEST_F(LoseIndexTest, SurvivesARestartOfTheServer) {
  ASSERT_TRUE(Apply().ok());
  ASSERT_TRUE(MakeReady(changes_.undos.back(), {}).ok());
  server_->Stop();
  std::string why;
  EXPECT_EQ(RunUndo(changes_.undos.back(), &why), UndoResult::kFailed);
  EXPECT_THAT(why, HasSubstr("it is not known to be usable again: connecting to"));
  ASSERT_TRUE(server_->StartAgain());
  EXPECT_THAT(changes_.UndoAll(), ElementsAre(Pair(UndoResult::kRestored, "")));
  EXPECT_EQ(State(), before_);
  EXPECT_TRUE(fault_->ReadBack(StageContext("lost"), node_).ok());
}

// What was opened before serves when there is no slot left, not even for superusers.
TEST_F(LoseIndexTest, IsUndoneAtAFullServerOnlyWhenReady) {
  ASSERT_TRUE(Apply().ok());
  ASSERT_TRUE(MakeReady(changes_.undos.back(), {}).ok());
  const Undo undo = changes_.undos.back();
  // The session of the test itself is one of these.
  std::vector<Connection> full;
  while (full.size() < 40) {
    full.push_back(Pooled());
    if (PQstatus(full.back().get()) != CONNECTION_OK) break;
  }
  ASSERT_LT(full.size(), 40u);
  std::string why;
  EXPECT_EQ(RunUndo(undo, &why), UndoResult::kRestored) << why;
  // And the same without it: its session is closed by the undo, and another one takes its slot.
  EXPECT_TRUE(Within(absl::Seconds(2), [&] {
    full.back() = Pooled();
    return PQstatus(full.back().get()) == CONNECTION_OK;
  }));
  EXPECT_EQ(RunUndo(undo, &why), UndoResult::kFailed);
  EXPECT_THAT(why, HasSubstr("53300"));
  changes_.undos.clear();
}

TEST_F(LoseIndexTest, KeepsNoSecretInTheJournal) {
  server_->Run("ALTER ROLE admin PASSWORD 'geheim'");
  const std::string file = server_->folder() + "/secret";
  std::ofstream(file) << "geheim\n";
  chmod(file.c_str(), 0600);
  node_.mutable_spec.clear_profiles();
  node_.AddProfile("admin", "127.0.0.1", server_->port(), "admin", file);
  ASSERT_TRUE(Apply().ok());
  const Undo& undo = changes_.undos.back();
  for (const std::string& text : {undo.resource, undo.access, undo.by_hand}) {
    EXPECT_THAT(text, Not(HasSubstr("geheim")));
  }
  EXPECT_THAT(undo.access, HasSubstr(file));
  EXPECT_THAT(changes_.UndoAll(), ElementsAre(Pair(UndoResult::kRestored, "")));
}

}  // namespace
}  // namespace firedrill
