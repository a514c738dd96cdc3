// Loads, remedies and probes of the registries, on threads of their own.
#include <utility>

#include "base/status_macros.h"
#include "injector/loads/load.h"
#include "injector/node_work.h"
#include "injector/remedies/remedy.h"
#include "injector/subject.h"
#include "probes/runner.h"

namespace firedrill {
namespace {

// All of one plan: sooner than the controller gives up waiting.
constexpr absl::Duration kSubjectsWithin = absl::Seconds(4);

}  // namespace

WorkFactories ThreadedWork(const Node& node, std::shared_ptr<Journal> journal, const Clock& clock) {
  using Handle = WorkFactories::Handle;
  WorkFactories work;
  work.load = [&node](const v1::StartLoad& start,
                      std::function<void(v1::LoadWindow)> emit) -> absl::StatusOr<Handle> {
    ASSIGN_OR_RETURN(
        std::unique_ptr<LoadRun> run,
        firedrill::StartLoad(start.load(), start.endpoint(), start.seed(), node, std::move(emit)));
    return Handle(std::move(run));
  };
  work.probe = [&node, &clock](const std::string& run, const v1::StartProbe& start,
                               std::function<void(v1::Sample)> emit) -> absl::StatusOr<Handle> {
    ProbeSite site;
    site.run = run;
    if (start.has_endpoint()) site.endpoints[start.endpoint().name()] = start.endpoint();
    for (const v1::Profile& profile : node.spec().profiles())
      site.profiles[profile.name()] = profile;
    site.free_queries = node.spec().policy().free_queries();
    ASSIGN_OR_RETURN(std::unique_ptr<ProbeRunner> runner,
                     ProbeRunner::Start(start.probe(), site, clock, std::move(emit)));
    return Handle(std::move(runner));
  };
  work.leaves = [&node](const v1::PlannedRemedy& planned) -> absl::StatusOr<v1::Leaves> {
    ASSIGN_OR_RETURN(const std::unique_ptr<Remedy> remedy, MakeRemedy(planned.remedy()));
    RETURN_IF_ERROR(remedy->Validate(node));
    return remedy->Leaves(node);
  };
  work.remedy = [&node, journal = std::move(journal)](
                    const std::string& run, const v1::RunRemedy& command, std::stop_token stop) {
    return RunRemedyBlocking(
        command.remedy(), node,
        RemedyContext{run, command.endpoint(), std::move(stop), journal.get()});
  };
  work.subjects = [&node, &clock](const v1::SubjectsAsked& asked) {
    return FindSubjects(asked, node, clock, clock.Boot() + kSubjectsWithin);
  };
  return work;
}

}  // namespace firedrill
