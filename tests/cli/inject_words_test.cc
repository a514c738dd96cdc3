// The flags of `firedrill inject`: what they make, and what is said to wrong ones.
#include "cli/inject_words.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "base/time_proto.h"
#include "cli/upstream.h"

namespace firedrill {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string Complaint(const std::vector<std::string>& words) {
  const auto options = ParseInject(words);
  EXPECT_FALSE(options.ok());
  return std::string(options.status().message());
}

TEST(InjectWords, MakeAFaultOfTheFlagsOfItsKeys) {
  const auto options =
      ParseInject({"delay-queries", "--profile=shop-db", "--match.tables", "users,orders",
                   "--match.share", "0.5", "--delay", "200ms", "--reconnect", "--duration", "2m"});
  ASSERT_TRUE(options.ok()) << options.status();
  const v1::DelayQueries& fault = options->fault.delay_queries();
  EXPECT_EQ(fault.profile(), "shop-db");
  EXPECT_THAT(fault.match().tables(), ElementsAre("users", "orders"));
  EXPECT_EQ(fault.match().share(), 0.5);
  EXPECT_EQ(FromProto(fault.delay()), absl::Milliseconds(200));
  EXPECT_TRUE(fault.reconnect());
  EXPECT_EQ(options->duration, "2m");
}

TEST(InjectWords, TakeAnUpstreamAndAShortMatch) {
  const auto options = ParseInject({"fail-queries", "--listen", "127.0.0.1:6432", "--upstream",
                                    "127.0.0.1:5432", "--protocol", "postgresql", "--match",
                                    "table=users,verb=select", "--error", "57014"});
  ASSERT_TRUE(options.ok()) << options.status();
  const v1::FailQueries& fault = options->fault.fail_queries();
  EXPECT_EQ(fault.profile(), "upstream");
  EXPECT_EQ(fault.listen(), "127.0.0.1:6432");
  EXPECT_EQ(fault.error(), "57014");
  EXPECT_THAT(fault.match().verbs(), ElementsAre("select"));
  const auto profile = AdHocProfile(options->upstream, options->protocol);
  ASSERT_TRUE(profile.ok()) << profile.status();
  EXPECT_EQ(profile->postgresql().port(), 5432);
}

// It is told by the port only where nobody says it, and only of ports that tell.
TEST(InjectWords, AUsualPortTellsTheProtocol) {
  const auto taken = [](std::vector<std::string> more) {
    std::vector<std::string> words = {"delay-queries", "--listen", "127.0.0.1:6432", "--delay",
                                      "200ms"};
    words.insert(words.end(), more.begin(), more.end());
    const auto options = ParseInject(words);
    EXPECT_TRUE(options.ok()) << options.status();
    return absl::StrCat(options->protocol, options->protocol_by_port ? " by its port" : "");
  };
  EXPECT_EQ(taken({"--upstream", "127.0.0.1:5432"}), "postgresql by its port");
  EXPECT_EQ(taken({"--upstream", "db-1:3306"}), "mysql by its port");
  EXPECT_EQ(taken({"--upstream", "[::1]:6379"}), "redis by its port");
  EXPECT_EQ(taken({"--upstream", "127.0.0.1:80"}), "http by its port");
  EXPECT_EQ(taken({"--upstream", "127.0.0.1:8080"}), "http by its port");
  EXPECT_EQ(taken({"--upstream", "127.0.0.1:5432", "--protocol", "mysql"}), "mysql");
  EXPECT_EQ(taken({"--upstream", "127.0.0.1:5433"}), "");
  EXPECT_EQ(taken({"--profile", "shop-db"}), "");
  EXPECT_EQ(AdHocProfile("127.0.0.1:5433", "").status().message(),
            "--protocol is missing, and port 5433 does not tell it, as these do: 5432 postgresql, "
            "3306 mysql, 6379 redis, 80 http, 8080 http: say what the upstream speaks: "
            "postgresql, mysql, redis, http or tcp");
  // What is held at a server where nobody logs in takes it, too.
  const auto held = ParseInject(
      {"hold-connections", "--upstream", "127.0.0.1:6379", "--count", "5", "--state", "idle"});
  ASSERT_TRUE(held.ok()) << held.status();
  EXPECT_EQ(held->fault.hold_connections().protocol(), v1::PROTOCOL_REDIS);
  EXPECT_THAT(Complaint({"hold-connections", "--count", "5", "--upstream", "127.0.0.1:5432"}),
              HasSubstr("--upstream has no account"));
}

TEST(InjectWords, AnyKindHasThem) {
  const auto options =
      ParseInject({"hold-connections", "--profile", "leaker", "--count", "5", "--state", "idle"});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->fault.hold_connections().count(), 5);
}

TEST(InjectWords, TheServerThatIsMeantIsAskedForInOneSentence) {
  EXPECT_EQ(Complaint({"delay-queries", "--delay", "1s"}),
            "delay-queries: which server is meant? Add --upstream HOST:PORT --protocol "
            "postgresql|mysql|redis|http|tcp, or --profile NAME where a site file names it "
            "(--site FILE)");
  EXPECT_THAT(Complaint({"lock-table", "--table", "public.users"}),
              HasSubstr("lock-table: at which server? Add --profile NAME"));
  EXPECT_THAT(Complaint({"hold-connections", "--count", "5", "--upstream", "127.0.0.1:5432",
                         "--protocol", "postgresql"}),
              HasSubstr("--upstream has no account"));
  EXPECT_THAT(Complaint({"delay-queries", "--delay", "1s", "--profile", "a", "--upstream",
                         "127.0.0.1:5432", "--protocol", "tcp"}),
              HasSubstr("leave one out"));
}

TEST(InjectWords, TheProcessesThatAreMeantAreGivenOrNamed) {
  const auto given = ParseInject({"throttle-cpu", "--pidfile", "/run/shop.pid", "--cpus", "0.5"});
  ASSERT_TRUE(given.ok()) << given.status();
  ASSERT_TRUE(given->subject.has_value());
  EXPECT_EQ(given->subject->pidfile(), "/run/shop.pid");
  EXPECT_EQ(given->fault.throttle_cpu().subject(), given->subject->name());
  EXPECT_EQ(given->fault.throttle_cpu().cpus(), 0.5);
  const auto port = ParseInject({"throttle-cpu", "--port=5432", "--of-use", "0.5"});
  ASSERT_TRUE(port.ok()) << port.status();
  EXPECT_EQ(port->subject->port(), 5432);
  const auto named = ParseInject({"throttle-cpu", "--subject", "database", "--cpus", "0.5"});
  ASSERT_TRUE(named.ok()) << named.status();
  EXPECT_FALSE(named->subject.has_value());
  EXPECT_THAT(Complaint({"throttle-cpu", "--cpus", "0.5"}),
              HasSubstr("which processes are meant? Add one of --unit, --cgroup, --pidfile and "
                        "--port, or --subject NAME"));
  EXPECT_THAT(Complaint({"throttle-cpu", "--cpus", "0.5", "--port", "1", "--subject", "a"}),
              HasSubstr("--subject and --port both say which processes are meant"));
  EXPECT_THAT(Complaint({"throttle-cpu", "--cpus", "0.5", "--port", "70000"}),
              HasSubstr("--port 70000 names no processes"));
  // Of a fault on live traffic it is that one's own key.
  const auto traffic = ParseInject({"delay-bytes", "--cgroup", "/shop", "--delay", "1s",
                                    "--upstream", "127.0.0.1:1", "--protocol", "tcp"});
  ASSERT_TRUE(traffic.ok()) << traffic.status();
  EXPECT_FALSE(traffic->subject.has_value());
}

TEST(InjectWords, WhatIsLongerThanTheFaultIsRefused) {
  EXPECT_EQ(Complaint({"hold-connections", "--profile", "a", "--count", "5", "--ramp", "30s",
                       "--duration", "3s"}),
            "--ramp 30s is longer than the fault itself, which ends after 3s (--duration)");
  EXPECT_TRUE(ParseInject({"hold-connections", "--profile", "a", "--count", "5", "--ramp", "3s",
                           "--duration", "3s"})
                  .ok());
}

TEST(InjectWords, ANumberWithAUnitIsToldItsUnit) {
  EXPECT_THAT(Complaint({"throttle-bytes", "--listen", "127.0.0.1:6432", "--upstream",
                         "127.0.0.1:5432", "--protocol", "tcp", "--rate", "1MiB/s"}),
              HasSubstr("help: the number alone, in bytes/s"));
}

TEST(InjectWords, AreNotSaidTwice) {
  EXPECT_EQ(Complaint({"delay-queries", "--upstream", "127.0.0.1:5432", "--protocol", "postgresql",
                       "--delay", "1s", "--duration", "2h", "--duration", "1s"}),
            "--duration is given twice, the second time as 1s: leave one out");
  EXPECT_EQ(Complaint({"delay-queries", "--delay=1s", "--delay=2s"}),
            "--delay is given twice, the second time as 2s: leave one out");
  const auto lists =
      ParseInject({"delay-queries", "--upstream", "127.0.0.1:5432", "--protocol", "postgresql",
                   "--delay", "1s", "--match.tables", "users", "--match.tables", "orders",
                   "--match", "verb=select", "--match", "verb=insert"});
  ASSERT_TRUE(lists.ok()) << lists.status();
  EXPECT_THAT(lists->fault.delay_queries().match().tables(), ElementsAre("users", "orders"));
  EXPECT_THAT(lists->fault.delay_queries().match().verbs(), ElementsAre("select", "insert"));
}

// Of two values of one key the last was taken, and the first forgotten without a word.
TEST(InjectWords, AKeyOfAMatchIsNotSaidTwice) {
  const auto with = [](std::vector<std::string> more) {
    std::vector<std::string> words = {
        "delay-queries", "--upstream", "127.0.0.1:5432", "--protocol", "postgresql",
        "--delay",       "1s"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  };
  EXPECT_EQ(
      Complaint(with({"--match", "verb=select,verbs=insert"})),
      "--match verb=select,verbs=insert: verbs is said twice; several go into a flag of their "
      "own, as in --match.verbs a,b");
  const std::string twice = "--match.user is given twice, the second time as bob: leave one out";
  EXPECT_EQ(Complaint(with({"--match", "user=ann,user=bob"})), twice);
  EXPECT_EQ(Complaint(with({"--match", "user=ann", "--match", "user=bob"})), twice);
  EXPECT_EQ(Complaint(with({"--match.user=ann", "--match", "user=bob"})), twice);
  EXPECT_TRUE(ParseInject(with({"--match", "user=ann,database=shop,verb=select"})).ok());
}

// A variable of a shell that was not set: the fault met each request.
TEST(InjectWords, WhatIsEmptyIsRefusedAndDoesNotMeanEverything) {
  const auto with = [](std::vector<std::string> more) {
    std::vector<std::string> words = {
        "delay-queries", "--upstream", "127.0.0.1:5432", "--listen", "127.0.0.1:6432",
        "--delay",       "1s"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  };
  EXPECT_EQ(Complaint(with({"--match", ""})),
            "--match is empty: write it as table=users,verb=select, or leave it out, and all "
            "requests are meant");
  EXPECT_EQ(Complaint(with({"--match", "table="})),
            "--match table=: table is empty; give it a value, as in table=users, or leave it out");
  EXPECT_THAT(Complaint(with({"--match", "verb=select,regex= "})), HasSubstr("regex is empty"));
  EXPECT_THAT(Complaint(with({"--match", "table=users,"})), HasSubstr("'' is no key=value"));
  EXPECT_THAT(Complaint(with({"--match", ","})), HasSubstr("'' is no key=value"));
  for (const char* flag : {"--match.tables", "--match.verbs", "--match.regex", "--match.user",
                           "--client-user", "--site", "--seed", "--state-dir"}) {
    const std::string empty = absl::StrCat(flag, " is empty: give it a value, or leave it out");
    EXPECT_EQ(Complaint(with({flag, ""})), empty);
    EXPECT_EQ(Complaint(with({absl::StrCat(flag, "=")})), empty);
  }
  for (const char* list : {" , ", "users,", ",users", "users,,images"}) {
    EXPECT_THAT(Complaint(with({"--match.tables", list})),
                testing::AllOf(HasSubstr("is empty"), HasSubstr("leave the entry out")))
        << list;
  }
}

// Nobody was told which port it was.
TEST(InjectWords, AnyFreePortIsNoAddressToListenAt) {
  for (const char* listen : {"127.0.0.1:0", "[::1]:0", "0.0.0.0:00"}) {
    EXPECT_THAT(
        Complaint({"stall-connections", "--upstream", "127.0.0.1:5432", "--listen", listen}),
        testing::AllOf(HasSubstr("port 0 is any free port"),
                       HasSubstr("write the port that the clients come to")))
        << listen;
  }
}

TEST(InjectWords, ACutHasNeitherAMomentNorAMessage) {
  const auto with = [](std::vector<std::string> more) {
    std::vector<std::string> words = {"fail-queries", "--profile", "p", "--cut-after", "3"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  };
  EXPECT_THAT(Complaint(with({"--moment", "before"})),
              testing::AllOf(HasSubstr("'moment' does not go with 'cutAfter'"),
                             HasSubstr("leave 'moment' out, or name an 'error'")));
  EXPECT_THAT(Complaint(with({"--moment", "after"})), HasSubstr("does not go with"));
  EXPECT_THAT(Complaint(with({"--message", "gone"})), HasSubstr("does not go with"));
  EXPECT_TRUE(ParseInject(with({})).ok());
}

TEST(InjectWords, AVerbThatNoStatementBeginsWithIsRefused) {
  const auto with = [](const std::string& match) {
    return std::vector<std::string>{"delay-queries", "--profile", "p", "--delay", "1s",
                                    "--match",       match};
  };
  EXPECT_THAT(Complaint(with("verb=slect")), testing::AllOf(HasSubstr("begins with 'slect'"),
                                                            HasSubstr("did you mean 'select'?")));
  EXPECT_THAT(Complaint(with("verb=frobnicate")), HasSubstr("regex: '(?i)^frobnicate\\b'"));
  for (const char* verb : {"SELECT", "connect", "hgetall", "FT.SEARCH", "sort_ro", "PURGE"}) {
    EXPECT_TRUE(ParseInject(with(std::string("verb=") + verb)).ok()) << verb;
  }
}

TEST(InjectWords, TakeASeed) {
  const std::vector<std::string> words = {"leak-connections", "--profile", "a", "--seed"};
  auto with = [&](const std::string& seed) {
    std::vector<std::string> all = words;
    all.push_back(seed);
    return all;
  };
  const auto options = ParseInject(with("7"));
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->seed, 7u);
  for (const char* wrong : {"0", "-1", "many"}) {
    EXPECT_THAT(Complaint(with(wrong)), HasSubstr("a whole number from 1 to")) << wrong;
  }
}

TEST(InjectWords, HelpNamesMatchOnlyWhereThereIsOne) {
  EXPECT_THAT(InjectHelp("delayQueries"), HasSubstr("--match table=users"));
  for (const char* kind : {"leakConnections", "stallConnections", "delayBytes"}) {
    EXPECT_THAT(InjectHelp(kind), ::testing::Not(HasSubstr("--match"))) << kind;
    EXPECT_THAT(InjectHelp(kind), HasSubstr("--upstream")) << kind;
  }
  EXPECT_THAT(InjectHelp("lockTable"), ::testing::Not(HasSubstr("--upstream")));
}

TEST(InjectWords, WrongOnesAreToldWhatMayHaveBeenMeant) {
  EXPECT_THAT(Complaint({"delay-querys"}), HasSubstr("did you mean delay-queries?"));
  EXPECT_THAT(Complaint({"delay-queries", "--recconect"}), HasSubstr("did you mean --reconnect?"));
  EXPECT_THAT(Complaint({"delay-queries", "--profile", "p", "--delay", "soon"}),
              HasSubstr("delay"));
  EXPECT_THAT(Complaint({"delay-queries", "--profile", "p", "--match", "tabel=users"}),
              HasSubstr("did you mean table=users?"));
  EXPECT_THAT(Complaint({"delay-queries", "--profile", "p", "--match", "colour=red"}),
              HasSubstr("each is a flag too"));
  const std::string divided =
      Complaint({"delay-queries", "--profile", "p", "--match", "regex=a,b", "--delay", "1s"});
  EXPECT_THAT(divided, testing::AllOf(HasSubstr("b is no key=value"), HasSubstr("--match.regex"),
                                      HasSubstr("--match.tables")));
  EXPECT_THAT(
      Complaint({"delay-queries", "--profile", "p", "--delay", "1s", "--listen", "localhost:5433"}),
      testing::AllOf(HasSubstr("127.0.0.1:5433"), testing::Not(HasSubstr("{1,5}"))));
  EXPECT_THAT(Complaint({"delay-queries", "--profile", "p", "--delay", "1s", "--duration", "3h"}),
              HasSubstr("1h"));
  EXPECT_THAT(Complaint({"delay-queries", "--profile"}), HasSubstr("needs a value"));
  EXPECT_FALSE(AdHocProfile("127.0.0.1:5432", "").ok());
  EXPECT_FALSE(AdHocProfile("5432", "tcp").ok());
}

// Not only when the traffic is about to be matched.
TEST(InjectWords, ARegularExpressionIsReadAtOnce) {
  EXPECT_THAT(Complaint({"delay-queries", "--profile", "p", "--delay", "1s", "--match.regex",
                         "from (users"}),
              testing::AllOf(HasSubstr("not a regular expression"), HasSubstr("from (users"),
                             HasSubstr("each ( needs its )")));
  EXPECT_TRUE(ParseInject({"delay-queries", "--profile", "p", "--delay", "1s", "--match.regex",
                           "from \\(?users"})
                  .ok());
}

TEST(InjectWords, HelpNamesEveryFlagWithItsMeaning) {
  const std::string help = InjectHelp("delayQueries");
  EXPECT_THAT(help, HasSubstr("--match.tables"));
  EXPECT_THAT(help, HasSubstr("--uniform.max"));
  EXPECT_THAT(help, HasSubstr("Always so long."));
  EXPECT_THAT(InjectHelp(""), HasSubstr("throttle-bytes"));
}

}  // namespace
}  // namespace firedrill
