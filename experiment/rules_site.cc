// Rules of a site file: what nodes refer to, the webhook's address, policies.
#include <map>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "experiment/address.h"
#include "experiment/rules.h"
#include "experiment/vocabulary.h"
#include "firedrill/v1/fault.pb.h"
#include "firedrill/v1/load.pb.h"
#include "firedrill/v1/remedy.pb.h"

namespace firedrill {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;

std::vector<std::string> KindNames(const Descriptor* type) {
  std::vector<std::string> names;
  for (int i = 0; i < type->field_count(); ++i) names.push_back(KeyName(type->field(i)));
  return names;
}

// "holdConnections.count" and its like.
std::vector<std::string> MagnitudeNames() {
  std::vector<std::string> names;
  for (const Descriptor* type : {v1::Fault::descriptor(), v1::Load::descriptor()}) {
    for (int i = 0; i < type->field_count(); ++i) {
      const Descriptor* kind = type->field(i)->message_type();
      for (int j = 0; j < kind->field_count(); ++j) {
        if (!RuleOf(kind->field(j)).magnitude()) continue;
        names.push_back(absl::StrCat(KeyName(type->field(i)), ".", KeyName(kind->field(j))));
      }
    }
  }
  return names;
}

class SiteRules {
 public:
  SiteRules(const v1::SiteSpec& spec, Reporter* reporter, bool knows_endpoints = true)
      : spec_(spec), reporter_(*reporter), knows_endpoints_(knows_endpoints) {}

  void CheckWebhook() {
    if (!spec_.has_webhook() || reporter_.HasProblem("webhook.listen")) return;
    std::map<std::string, std::string> paths;
    absl::StatusOr<Address> listen = ParseListenAddress(spec_.webhook().listen());
    if (!listen.ok() && !spec_.webhook().listen().empty()) {
      reporter_.AtValue(
          "webhook.listen",
          absl::StrCat("'", spec_.webhook().listen(), "': ", listen.status().message()),
          "write an address and a port: 127.0.0.1:9099");
    }
    for (int i = 0; i < spec_.webhook().receivers_size(); ++i) {
      const v1::WebhookReceiver& receiver = spec_.webhook().receivers(i);
      const std::string path = ItemPath("webhook.receivers", i);
      if (listen.ok() && !IsLoopback(*listen) && !receiver.has_token() &&
          !reporter_.IsGiven(path + ".token")) {
        reporter_.AtKey(path,
                        absl::StrCat("'", path,
                                     "' needs the key 'token': the webhook "
                                     "listens beyond this machine"),
                        "give each receiver a token, or listen on 127.0.0.1");
      }
      if (receiver.path().empty()) continue;
      auto [it, is_new] = paths.emplace(receiver.path(), path + ".path");
      if (is_new) continue;
      reporter_.AtValue(
          path + ".path", absl::StrCat("the path '", receiver.path(), "' is used twice"),
          absl::StrCat("it stands in line ", reporter_.LineOf(it->second), " already"));
    }
  }

  void CheckMonitoring() {
    if (spec_.has_prometheus()) CheckServer(spec_.prometheus(), "prometheus");
    if (!spec_.has_prometheus() && !spec_.prometheus_replicas().empty()) {
      reporter_.AtKey("prometheusReplicas", "'prometheusReplicas' needs the key 'prometheus'",
                      "name the first of them there");
    }
    for (int i = 0; i < spec_.prometheus_replicas_size(); ++i) {
      CheckServer(spec_.prometheus_replicas(i), ItemPath("prometheusReplicas", i));
    }
    for (int i = 0; i < spec_.alertmanagers_size(); ++i) {
      CheckServer(spec_.alertmanagers(i), ItemPath("alertmanagers", i));
    }
  }

  void CheckNode(const v1::NodeSpec& node, const std::string& path) {
    std::vector<std::string> endpoints, profiles;
    for (const v1::Endpoint& endpoint : spec_.endpoints()) endpoints.push_back(endpoint.name());
    for (const v1::Profile& profile : node.profiles()) profiles.push_back(profile.name());
    if (knows_endpoints_) FindAll(node.endpoints(), path + ".endpoints", "endpoint", endpoints);
    const v1::Policy& policy = node.policy();
    FindAll(policy.profiles(), path + ".policy.profiles", "profile", profiles);
    FindAll(policy.faults(), path + ".policy.faults", "kind of fault",
            KindNames(v1::Fault::descriptor()));
    FindAll(policy.remedies(), path + ".policy.remedies", "kind of remedy",
            KindNames(v1::Remedy::descriptor()));
    FindAll(policy.loads(), path + ".policy.loads", "kind of load",
            KindNames(v1::Load::descriptor()));
    CheckBounds(policy.at_most(), path + ".policy.atMost.");
    CheckBounds(policy.at_least(), path + ".policy.atLeast.");
    for (int i = 0; i < policy.hours_size(); ++i) {
      if (policy.hours(i).from().empty() || policy.hours(i).from() != policy.hours(i).to())
        continue;
      reporter_.AtValue(ItemPath(path + ".policy.hours", i) + ".to",
                        "a window that ends when it begins is no window",
                        "leave 'hours' out to permit any time");
    }
  }

 private:
  void CheckServer(const v1::MonitoringServer& server, const std::string& path) {
    if (absl::StartsWith(server.url(), "http://")) {
      for (const char* key : {"caFile", "identity"}) {
        if (!reporter_.IsGiven(absl::StrCat(path, ".", key))) continue;
        reporter_.AtKey(absl::StrCat(path, ".", key),
                        absl::StrCat("'", path, ".", key, "' is for https, and the url says http"),
                        "write https:// in front of the url, or leave the key out");
      }
    }
    std::set<std::string> names;
    for (int i = 0; i < server.headers_size(); ++i) {
      const std::string at = ItemPath(path + ".headers", i) + ".name";
      const std::string name = absl::AsciiStrToLower(server.headers(i).name());
      if (name.empty() || reporter_.HasProblem(at)) continue;
      if (name == "authorization") {
        // What stands there is a secret.
        const std::string value = ItemPath(path + ".headers", i) + ".value";
        reporter_.AtSecret(
            reporter_.IsGiven(value) ? value : at,
            "'Authorization' is what 'token' and 'basic' are for",
            "write token: {file: ...}, or basic: {user: ..., password: {file: ...}}");
      } else if (name == "host" || name == "content-length" || name == "transfer-encoding") {
        reporter_.AtValue(
            at, absl::StrCat("'", server.headers(i).name(), "' belongs to the exchange itself"));
      } else if (!names.insert(name).second) {
        reporter_.AtValue(
            at, absl::StrCat("the header '", server.headers(i).name(), "' is given twice"));
      }
    }
  }

  void CheckBounds(const google::protobuf::Map<std::string, double>& bounds,
                   const std::string& path) {
    const std::vector<std::string> magnitudes = MagnitudeNames();
    for (const auto& [name, bound] : bounds) {
      if (std::find(magnitudes.begin(), magnitudes.end(), name) == magnitudes.end()) {
        reporter_.AtKey(path + name, absl::StrCat("no magnitude is named '", name, "'"),
                        NamesAdvice(name, magnitudes));
      } else if (bound < 0) {
        reporter_.AtValue(path + name, absl::StrCat("'", name, "' cannot be below 0"));
      }
    }
  }

  template <typename List>
  void FindAll(const List& names, const std::string& path, absl::string_view what,
               const std::vector<std::string>& known) {
    for (int i = 0; i < names.size(); ++i) {
      const std::string item = ItemPath(path, i);
      if (names[i].empty() || reporter_.HasProblem(item)) continue;
      if (std::find(known.begin(), known.end(), names[i]) != known.end()) continue;
      reporter_.AtValue(item, absl::StrCat("no ", what, " is named '", names[i], "'"),
                        NamesAdvice(names[i], known));
    }
  }

  const v1::SiteSpec& spec_;
  Reporter& reporter_;
  const bool knows_endpoints_;
};

}  // namespace

void CheckSiteRules(const v1::Site& site, Reporter* reporter) {
  SiteRules rules(site.spec(), reporter);
  rules.CheckMonitoring();
  rules.CheckWebhook();
  for (int i = 0; i < site.spec().injectors_size(); ++i) {
    rules.CheckNode(site.spec().injectors(i), ItemPath("injectors", i));
  }
}

void CheckInjectorRules(const v1::Injector& injector, Reporter* reporter) {
  const v1::SiteSpec elsewhere;
  SiteRules(elsewhere, reporter, false).CheckNode(injector.spec().node(), "node");
}

}  // namespace firedrill
