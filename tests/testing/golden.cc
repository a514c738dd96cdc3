// Texts that a person has read and kept: compares with them, or writes them anew.
#include "tests/testing/golden.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"

namespace firedrill {

void ExpectGolden(absl::string_view file, const std::string& text) {
  const std::string path = absl::StrCat(FIREDRILL_SOURCE_DIR, "/", file);
  if (std::getenv("FIREDRILL_UPDATE_GOLDEN") != nullptr) {
    std::ofstream(path) << text;
    return;
  }
  std::ifstream kept(path);
  ASSERT_TRUE(kept.good()) << path << " is missing; write it with FIREDRILL_UPDATE_GOLDEN=1";
  std::ostringstream golden;
  golden << kept.rdbuf();
  EXPECT_EQ(text, golden.str()) << path;
}

}  // namespace firedrill
