// This machine itself, with a busy process on it: for faults that know no protocol.
#include <algorithm>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "firedrill/v1/wire.pb.h"
#include "tests/contract/contract_stage.h"
#include "tests/testing/busy_process.h"

namespace firedrill {
namespace {

class HostStage final : public ContractStage {
 public:
  void Furnish(StageNode& node) override {
    v1::HostSubject& subject = *node.mutable_spec.add_subjects();
    subject.set_name("database");
    subject.set_pidfile(busy_.pidfile());
  }
  void Populate(int) override {}

  // Every control group with its limit, and those of the process.
  std::string Snapshot() override {
    std::vector<std::string> lines = busy_.Groups();
    const auto hierarchy = FindCpuHierarchy();
    const auto all = Cgroup(hierarchy.ok() ? hierarchy->mount : "").All();
    for (const Cgroup& group : all.value_or(std::vector<Cgroup>())) {
      // Other tests may have some of their own meanwhile.
      if (absl::StrContains(group.folder(), "/fdtest-")) continue;
      const auto limit = group.Limit();
      lines.push_back(absl::StrCat(group.folder(), " ",
                                   limit.ok() ? group.LimitText(*limit) : "without a limit"));
    }
    std::sort(lines.begin() + 1, lines.end());
    return absl::StrJoin(lines, "\n");
  }
  int Held() override { return absl::StrContains(Snapshot(), "firedrill") ? 1 : 0; }

  // Nobody comes to it.
  void AddTrafficProfile(StageNode&, const std::string&) override {}
  TrafficWords words() const override { return {}; }
  std::unique_ptr<TrafficClient> NewClient() override { return nullptr; }

 private:
  // So many that they get more than the example leaves them, whatever else the machine does.
  BusyProcess busy_{{.children = 15}};
};

const StageRegistration kStage(v1::PROTOCOL_UNSPECIFIED,
                               [] { return std::make_unique<HostStage>(); });

}  // namespace
}  // namespace firedrill
