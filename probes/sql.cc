// Probe sql: one number from a database, through a profile of the node.
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "probes/probe.h"
#include "probes/sql_session.h"

namespace firedrill {
namespace {

class SqlProbe final : public Probe {
 public:
  SqlProbe(v1::SqlProbe probe, const ProbeSite& site)
      : probe_(std::move(probe)), run_(site.run), free_queries_(site.free_queries) {
    const auto profile = site.profiles.find(probe_.profile());
    if (profile != site.profiles.end()) profile_ = profile->second;
    for (const auto& [name, known] : site.profiles) names_.push_back(name);
    if (const v1::Statement* statement = FindStatement(); statement != nullptr) {
      for (const std::string& parameter : statement->parameters()) {
        if (parameter == "run") parameters_.push_back(run_);
      }
      sql_ = statement->sql();
    } else {
      sql_ = probe_.query();
    }
    // Faults name their sessions firedrill:<run>:<fault>; ours must not be counted among them.
    session_ =
        std::make_unique<SqlSession>(profile_.postgresql(), absl::StrCat("firedrill-probe:", run_));
  }

  absl::Status Validate() const override {
    if (names_.empty()) {
      return absl::FailedPreconditionError(
          "a sql probe is asked on a node with profiles, and here are none; check `from`");
    }
    if (profile_.name().empty()) {
      return absl::NotFoundError(
          absl::StrCat("no profile '", probe_.profile(), "' here; there is ", JoinWords(names_)));
    }
    if (!profile_.has_postgresql()) {
      return absl::InvalidArgumentError(
          absl::StrCat("profile '", probe_.profile(), "' has no database"));
    }
    if (probe_.what_case() == v1::SqlProbe::kQuery && !free_queries_) {
      return absl::PermissionDeniedError(absl::StrCat(
          "this node's policy permits no free queries; name one of the statements of profile '",
          probe_.profile(), "'"));
    }
    const v1::Statement* statement = FindStatement();
    if (probe_.what_case() == v1::SqlProbe::kStatement && statement == nullptr) {
      std::vector<std::string> names;
      for (const v1::Statement& known : profile_.statements()) names.push_back(known.name());
      return absl::NotFoundError(
          absl::StrCat("no statement '", probe_.statement(), "' in profile '", probe_.profile(),
                       "'; there is ", names.empty() ? std::string("none") : JoinWords(names)));
    }
    if (statement != nullptr &&
        parameters_.size() != static_cast<size_t>(statement->parameters_size())) {
      return absl::InvalidArgumentError(
          absl::StrCat("statement '", probe_.statement(), "' has a parameter other than `run`"));
    }
    if (sql_.empty()) return absl::InvalidArgumentError("the statement is empty");
    return absl::OkStatus();
  }

  absl::StatusOr<ProbeValues> Read(const ProbeContext& context) override {
    const SqlSession::Patience patience{context.clock.Boot() + context.deadline, context.stop};
    ASSIGN_OR_RETURN(const std::optional<std::string> text,
                     session_->Ask(sql_, parameters_, patience));
    if (!text.has_value()) return absl::NotFoundError("the statement returns NULL");
    if (*text == "t" || *text == "f") return ProbeValues{{"value", *text == "t" ? 1 : 0}};
    double value = 0;
    if (!absl::SimpleAtod(*text, &value) || value != value) {
      return absl::FailedPreconditionError(
          absl::StrCat("the statement returns '", text->substr(0, 80), "', not a number"));
    }
    return ProbeValues{{"value", value}};
  }

 private:
  const v1::Statement* FindStatement() const {
    for (const v1::Statement& statement : profile_.statements()) {
      if (!probe_.statement().empty() && statement.name() == probe_.statement()) return &statement;
    }
    return nullptr;
  }

  const v1::SqlProbe probe_;
  const std::string run_;
  const bool free_queries_;
  v1::Profile profile_;
  std::vector<std::string> names_;
  std::string sql_;
  std::vector<std::string> parameters_;
  std::unique_ptr<SqlSession> session_;
};

const ProbeRegistration kSql(v1::Probe::kSql,
                             [](const v1::Probe& probe,
                                const ProbeSite& site) -> absl::StatusOr<std::unique_ptr<Probe>> {
                               return std::make_unique<SqlProbe>(probe.sql(), site);
                             });

}  // namespace
}  // namespace firedrill
