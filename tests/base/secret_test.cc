// Secrets in files.
#include "base/secret.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include <fstream>

#include "tests/testing/child.h"

namespace firedrill {
namespace {

using ::testing::HasSubstr;

v1::Secret InFile(const std::string& path) {
  v1::Secret secret;
  secret.set_file(path);
  return secret;
}

TEST(Secret, IsAFilesContentWithoutItsLastLineBreak) {
  const TempDir folder("secret");
  const std::string path = folder.path() + "/secret";
  std::ofstream(path) << "geheim\n";
  ASSERT_EQ(chmod(path.c_str(), 0640), 0);
  const absl::StatusOr<std::string> read = ResolveSecret(InFile(path));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(*read, "geheim");
  ASSERT_EQ(chmod(path.c_str(), 0644), 0);
  EXPECT_THAT(ResolveSecret(InFile(path)).status().message(), HasSubstr("everyone may read"));
}

TEST(Secret, APipeThatNobodyWritesToHangsNobody) {
  const TempDir folder("secret");
  const std::string path = folder.path() + "/pipe";
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  EXPECT_THAT(ResolveSecret(InFile(path)).status().message(), HasSubstr("not a regular file"));
}

}  // namespace
}  // namespace firedrill
