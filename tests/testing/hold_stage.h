// What the tests of hold_connections have in common, whatever the server speaks.
#pragma once

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/testing/fault_stage.h"

namespace firedrill {

class HoldStage : public ::testing::Test {
 protected:
  void TearDown() override { fault_.reset(); }

  v1::Profile& AddProfile(const std::string& name) {
    v1::Profile* profile = node_.mutable_spec.add_profiles();
    profile->set_name(name);
    return *profile;
  }

  static v1::Fault Message(const std::string& text) {
    v1::Fault fault;
    EXPECT_TRUE(
        google::protobuf::TextFormat::ParseFromString("hold_connections { " + text + " }", &fault));
    return fault;
  }
  absl::Status Validate(const std::string& text) {
    auto fault = MakeFault(Message(text));
    return fault.ok() ? (*fault)->Validate(node_) : fault.status();
  }
  absl::Status Apply(const std::string& text, absl::Duration patience = absl::Seconds(5)) {
    fault_ = *MakeFault(Message(text));
    if (const absl::Status valid = fault_->Validate(node_); !valid.ok()) return valid;
    NoChanges changes;
    return fault_->Apply(StageContext("leak", patience), node_, changes);
  }
  bool Reached(absl::Duration limit = absl::Seconds(10)) {
    return Within(limit, [this] {
      const auto seen = fault_->Observe(StageContext("leak"), node_);
      return seen.ok() && seen->reached();
    });
  }
  v1::Observation Seen() {
    const auto seen = fault_->Observe(StageContext("leak"), node_);
    EXPECT_TRUE(seen.ok()) << seen.status();
    return seen.ok() ? *seen : v1::Observation();
  }
  absl::Status ReadBack(absl::Duration patience = absl::Seconds(5)) {
    return fault_->ReadBack(StageContext("leak", patience), node_);
  }

  // A process of its own that applies these faults, and lives until it is killed.
  pid_t SpawnHolder(const std::vector<std::string>& texts,
                    absl::Duration lasts = absl::Seconds(60)) {
    const pid_t pid = fork();
    if (pid != 0) return pid;
    std::vector<std::unique_ptr<Fault>> faults;
    NoChanges changes;
    for (const std::string& text : texts) {
      faults.push_back(*MakeFault(Message(text)));
      const Context context =
          StageContext(absl::StrCat("leak", faults.size()), absl::Seconds(5), lasts);
      if (!faults.back()->Apply(context, node_, changes).ok()) _exit(1);
    }
    for (;;) pause();
  }
  static void Kill(pid_t pid) {
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
  }

  StageNode node_;
  std::unique_ptr<Fault> fault_;
};

}  // namespace firedrill
