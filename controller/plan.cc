// From a definition, a site, the nodes and a seed to what would happen: the order in which it is
// found out.
#include "controller/plan.h"

#include "controller/plan_parts.h"

namespace firedrill {

v1::Plan MakePlan(const PlanInput& input) {
  v1::Plan plan;
  plan.set_run(input.run);
  plan.set_seed(input.seed);
  planning::ChooseNodes(input, plan);
  planning::PlanSteps(input, plan);
  planning::PlanQuestions(input, plan);
  planning::PlanTimes(input, plan);
  planning::PlanAlerts(input, plan);
  planning::CheckNodes(input, plan);
  planning::CheckOverlaps(plan);
  return plan;
}

}  // namespace firedrill
