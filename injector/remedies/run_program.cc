// run_program: runs a program that the node's own file names, with fixed arguments and without a
// shell.
#include "base/status_macros.h"
#include "injector/remedies/program.h"
#include "injector/remedies/remedy.h"

namespace firedrill {
namespace {

class RunProgram final : public Remedy {
 public:
  explicit RunProgram(const v1::RunProgram& message) : message_(message) {}

  absl::Status Validate(const Node& node) const override {
    ASSIGN_OR_RETURN(const v1::Program program, node.FindProgram(message_.program()));
    return CheckProgram(program);
  }

  absl::StatusOr<v1::Leaves> Leaves(const Node& node) const override {
    ASSIGN_OR_RETURN(const v1::Program program, node.FindProgram(message_.program()));
    return program.leaves();
  }

  v1::RemedyReport Run(const RemedyContext& context, const Node& node) const override {
    const auto program = node.FindProgram(message_.program());
    return program.ok() ? RunProgramBlocking(*program, context.stop)
                        : ReportOf(program.status(), "");
  }

 private:
  const v1::RunProgram message_;
};

const RemedyRegistration kRunProgram(v1::Remedy::kRunProgram, [](const v1::Remedy& remedy) {
  return std::make_unique<RunProgram>(remedy.run_program());
});

}  // namespace
}  // namespace firedrill
