// What one seed means.
#include "tests/simulation/scenario.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/time_proto.h"
#include "tests/simulation/dice.h"

namespace firedrill::simulation {
namespace {

using absl::Milliseconds;
using absl::Seconds;

v1::Site DrawSite(Dice& dice) {
  v1::Site site;
  site.set_api_version("firedrill/v1");
  site.set_kind("Site");
  site.mutable_metadata()->set_name("simulated");
  v1::SiteSpec& spec = *site.mutable_spec();
  spec.set_environment("lab");
  spec.add_pages("severity=\"page\"");
  v1::Endpoint& endpoint = *spec.add_endpoints();
  endpoint.set_name("shop");
  endpoint.set_url("http://127.0.0.1:1");
  const size_t nodes = 1 + dice.Below(3);
  for (size_t i = 0; i < nodes; ++i) {
    v1::NodeSpec& node = *spec.add_injectors();
    node.set_name(absl::StrCat("node-", i));
    node.set_environment("lab");
    (*node.mutable_labels())["role"] = "database";
    (*node.mutable_labels())["number"] = absl::StrCat(i);
    for (int p = 0; p < 3; ++p) {
      v1::Profile& profile = *node.add_profiles();
      profile.set_name(absl::StrCat("profile-", p));
      profile.mutable_postgresql()->set_host("127.0.0.1");
      profile.mutable_postgresql()->set_user("shop");
      profile.add_statements()->set_name("sessions");
    }
    v1::Program& program = *node.add_programs();
    program.set_name("restart");
    program.set_path("/usr/bin/restart");
    program.set_leaves(v1::LEAVES_NOTHING);
    *program.mutable_timeout() = ToProto(Seconds(5));
    node.mutable_policy()->set_until_lease(!dice.Chance(0.05));
    if (dice.Chance(0.05)) *node.mutable_policy()->mutable_max_duration() = ToProto(Seconds(3));
  }
  return site;
}

void AddTargets(v1::ExperimentSpec& spec, size_t nodes) {
  for (size_t i = 0; i < nodes; ++i) {
    v1::Target& target = *spec.add_targets();
    target.set_name(absl::StrCat("target-", i));
    (*target.mutable_selector()->mutable_match_labels())["number"] = absl::StrCat(i);
    target.set_count(1);
  }
  v1::Target& all = *spec.add_targets();
  all.set_name("all");
  (*all.mutable_selector()->mutable_match_labels())["role"] = "database";
  all.set_count(static_cast<uint32_t>(nodes));
}

std::string DrawTarget(Dice& dice, size_t nodes) {
  return dice.Chance(0.25) ? "all" : absl::StrCat("target-", dice.Below(nodes));
}

void AddFault(Dice& dice, size_t number, size_t nodes, Scenario& scenario) {
  v1::FaultStep& step = *scenario.experiment.mutable_spec()->add_faults();
  step.set_name(absl::StrCat("fault-", number));
  step.set_target(DrawTarget(dice, nodes));
  *step.mutable_at() = ToProto(dice.Between(Seconds(0), Seconds(5)));
  *step.mutable_lease() = ToProto(dice.Between(Seconds(2), Seconds(8)));
  if (dice.Chance(0.3)) step.set_on_controller_loss(v1::ON_CONTROLLER_LOSS_UNTIL_LEASE);
  FaultTemper& temper = scenario.tempers[step.name()];
  if (dice.Chance(0.2)) {
    step.mutable_fault()->mutable_terminate_sessions()->set_profile(
        absl::StrCat("profile-", number));
    step.mutable_fault()->mutable_terminate_sessions()->set_user("shop");
  } else {
    v1::HoldConnections& hold = *step.mutable_fault()->mutable_hold_connections();
    hold.set_profile(absl::StrCat("profile-", number));
    hold.set_count(5);
    *step.mutable_duration() = ToProto(dice.Between(Seconds(2), Seconds(12)));
    temper.lasting = dice.Chance(0.5);
  }
  temper.observations_until_reached = static_cast<int>(dice.Below(8));
  temper.fails_to_prepare = dice.Chance(0.02);
  temper.fails_to_apply = dice.Chance(0.04);
  if (dice.Chance(0.15)) {
    temper.unseen_from = dice.Between(Seconds(2), Seconds(10));
    temper.unseen_until = temper.unseen_from + dice.Between(Milliseconds(200), Seconds(5));
  }
  if (dice.Chance(0.1)) {
    temper.stuck_from = dice.Between(Seconds(2), Seconds(12));
    // Long enough, now and then, to be told as stuck and to be tried again.
    temper.stuck_until = temper.stuck_from + dice.Between(Milliseconds(200), Seconds(14));
    temper.stuck_in_undo = temper.lasting && dice.Chance(0.5);
  }
}

void SetHttp(v1::Probe& probe) {
  probe.mutable_http()->set_endpoint("shop");
  probe.mutable_http()->set_path("/health");
}

void AddQuestions(Dice& dice, size_t nodes, Scenario& scenario) {
  v1::ExperimentSpec& spec = *scenario.experiment.mutable_spec();
  if (dice.Chance(0.5)) {
    v1::LoadStep& load = *spec.add_load();
    load.set_name("shoppers");
    load.set_target(absl::StrCat("target-", dice.Below(nodes)));
    v1::SendRequests& send = *load.mutable_load()->mutable_send_requests();
    send.set_endpoint("shop");
    send.set_rate(10);
    for (const char* name : {"login", "images"}) {
      v1::RequestShape& request = *send.add_requests();
      request.set_name(name);
      request.set_path("/");
    }
    v1::SteadyState& check = *spec.add_steady_state();
    check.set_name("logins");
    check.mutable_probe()->set_load("shoppers");
    check.mutable_probe()->set_request("login");
    check.set_is("ok >= 99%");
    *check.mutable_over() = ToProto(Seconds(1));
    *check.mutable_for_() = ToProto(Seconds(1));
  }
  v1::SteadyState& up = *spec.add_steady_state();
  up.set_name("up");
  SetHttp(*up.mutable_probe());
  up.set_is("status == 200");
  *up.mutable_for_() = ToProto(dice.Between(Seconds(0), Seconds(2)));
  if (dice.Chance(0.6)) {
    v1::Guardrail& gone = *spec.add_guardrails();
    gone.set_name("gone");
    SetHttp(*gone.mutable_probe());
    gone.set_is("status == 200");
    *gone.mutable_breached_for() = ToProto(dice.Between(Seconds(0), Seconds(2)));
  }
  if (dice.Chance(0.6)) {
    v1::Guardrail& page = *spec.add_guardrails();
    page.set_name("unexpected-page");
    page.mutable_probe()->set_page("unexpected");
  }
  if (dice.Chance(0.4)) {
    v1::RemedyStep& remedy = *spec.add_remedies();
    remedy.set_name("restart");
    remedy.set_target(absl::StrCat("target-", dice.Below(nodes)));
    *remedy.mutable_at() = ToProto(dice.Between(Seconds(1), Seconds(8)));
    remedy.mutable_remedy()->mutable_run_program()->set_program("restart");
  }
}

void AddExpectations(Dice& dice, size_t nodes, Scenario& scenario) {
  v1::Expectations& expect = *scenario.experiment.mutable_spec()->mutable_expect();
  v1::AlertExpectation& alert = *expect.add_alerts();
  alert.set_name("paged");
  alert.set_alert("SlotsFull");
  alert.set_since("fault-0.reached");
  *alert.mutable_firing_within() = ToProto(Seconds(3));
  alert.mutable_resolved()->set_since("fault-0.end");
  *alert.mutable_resolved()->mutable_within() = ToProto(Seconds(3));
  expect.add_must_not_fire("Unrelated");
  v1::RecoveryExpectation& back = *expect.add_recovery();
  back.set_name("back");
  back.mutable_probe()->set_probe("up");
  back.set_since("fault-0.end");
  *back.mutable_within() = ToProto(Seconds(2));
  *back.mutable_for_() = ToProto(dice.Between(Seconds(0), Seconds(2)));
  if (dice.Chance(0.4)) {
    v1::RecoveryExpectation& left = *expect.add_recovery();
    left.set_name("left");
    v1::SqlProbe& sql = *left.mutable_probe()->mutable_sql();
    sql.set_from(absl::StrCat("target-", dice.Below(nodes)));
    sql.set_profile("profile-0");
    sql.set_statement("sessions");
    left.set_is("== 0");
    left.set_since("fault-0.end");
    *left.mutable_within() = ToProto(Seconds(2));
  }
}

void AddDisturbances(Dice& dice, Scenario& scenario) {
  // A quarter of all runs are left alone.
  const size_t count = dice.Chance(0.25) ? 0 : 1 + dice.Below(4);
  for (size_t i = 0; i < count; ++i) {
    Disturbance& one = scenario.disturbances.emplace_back();
    one.what = static_cast<Trouble>(dice.Below(kTroubles));
    // Most of them while faults are on.
    one.at = dice.Between(dice.Chance(0.8) ? Seconds(4) : Milliseconds(100), Seconds(18));
    one.length = dice.Between(Milliseconds(50), Seconds(9));
    one.node = dice.Below(scenario.nodes());
    one.amount = dice.Share();
  }
  std::stable_sort(scenario.disturbances.begin(), scenario.disturbances.end(),
                   [](const Disturbance& a, const Disturbance& b) { return a.at < b.at; });
}

}  // namespace

const char* TroubleName(Trouble trouble) {
  static const char* const kNames[kTroubles] = {"cut link",
                                                "unreachable",
                                                "stalled link",
                                                "injector killed",
                                                "injector killed in a write",
                                                "both killed",
                                                "injector ended",
                                                "injector frozen",
                                                "disk full",
                                                "node's clock jumps",
                                                "controller's clock jumps",
                                                "controller killed",
                                                "controller frozen",
                                                "taken over",
                                                "store fails",
                                                "operator's stop",
                                                "controller ended",
                                                "STOP file",
                                                "somebody else",
                                                "system breaks",
                                                "samples late",
                                                "samples unknown",
                                                "samples missing"};
  return kNames[static_cast<int>(trouble)];
}

Scenario DrawScenario(uint64_t seed) {
  Dice dice(seed * 0x9e3779b97f4a7c15 + 1);
  Scenario scenario;
  scenario.seed = seed;
  scenario.site = DrawSite(dice);
  scenario.experiment.set_api_version("firedrill/v1");
  scenario.experiment.set_kind("Experiment");
  scenario.experiment.mutable_metadata()->set_name("simulated");
  v1::ExperimentSpec& spec = *scenario.experiment.mutable_spec();
  spec.set_hypothesis("Whatever happens, nothing stays behind.");
  spec.mutable_limits()->add_environments("lab");
  *spec.mutable_limits()->mutable_max_duration() = ToProto(Seconds(dice.Chance(0.1) ? 12 : 60));
  AddTargets(spec, scenario.nodes());
  const size_t faults = 1 + dice.Below(3);
  for (size_t i = 0; i < faults; ++i) AddFault(dice, i, scenario.nodes(), scenario);
  AddQuestions(dice, scenario.nodes(), scenario);
  AddExpectations(dice, scenario.nodes(), scenario);
  AddDisturbances(dice, scenario);
  scenario.grace = dice.Between(Milliseconds(200), Milliseconds(800));
  scenario.ping_every = dice.Chance(0.5) ? Milliseconds(500) : Seconds(1);
  scenario.slowness =
      dice.Chance(0.5) ? absl::ZeroDuration() : dice.Between(Milliseconds(1), Milliseconds(300));
  scenario.circumstance = dice.Chance(0.02);
  scenario.defect = dice.Chance(0.02);
  scenario.unexpected_page = dice.Chance(0.05);
  scenario.controllers_see_epochs = !dice.Chance(0.25);
  return scenario;
}

}  // namespace firedrill::simulation
