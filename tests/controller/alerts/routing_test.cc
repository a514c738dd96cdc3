// The routing tree of Alertmanager, from its configuration.
#include "controller/alerts/routing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "controller/alerts/alertmanager.h"
#include "tests/testing/child.h"

namespace firedrill {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<std::string> Names(const std::vector<RouteHit>& hits) {
  std::vector<std::string> names;
  for (const RouteHit& hit : hits) names.push_back(hit.receiver);
  return names;
}

AlertmanagerConfig Parse(const std::string& yaml) {
  auto config = ParseAlertmanagerConfig(yaml);
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? *std::move(config) : AlertmanagerConfig();
}

constexpr char kTree[] = R"(
route:
  receiver: default
  group_by: [alertname]
  group_wait: 10s
  group_interval: 1m
  routes:
    - receiver: audit
      continue: true
      matchers: ['team=~"db|web"']
    - receiver: db
      match: {team: db}
      group_wait: 1s
      routes:
        - receiver: db-page
          matchers: [severity = page, 'env!="test"']
          repeat_interval: 1w
        - matchers: ['{severity="ticket", kind="x,y"}']
          group_by: ['...']
    - receiver: web
      match_re: {team: we.}
receivers:
  - name: default
  - name: audit
  - name: db
    webhook_configs: [{url: 'http://127.0.0.1:1/db'}, {url: 'http://x/', send_resolved: false}]
  - name: db-page
  - name: web
)";

TEST(Routing, TheDeepestMatchTakesTheAlert) {
  const Route root = Parse(kTree).root;
  const auto go = [&](const Labels& labels) { return Names(DecideRoutes(root, labels).hits); };
  EXPECT_THAT(go({}), ElementsAre("default"));
  EXPECT_THAT(go({{"team", "other"}}), ElementsAre("default"));
  EXPECT_THAT(go({{"team", "db"}}), ElementsAre("audit", "db"));
  EXPECT_THAT(go({{"team", "db"}, {"severity", "page"}}), ElementsAre("audit", "db-page"));
  EXPECT_THAT(go({{"team", "db"}, {"severity", "page"}, {"env", "test"}}),
              ElementsAre("audit", "db"));
  EXPECT_THAT(go({{"team", "web"}}), ElementsAre("audit", "web"));
  EXPECT_THAT(go({{"team", "webx"}}), ElementsAre("default"));  // Anchored.
}

TEST(Routing, ChildrenInheritWhatTheyDoNotSay) {
  const Route root = Parse(kTree).root;
  const RouteHit page = DecideRoutes(root, {{"team", "db"}, {"severity", "page"}}).hits.back();
  EXPECT_EQ(page.group_wait, absl::Seconds(1));
  EXPECT_EQ(page.group_interval, absl::Minutes(1));
  EXPECT_EQ(page.repeat_interval, absl::Hours(24 * 7));
  EXPECT_THAT(page.group_by, ElementsAre("alertname"));
  EXPECT_EQ(page.path, "team=\"db\", severity=\"page\", env!=\"test\"");
  const RouteHit ticket =
      DecideRoutes(root, {{"team", "db"}, {"severity", "ticket"}, {"kind", "x,y"}}).hits.back();
  EXPECT_EQ(ticket.receiver, "db");
  EXPECT_THAT(ticket.group_by, ElementsAre("..."));
}

TEST(Routing, AnOpenLabelMakesEverythingAfterItOnlyPossible) {
  const Route root = Parse(kTree).root;
  const RouteDecision team = DecideRoutes(root, {{"severity", "page"}}, {"team"});
  EXPECT_THAT(Names(team.hits), IsEmpty());
  EXPECT_THAT(Names(team.possible), ElementsAre("audit", "db-page", "web", "default"));
  const RouteDecision severity = DecideRoutes(root, {{"team", "db"}}, {"severity"});
  EXPECT_THAT(Names(severity.hits), ElementsAre("audit"));
  EXPECT_THAT(Names(severity.possible), ElementsAre("db-page", "db"));
  // A label that the route does not ask for changes nothing.
  EXPECT_THAT(Names(DecideRoutes(root, {{"team", "web"}}, {"instance"}).hits),
              ElementsAre("audit", "web"));
}

TEST(Routing, DefaultsAreAlertmanagersOwn) {
  const Route root = Parse("route: {receiver: a}\nreceivers: [{name: a}]").root;
  EXPECT_EQ(root.group_wait, absl::Seconds(30));
  EXPECT_EQ(root.group_interval, absl::Minutes(5));
  EXPECT_EQ(root.repeat_interval, absl::Hours(4));
}

TEST(Routing, ReadsTheWebhooksOfReceivers) {
  const auto receivers = Parse(kTree).receivers;
  EXPECT_EQ(receivers.size(), 5u);
  ASSERT_EQ(receivers.at("db").size(), 2u);
  EXPECT_EQ(receivers.at("db")[0].url, "http://127.0.0.1:1/db");
  EXPECT_TRUE(receivers.at("db")[0].send_resolved);
  EXPECT_FALSE(receivers.at("db")[1].send_resolved);
}

TEST(Routing, SaysWhatItCannotRead) {
  EXPECT_THAT(std::string(ParseAlertmanagerConfig("a: [").status().message()),
              HasSubstr("cannot be read"));
  EXPECT_THAT(std::string(ParseAlertmanagerConfig("receivers: []").status().message()),
              HasSubstr("no route"));
  EXPECT_THAT(std::string(ParseAlertmanagerConfig("route: {matchers: ['x']}").status().message()),
              HasSubstr("route matcher x"));
  EXPECT_FALSE(ParseAlertmanagerConfig("route: {group_wait: soon}").ok());
}

TEST(Routing, TheLabsConfigurationSendsPagesToOnCallAndCanariesToUs) {
  const auto status = ParseAlertmanagerStatus(
      ReadFile(absl::StrCat(FIREDRILL_SOURCE_DIR, "/tests/lab/captures/am_status.json")));
  ASSERT_TRUE(status.ok()) << status.status();
  const Route& root = status->config.root;
  EXPECT_THAT(Names(DecideRoutes(root, {{"severity", "page"}}).hits), ElementsAre("oncall"));
  EXPECT_THAT(Names(DecideRoutes(root, {{"severity", "ticket"}}).hits), ElementsAre("tickets"));
  EXPECT_THAT(Names(DecideRoutes(root, {{"severity", "page"}, {"firedrill_canary", "r"}}).hits),
              ElementsAre("firedrill-canary"));
  EXPECT_EQ(DecideRoutes(root, {{"severity", "page"}}).hits[0].group_interval, absl::Seconds(2));
}

}  // namespace
}  // namespace firedrill
