// Certificates: what they say of their holder, what is refused, and what a list of the revoked is
// believed.
#include "identity/certificate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace firedrill {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);
constexpr absl::Duration kDay = absl::Hours(24);

KeyPair NewAuthority() {
  absl::StatusOr<KeyPair> made = MakeAuthority("staging.shop", kNow, absl::Hours(24 * 365));
  EXPECT_TRUE(made.ok()) << made.status();
  return *made;
}

absl::StatusOr<KeyPair> Issue(const KeyPair& authority, const std::string& role,
                              const std::string& name, const std::vector<std::string>& hosts = {},
                              absl::Duration lifetime = kDay) {
  return MakeCertificate(authority, {"staging.shop", role, name, ""}, hosts, kNow, lifetime);
}

TEST(Certificate, SaysWhoItsHolderIs) {
  const KeyPair authority = NewAuthority();
  const auto pair = Issue(authority, "operator", "alice");
  ASSERT_TRUE(pair.ok()) << pair.status();
  const auto read = ReadCertificate(pair->certificate);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->peer.Uri(), "spiffe://staging.shop/operator/alice");
  EXPECT_EQ(RoleOf(read->peer), v1::ROLE_OPERATOR);
  EXPECT_EQ(read->peer.serial.size(), 32u);
  EXPECT_EQ(read->not_after, kNow + kDay);
  EXPECT_THAT(read->hosts, IsEmpty());
  EXPECT_TRUE(CheckBelongTogether(*pair, authority.certificate).ok());
}

TEST(Certificate, OfAControllerNamesItsHosts) {
  const KeyPair authority = NewAuthority();
  const auto pair = Issue(authority, "controller", "c1", {"127.0.0.1", "c1.example", "::1"});
  ASSERT_TRUE(pair.ok()) << pair.status();
  const auto read = ReadCertificate(pair->certificate);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_THAT(read->hosts, ElementsAre("c1.example", "127.0.0.1", "::1"));
  EXPECT_EQ(RoleOf(read->peer), v1::ROLE_UNSPECIFIED);
}

TEST(Certificate, OnlyAControllerHasHosts) {
  const KeyPair authority = NewAuthority();
  EXPECT_THAT(Issue(authority, "injector", "db-1", {"db-1"}).status().message(),
              HasSubstr("only a controller has hosts"));
  EXPECT_THAT(Issue(authority, "controller", "c1").status().message(), HasSubstr("name one"));
}

TEST(Certificate, RefusesWhatWouldMeanSomethingElse) {
  const KeyPair authority = NewAuthority();
  for (const char* name : {"", "Alice", "a/b", "a,URI:x", "a b", "ä"}) {
    EXPECT_FALSE(Issue(authority, "viewer", name).ok()) << name;
  }
  for (const char* host : {"", "a,DNS:b", "a b", "https://a", "*"}) {
    EXPECT_FALSE(Issue(authority, "controller", "c1", {host}).ok()) << host;
  }
  EXPECT_THAT(Issue(authority, "root", "alice").status().message(), HasSubstr("is none of"));
}

TEST(Certificate, EndsNoLaterThanItsAuthority) {
  const KeyPair authority = NewAuthority();
  const auto pair = Issue(authority, "viewer", "bob", {}, absl::Hours(24 * 3650));
  ASSERT_TRUE(pair.ok()) << pair.status();
  EXPECT_EQ(ReadCertificate(pair->certificate)->not_after, kNow + absl::Hours(24 * 365));
}

TEST(Certificate, OfAnotherAuthorityDoesNotBelong) {
  const KeyPair ours = NewAuthority(), theirs = NewAuthority();
  const auto pair = Issue(theirs, "admin", "mallory");
  ASSERT_TRUE(pair.ok()) << pair.status();
  EXPECT_THAT(CheckBelongTogether(*pair, ours.certificate).message(), HasSubstr("not signed by"));
  const auto other = Issue(ours, "admin", "alice");
  EXPECT_THAT(CheckBelongTogether({other->certificate, pair->key}, ours.certificate).message(),
              HasSubstr("not that of the certificate"));
}

TEST(Certificate, DamageIsAnError) {
  EXPECT_FALSE(ReadCertificate("").ok());
  EXPECT_FALSE(ReadCertificate("-----BEGIN CERTIFICATE-----\nAAAA\n").ok());
  // An authority names no holder.
  EXPECT_FALSE(ReadCertificate(NewAuthority().certificate).ok());
  EXPECT_EQ(*ReadDomain(NewAuthority().certificate), "staging.shop");
}

TEST(Revocations, AreReadBack) {
  const KeyPair authority = NewAuthority();
  const auto empty = MakeRevocations(authority, {}, kNow);
  ASSERT_TRUE(empty.ok()) << empty.status();
  EXPECT_THAT(*ReadRevocations(*empty, authority.certificate), IsEmpty());
  const auto list = MakeRevocations(authority, {{"0A1B", kNow}, {"FF", kNow - kDay}}, kNow);
  ASSERT_TRUE(list.ok()) << list.status();
  const auto read = ReadRevocations(*list, authority.certificate);
  ASSERT_TRUE(read.ok()) << read.status();
  std::vector<std::string> serials;
  for (const Revoked& each : *read) serials.push_back(each.serial);
  EXPECT_THAT(serials, testing::UnorderedElementsAre("0A1B", "FF"));
}

TEST(Revocations, OfSomebodyElseAreNotBelieved) {
  const KeyPair ours = NewAuthority(), theirs = NewAuthority();
  const auto list = MakeRevocations(theirs, {{"FF", kNow}}, kNow);
  EXPECT_THAT(ReadRevocations(*list, ours.certificate).status().message(),
              HasSubstr("not signed by this authority"));
  EXPECT_FALSE(MakeRevocations(ours, {{"no serial", kNow}}, kNow).ok());
}

TEST(Roles, PeopleGrowAndInjectorsStandApart) {
  EXPECT_TRUE(May(v1::ROLE_ADMIN, v1::ROLE_VIEWER));
  EXPECT_TRUE(May(v1::ROLE_OPERATOR, v1::ROLE_OPERATOR));
  EXPECT_FALSE(May(v1::ROLE_AUTHOR, v1::ROLE_OPERATOR));
  EXPECT_FALSE(May(v1::ROLE_INJECTOR, v1::ROLE_VIEWER));
  EXPECT_FALSE(May(v1::ROLE_ADMIN, v1::ROLE_INJECTOR));
  EXPECT_FALSE(May(v1::ROLE_ADMIN, v1::ROLE_UNSPECIFIED));
  EXPECT_FALSE(May(v1::ROLE_UNSPECIFIED, v1::ROLE_VIEWER));
}

TEST(Peer, IsOnlyReadFromAWholeUri) {
  EXPECT_TRUE(ParsePeer("spiffe://d/viewer/bob").ok());
  for (const char* uri : {"", "spiffe://d/viewer", "spiffe://d/viewer/bob/x", "http://d/viewer/bob",
                          "spiffe:///viewer/bob", "spiffe://d/viewer/", "spiffe://d/Viewer/bob"}) {
    EXPECT_FALSE(ParsePeer(uri).ok()) << uri;
  }
}

}  // namespace
}  // namespace firedrill
