// The folder of a private authority: what it remembers, and what it refuses.
#include "cli/authority.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "absl/strings/str_cat.h"
#include "tests/testing/test_folder.h"

namespace firedrill {
namespace {

using ::testing::HasSubstr;

const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);
constexpr absl::Duration kDay = absl::Hours(24);

class AuthorityTest : public testing::Test {
 protected:
  std::string folder_ = absl::StrCat(TestFolder(), "/",
                                     testing::UnitTest::GetInstance()->current_test_info()->name());

  std::vector<std::string> Good() {
    std::vector<std::string> names;
    const auto issued = Authority::Open(folder_)->Issued();
    if (!issued.ok()) ADD_FAILURE() << issued.status();
    for (const IssuedCertificate& each : *issued) {
      if (!each.revoked_at.has_value()) names.push_back(each.peer.name);
    }
    return names;
  }
};

TEST_F(AuthorityTest, RemembersWhatItHasIssued) {
  ASSERT_TRUE(Authority::Init(folder_, "shop", kNow, 365 * kDay).ok());
  const auto pair = Authority::Open(folder_)->Issue("controller", "c1", {"localhost"}, kNow, kDay);
  ASSERT_TRUE(pair.ok()) << pair.status();
  const auto issued = Authority::Open(folder_)->Issued();
  ASSERT_TRUE(issued.ok()) << issued.status();
  ASSERT_EQ(issued->size(), 1u);
  EXPECT_EQ(issued->front().peer.serial, ReadCertificate(pair->certificate)->peer.serial);
  EXPECT_EQ(issued->front().until, kNow + kDay);
}

TEST_F(AuthorityTest, KeepsItsKeyToItself) {
  ASSERT_TRUE(Authority::Init(folder_, "shop", kNow, kDay).ok());
  struct stat info {};
  ASSERT_EQ(stat(absl::StrCat(folder_, "/ca.key").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  ASSERT_EQ(stat(folder_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700u);
}

TEST_F(AuthorityTest, IsNeverReplaced) {
  ASSERT_TRUE(Authority::Init(folder_, "shop", kNow, kDay).ok());
  const auto again = Authority::Init(folder_, "shop", kNow, kDay);
  EXPECT_EQ(again.status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_TRUE(Authority::Open(folder_).ok());
}

TEST_F(AuthorityTest, RevokesAllOfANameAndNothingElse) {
  ASSERT_TRUE(Authority::Init(folder_, "shop", kNow, 365 * kDay).ok());
  for (const char* name : {"alice", "bob", "alice"}) {
    ASSERT_TRUE(Authority::Open(folder_)->Issue("viewer", name, {}, kNow, kDay).ok());
  }
  const auto revoked = Authority::Open(folder_)->Revoke("alice", "left the team", kNow);
  ASSERT_TRUE(revoked.ok()) << revoked.status();
  EXPECT_EQ(revoked->size(), 2u);
  EXPECT_THAT(Good(), testing::ElementsAre("bob"));
  const auto authority = Authority::Open(folder_);
  const auto list = FileDisk(folder_).Read("revoked.pem");
  const auto read = ReadRevocations(*list, authority->certificate());
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->size(), 2u);
}

TEST_F(AuthorityTest, RevokesOneByItsSerial) {
  ASSERT_TRUE(Authority::Init(folder_, "shop", kNow, 365 * kDay).ok());
  ASSERT_TRUE(Authority::Open(folder_)->Issue("viewer", "alice", {}, kNow, kDay).ok());
  ASSERT_TRUE(Authority::Open(folder_)->Issue("viewer", "alice", {}, kNow, kDay).ok());
  const std::string serial = Authority::Open(folder_)->Issued()->front().peer.serial;
  ASSERT_TRUE(Authority::Open(folder_)->Revoke(serial, "lost", kNow).ok());
  EXPECT_THAT(Good(), testing::ElementsAre("alice"));
}

TEST_F(AuthorityTest, ToRevokeNothingIsAnError) {
  ASSERT_TRUE(Authority::Init(folder_, "shop", kNow, 365 * kDay).ok());
  ASSERT_TRUE(Authority::Open(folder_)->Issue("viewer", "alice", {}, kNow, kDay).ok());
  EXPECT_THAT(Authority::Open(folder_)->Revoke("alcie", "x", kNow).status().message(),
              HasSubstr("pki list"));
  // It has expired, and is refused for that.
  EXPECT_FALSE(Authority::Open(folder_)->Revoke("alice", "x", kNow + 2 * kDay).ok());
  EXPECT_THAT(Good(), testing::ElementsAre("alice"));
}

TEST_F(AuthorityTest, ADamagedRecordIsNoEmptyOne) {
  ASSERT_TRUE(Authority::Init(folder_, "shop", kNow, 365 * kDay).ok());
  ASSERT_TRUE(FileDisk(folder_).Append("issued.jsonl", "{\"serial\":\n").ok());
  EXPECT_EQ(Authority::Open(folder_)->Issued().status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(AuthorityTest, WithoutOneSaysHowToMakeIt) {
  ASSERT_EQ(mkdir(folder_.c_str(), 0700), 0);
  EXPECT_THAT(Authority::Open(folder_).status().message(), HasSubstr("firedrill pki init"));
}

}  // namespace
}  // namespace firedrill
