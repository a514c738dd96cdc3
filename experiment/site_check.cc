// An experiment against the site it shall run at.
#include <algorithm>
#include <functional>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/server_error.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "experiment/profile.h"
#include "experiment/reader.h"
#include "experiment/rules.h"
#include "experiment/vocabulary.h"
#include "experiment/walk.h"

namespace firedrill {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using Labels = google::protobuf::Map<std::string, std::string>;

bool ConditionHolds(const v1::LabelCondition& condition, const Labels& labels) {
  auto it = labels.find(condition.key());
  const bool listed = it != labels.end() &&
                      std::find(condition.values().begin(), condition.values().end(), it->second) !=
                          condition.values().end();
  switch (condition.operator_()) {
    case v1::LabelCondition::OPERATOR_IN:
      return listed;
    case v1::LabelCondition::OPERATOR_NOT_IN:
      return !listed;
    case v1::LabelCondition::OPERATOR_EXISTS:
      return it != labels.end();
    case v1::LabelCondition::OPERATOR_DOES_NOT_EXIST:
      return it == labels.end();
    default:
      return false;
  }
}

// The word of a protocol that a profile speaks: the name of its server's arm.
std::string ServerOf(const v1::Profile& profile) {
  const FieldDescriptor* arm = profile.GetReflection()->GetOneofFieldDescriptor(
      profile, profile.GetDescriptor()->FindOneofByName("server"));
  return arm == nullptr ? "" : KeyName(arm);
}

// A port that is opened is all that a tcp probe asks for.
bool NeedsHttp(const FieldDescriptor* field) {
  return field->containing_type() != v1::TcpProbe::descriptor();
}

bool IsHttp(absl::string_view url) {
  return absl::StartsWithIgnoreCase(url, "http://") || absl::StartsWithIgnoreCase(url, "https://");
}

class SiteCheck {
 public:
  SiteCheck(const ExperimentFile& file, const v1::SiteSpec& site)
      : spec_(file.experiment.spec()), site_(site), reporter_(file.text) {
    reporter_.locations() = file.locations;
  }

  std::vector<Problem> Run() {
    CheckEnvironment();
    CheckNamesOfSite();
    CheckPages();
    // A controller's site describes no nodes: they register themselves.
    if (site_.injectors_size() > 0) {
      CheckTargets();
      CheckNodes();
    }
    SortProblems(&reporter_.problems());
    return std::move(reporter_.problems());
  }

 private:
  using Nodes = std::vector<const v1::NodeSpec*>;
  using NamesOfNode = std::function<std::vector<std::string>(const v1::NodeSpec&)>;

  bool Permits(const std::string& environment) const {
    const auto& permitted = spec_.limits().environments();
    return std::find(permitted.begin(), permitted.end(), environment) != permitted.end();
  }

  const std::string& EnvironmentOf(const v1::NodeSpec& node) const {
    return node.environment().empty() ? site_.environment() : node.environment();
  }

  void CheckEnvironment() {
    if (Permits(site_.environment())) return;
    for (const v1::NodeSpec& node : site_.injectors()) {
      if (Permits(EnvironmentOf(node))) return;
    }
    reporter_.AtKey("limits.environments",
                    absl::StrCat("the site's environment is '", site_.environment(),
                                 "', in which this experiment may not run"),
                    "run it elsewhere, or permit the environment here");
  }

  void CheckNamesOfSite() {
    std::vector<std::string> endpoints, receivers;
    for (const v1::Endpoint& endpoint : site_.endpoints()) endpoints.push_back(endpoint.name());
    for (const auto& receiver : site_.webhook().receivers()) receivers.push_back(receiver.name());
    auto find = [&](absl::string_view what, const std::vector<std::string>& known,
                    const std::string& path, const std::string& name) {
      if (std::find(known.begin(), known.end(), name) != known.end()) return;
      reporter_.AtValue(path, absl::StrCat("the site has no ", what, " '", name, "'"),
                        NamesAdvice(name, known));
    };
    ForEachText(spec_, "",
                [&](const FieldDescriptor* field, const Message&, const std::string& path,
                    const std::string& text) {
                  const std::string& kind = RuleOf(field).refers_to();
                  if (kind == "endpoint") find("endpoint", endpoints, path, text);
                  if (kind == "endpoint" && NeedsHttp(field)) CheckHttp(path, text);
                  if (kind == "receiver") find("webhook receiver", receivers, path, text);
                  if (field->containing_type() == v1::PrometheusProbe::descriptor() &&
                      !site_.has_prometheus()) {
                    reporter_.AtKey(path, "the site has no Prometheus to ask",
                                    "add 'prometheus' to the site");
                  }
                });
    if (spec_.expect().alerts_size() > 0 && !site_.has_prometheus()) {
      reporter_.AtKey("expect.alerts", "the site has no Prometheus whose alerts could be seen",
                      "add 'prometheus' to the site");
    }
  }

  void CheckHttp(const std::string& path, const std::string& name) {
    for (const v1::Endpoint& endpoint : site_.endpoints()) {
      if (endpoint.name() != name || IsHttp(endpoint.url())) continue;
      reporter_.AtValue(
          path, absl::StrCat("the endpoint '", name, "' is ", endpoint.url(), ", which is no HTTP"),
          "name an endpoint whose url begins with http:// or https://");
    }
  }

  void CheckPages() {
    if (site_.pages_size() > 0) return;
    for (int i = 0; i < spec_.guardrails_size(); ++i) {
      if (!spec_.guardrails(i).probe().has_page()) continue;
      reporter_.AtKey(ItemPath("guardrails", i) + ".page",
                      "the site does not say which alerts page a person",
                      "add matchers to 'pages' in the site: ['severity=\"page\"']");
    }
  }

  // Nodes that a target could mean, in a permitted environment.
  Nodes NodesOf(const std::string& target) const {
    Nodes nodes;
    for (const v1::Target& candidate : spec_.targets()) {
      if (candidate.name() != target) continue;
      for (const v1::NodeSpec& node : site_.injectors()) {
        if (SelectorMatches(candidate.selector(), node.labels()) && Permits(EnvironmentOf(node))) {
          nodes.push_back(&node);
        }
      }
    }
    return nodes;
  }

  void CheckTargets() {
    for (int i = 0; i < spec_.targets_size(); ++i) {
      const v1::Target& target = spec_.targets(i);
      const size_t found = NodesOf(target.name()).size();
      if (found >= target.count()) continue;
      const std::string path = ItemPath("targets", i);
      reporter_.AtKey(
          found == 0 ? path + ".selector" : path + ".count",
          absl::StrCat("target '", target.name(), "' needs ", target.count(),
                       target.count() == 1 ? " node" : " nodes", "; its selector matches ",
                       found == 0 ? "none" : absl::StrCat(found), " of the site"),
          NodesWords());
    }
  }

  // "the nodes are a {role=app}, b {role=database}".
  std::string NodesWords() const {
    std::vector<std::string> words;
    for (const v1::NodeSpec& node : site_.injectors()) {
      std::vector<std::string> labels;
      for (const auto& [name, value] : node.labels()) labels.push_back(name + "=" + value);
      std::sort(labels.begin(), labels.end());
      std::string word = node.name() + " {";
      for (size_t i = 0; i < labels.size(); ++i) {
        absl::StrAppend(&word, i == 0 ? "" : ", ", labels[i]);
      }
      words.push_back(word + "}");
    }
    return absl::StrCat("the nodes are ", JoinWords(words));
  }

  // What a step needs of a node must be on one at least of those it may be given.
  void Need(const std::string& target, absl::string_view what, const std::string& name,
            const std::string& path, const NamesOfNode& names_of) {
    const Nodes nodes = NodesOf(target);
    if (nodes.empty() || name.empty()) return;
    std::vector<std::string> known;
    for (const v1::NodeSpec* node : nodes) {
      for (std::string& found : names_of(*node)) {
        if (found == name) return;
        known.push_back(std::move(found));
      }
    }
    std::sort(known.begin(), known.end());
    known.erase(std::unique(known.begin(), known.end()), known.end());
    reporter_.AtValue(
        path, absl::StrCat("no node of target '", target, "' has the ", what, " '", name, "'"),
        NamesAdvice(name, known));
  }

  static std::vector<std::string> ProfilesOf(const v1::NodeSpec& node) {
    std::vector<std::string> names;
    for (const v1::Profile& profile : node.profiles()) names.push_back(profile.name());
    return names;
  }

  void CheckNodes() {
    for (int i = 0; i < spec_.faults_size(); ++i) {
      CheckFault(spec_.faults(i), ItemPath("faults", i));
    }
    for (int i = 0; i < spec_.remedies_size(); ++i) {
      CheckRemedy(spec_.remedies(i), ItemPath("remedies", i));
    }
    for (int i = 0; i < spec_.load_size(); ++i) {
      for (const auto& [key, file] : spec_.load(i).load().send_requests().values()) {
        Need(spec_.load(i).target(), "value file", file,
             ItemPath("load", i) + ".sendRequests.values." + key, [](const v1::NodeSpec& node) {
               std::vector<std::string> names;
               for (const v1::ValueFile& values : node.values()) names.push_back(values.name());
               return names;
             });
      }
    }
    ForEachText(spec_, "",
                [&](const FieldDescriptor* field, const Message& owner, const std::string& path,
                    const std::string&) {
                  if (field->containing_type() != v1::SqlProbe::descriptor()) return;
                  if (field->name() != "profile") return;
                  CheckSql(static_cast<const v1::SqlProbe&>(owner), ParentPath(path));
                });
  }

  // The names in a remedy: programs, profiles, and the statements of the profile beside them.
  void CheckRemedy(const v1::RemedyStep& step, const std::string& path) {
    const v1::Remedy& remedy = step.remedy();
    const FieldDescriptor* kind = remedy.GetReflection()->GetOneofFieldDescriptor(
        remedy, remedy.GetDescriptor()->FindOneofByName("kind"));
    if (kind == nullptr) return;
    const std::string kind_path = absl::StrCat(path, ".", KeyName(kind));
    if (remedy.has_promote_replica()) CheckFencedFaults(step, kind_path + ".refuseSessions");
    std::string profile;
    ForEachText(remedy.GetReflection()->GetMessage(remedy, kind), kind_path,
                [&](const FieldDescriptor* field, const Message&, const std::string& name_path,
                    const std::string& name) {
                  const std::string& what = RuleOf(field).refers_to();
                  if (what == "program") Need(step.target(), what, name, name_path, ProgramsOf);
                  if (what == "profile") {
                    profile = name;
                    CheckProfile(step.target(), name, name_path);
                  }
                  if (what != "remedyStatement") return;
                  if (reporter_.HasProblem(kind_path + ".profile")) return;
                  Need(step.target(), "remedy statement", name, name_path,
                       [&](const v1::NodeSpec& node) { return RemedyStatements(node, profile); });
                });
  }

  // The same server under another name.
  void CheckFencedFaults(const v1::RemedyStep& step, const std::string& path) {
    const v1::PromoteReplica& promotion = step.remedy().promote_replica();
    if (!promotion.refuse_sessions()) return;
    const std::set<std::string> fenced = AddressesOf(step.target(), promotion.old_primary());
    for (const v1::FaultStep& fault : spec_.faults()) {
      if (!NeedsSessionAfter(fault, FromProto(step.at()))) continue;
      for (const std::string& address : AddressesOf(fault.target(), ProfileOf(fault.fault()))) {
        if (fenced.count(address) == 0 || reporter_.HasProblem(path)) continue;
        reporter_.AtValue(path, FencedFault(fault.name()), kFencedFaultHelp);
      }
    }
  }

  // Of the PostgreSQL servers that a profile may mean.
  std::set<std::string> AddressesOf(const std::string& target, const std::string& name) const {
    std::set<std::string> addresses;
    for (const v1::NodeSpec* node : NodesOf(target)) {
      for (const v1::Profile& profile : node->profiles()) {
        if (profile.name() != name || !profile.has_postgresql()) continue;
        const v1::PostgresqlServer& server = profile.postgresql();
        const std::string& host = server.host();
        // Each machine has these itself.
        const bool own = host.empty() || absl::StartsWith(host, "/") || host == "localhost" ||
                         absl::StartsWith(host, "127.") || host == "::1";
        addresses.insert(absl::StrCat(own ? node->name() : host, ":",
                                      server.port() == 0 ? 5432 : server.port()));
      }
    }
    return addresses;
  }

  // Of what speaks to PostgreSQL only: remedies, and probes by `sql`.
  void CheckProfile(const std::string& target, const std::string& name, const std::string& path,
                    const std::string& who = "this remedy is") {
    Need(target, "profile", name, path, ProfilesOf);
    for (const v1::NodeSpec* node : NodesOf(target)) {
      for (const v1::Profile& profile : node->profiles()) {
        if (profile.name() != name || profile.has_postgresql()) continue;
        if (reporter_.HasProblem(path)) return;
        reporter_.AtValue(path,
                          absl::StrCat("profile '", name, "' of node '", node->name(), "' is a ",
                                       ServerOf(profile), " server"),
                          absl::StrCat(who, " for PostgreSQL"));
      }
    }
  }

  static std::vector<std::string> SubjectsOf(const v1::NodeSpec& node) {
    std::vector<std::string> names;
    for (const v1::HostSubject& subject : node.subjects()) names.push_back(subject.name());
    return names;
  }

  static std::vector<std::string> ProgramsOf(const v1::NodeSpec& node) {
    std::vector<std::string> names;
    for (const v1::Program& program : node.programs()) names.push_back(program.name());
    return names;
  }

  static std::vector<std::string> RemedyStatements(const v1::NodeSpec& node,
                                                   const std::string& profile_name) {
    std::vector<std::string> names;
    for (const v1::Profile& profile : node.profiles()) {
      if (profile.name() != profile_name) continue;
      for (const auto& statement : profile.remedy_statements()) names.push_back(statement.name());
    }
    return names;
  }

  static std::vector<std::string> StatementsOf(const v1::NodeSpec& node,
                                               const std::string& profile_name) {
    std::vector<std::string> names;
    for (const v1::Profile& profile : node.profiles()) {
      if (profile.name() != profile_name) continue;
      for (const v1::Statement& statement : profile.statements()) names.push_back(statement.name());
    }
    return names;
  }

  void CheckFault(const v1::FaultStep& step, const std::string& path) {
    const v1::Fault& fault = step.fault();
    const FieldDescriptor* kind = fault.GetReflection()->GetOneofFieldDescriptor(
        fault, fault.GetDescriptor()->FindOneofByName("kind"));
    if (kind == nullptr) return;
    const Message& body = fault.GetReflection()->GetMessage(fault, kind);
    const std::string kind_path = absl::StrCat(path, ".", KeyName(kind));
    const FieldDescriptor* subject = body.GetDescriptor()->FindFieldByName("subject");
    if (subject != nullptr) {
      Need(step.target(), "subject", body.GetReflection()->GetString(body, subject),
           kind_path + ".subject", SubjectsOf);
    }
    const FieldDescriptor* profile = body.GetDescriptor()->FindFieldByName("profile");
    if (profile == nullptr) return;
    const std::string name = body.GetReflection()->GetString(body, profile);
    Need(step.target(), "profile", name, kind_path + ".profile", ProfilesOf);
    const FieldDescriptor* statement = body.GetDescriptor()->FindFieldByName("statement");
    if (statement != nullptr && !reporter_.HasProblem(kind_path + ".profile")) {
      Need(step.target(), "statement", body.GetReflection()->GetString(body, statement),
           kind_path + ".statement",
           [&](const v1::NodeSpec& node) { return StatementsOf(node, name); });
    }
    const bool matches = body.GetDescriptor()->FindFieldByName("match") != nullptr;
    // A goodbye that is encrypted cannot be kept from the server.
    if (matches || fault.has_leak_connections()) {
      CheckLookedInto(step.target(), name, matches, kind_path);
    }
    if (fault.has_fail_queries()) CheckError(step.target(), fault.fail_queries(), kind_path);
    const FieldDescriptor* protocol = body.GetDescriptor()->FindFieldByName("protocol");
    if (protocol == nullptr) return;
    CheckProtocol(step.target(), name, body.GetReflection()->GetEnum(body, protocol)->number(),
                  protocol, kind_path);
  }

  // Requests are told apart where their protocol is known.
  void CheckLookedInto(const std::string& target, const std::string& profile_name, bool matches,
                       const std::string& path) {
    for (const v1::NodeSpec* node : NodesOf(target)) {
      for (const v1::Profile& profile : node->profiles()) {
        if (profile.name() != profile_name) continue;
        const std::string& tls = profile.postgresql().ssl_mode();
        const bool encrypted = tls == "require" || absl::StartsWith(tls, "verify");
        if (!(matches && profile.has_tcp()) && !encrypted) continue;
        reporter_.AtValue(
            path + ".profile",
            absl::StrCat("profile '", profile_name, "' of node '", node->name(),
                         encrypted ? absl::StrCat("' says 'sslMode: ", tls,
                                                  "': nobody looks into what is encrypted")
                                   : "' is a tcp server: nobody looks into its requests"),
            absl::StrCat(encrypted ? "name a profile whose clients are not encrypted"
                                   : "give the profile the server's own protocol",
                         ", or use delayBytes, stallConnections or the like"));
        return;
      }
    }
  }

  void CheckError(const std::string& target, const v1::FailQueries& fault,
                  const std::string& path) {
    if (fault.error().empty() || reporter_.HasProblem(path + ".error")) return;
    for (const v1::NodeSpec* node : NodesOf(target)) {
      for (const v1::Profile& profile : node->profiles()) {
        if (profile.name() != fault.profile()) continue;
        const v1::Protocol protocol = ProtocolOf(profile);
        const std::string why = WhyNoError(protocol, fault.error());
        if (why.empty()) continue;
        reporter_.AtValue(
            path + ".error",
            absl::StrCat(fault.error(), " ", why, "; profile '", fault.profile(), "' of node '",
                         node->name(), "' is a ", ServerOf(profile), " server"),
            absl::StrCat("write ", ErrorAdvice(protocol, fault.error())));
        return;
      }
    }
  }

  void CheckProtocol(const std::string& target, const std::string& profile_name, int protocol,
                     const FieldDescriptor* field, const std::string& path) {
    std::string word;
    std::vector<std::string> known;
    for (const EnumWord& candidate : WordsOf(field)) {
      known.push_back(candidate.word);
      if (candidate.value->number() == protocol) word = candidate.word;
    }
    for (const v1::NodeSpec* node : NodesOf(target)) {
      for (const v1::Profile& profile : node->profiles()) {
        if (profile.name() != profile_name || ServerOf(profile) == word) continue;
        const std::string is = ServerOf(profile);
        const bool has = std::find(known.begin(), known.end(), is) != known.end();
        // Where the protocol was left out, the profile is what was written.
        const std::string given = path + ".protocol";
        reporter_.AtValue(reporter_.IsGiven(given) ? given : path + ".profile",
                          absl::StrCat("profile '", profile_name, "' of node '", node->name(),
                                       "' is a ", is, " server, not ", word),
                          absl::StrCat("name another profile", has ? ", or write 'protocol: " : "",
                                       has ? is + "'" : "; this fault is for " + JoinWords(known)));
        return;
      }
    }
  }

  void CheckSql(const v1::SqlProbe& sql, const std::string& path) {
    CheckProfile(sql.from(), sql.profile(), path + ".profile", "'sql' is");
    if (reporter_.HasProblem(path + ".profile")) return;
    Need(sql.from(), "statement", sql.statement(), path + ".statement",
         [&](const v1::NodeSpec& node) {
           std::vector<std::string> names;
           for (const v1::Profile& profile : node.profiles()) {
             if (profile.name() != sql.profile()) continue;
             for (const v1::Statement& statement : profile.statements()) {
               names.push_back(statement.name());
             }
           }
           return names;
         });
    if (!sql.has_query()) return;
    for (const v1::NodeSpec* node : NodesOf(sql.from())) {
      if (node->policy().free_queries()) return;
    }
    reporter_.AtKey(path + ".query",
                    absl::StrCat("no node of target '", sql.from(), "' permits free queries"),
                    "name a statement of its profile, or set policy.freeQueries on the node");
  }

  const v1::ExperimentSpec& spec_;
  const v1::SiteSpec& site_;
  Reporter reporter_;
};

}  // namespace

bool SelectorMatches(const v1::Selector& selector, const Labels& labels) {
  for (const auto& [name, value] : selector.match_labels()) {
    auto it = labels.find(name);
    if (it == labels.end() || it->second != value) return false;
  }
  return std::all_of(
      selector.match_expressions().begin(), selector.match_expressions().end(),
      [&](const v1::LabelCondition& condition) { return ConditionHolds(condition, labels); });
}

std::vector<Problem> CheckAgainstSite(const ExperimentFile& experiment, const v1::SiteSpec& site) {
  return SiteCheck(experiment, site).Run();
}

}  // namespace firedrill
