// Which controllers a node obeys: never one that another has taken over from.
#include "injector/epochs.h"

#include <gtest/gtest.h>

#include "tests/testing/memory_disk.h"

namespace firedrill {
namespace {

TEST(Epochs, ADiskThatIsFullDoesNotBringTheOldControllerBack) {
  MemoryDisk disk;
  absl::StatusOr<Epochs> epochs = Epochs::Open(disk);
  ASSERT_TRUE(epochs.ok());
  ASSERT_TRUE(epochs->Admit("local", 1).ok());
  disk.space = 0;
  EXPECT_TRUE(absl::IsResourceExhausted(epochs->Admit("local", 2)));
  const absl::Status stale = epochs->Admit("local", 1);
  EXPECT_TRUE(absl::IsFailedPrecondition(stale));
  EXPECT_NE(stale.message().find("epoch 1 of the controller group local is over"),
            std::string::npos);
  EXPECT_NE(stale.message().find("end the one that still says this"), std::string::npos);
  // Still not kept, so still said.
  EXPECT_TRUE(absl::IsResourceExhausted(epochs->Admit("local", 2)));
  disk.space.reset();
  EXPECT_TRUE(epochs->Admit("local", 2).ok());
  absl::StatusOr<Epochs> next = Epochs::Open(disk);
  ASSERT_TRUE(next.ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(next->Admit("local", 1)));
}

}  // namespace
}  // namespace firedrill
