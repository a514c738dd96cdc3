// The lever over HTTPS.
#include "controller/lever_port.h"

#include <spdlog/spdlog.h>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "base/secret.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "experiment/address.h"
#include "identity/caller.h"

namespace firedrill {
namespace {

constexpr char kPath[] = "/stop";
constexpr size_t kShortestToken = 16;
constexpr uint64_t kLongestReason = 4096;
constexpr size_t kMostConnections = 192;
constexpr absl::Duration kPatience = absl::Seconds(5);

HttpReply Said(int status, const nlohmann::json& words) {
  // What somebody has put into the file by hand may be no UTF-8.
  const std::string text = words.dump(2, ' ', false, nlohmann::json::error_handler_t::replace);
  return {.status = status, .body = text + "\n", .headers = {{"Content-Type", "application/json"}}};
}

HttpReply Refused(int status, absl::string_view why) {
  return Said(status, {{"error", std::string(why)}});
}

nlohmann::json Words(const Pull& pull) {
  return {
      {"pulled", true},
      {"by", pull.by},
      {"reason", pull.reason},
      {"since", firedrill::FormatTime(pull.at)},
      {"next", "firedrill unlock --reason ..., by an admin, once nothing may go wrong any more"}};
}

}  // namespace

absl::StatusOr<std::unique_ptr<LeverPort>> LeverPort::Start(const v1::StopListener& spec,
                                                            const IdentityFiles& identity,
                                                            const std::string& domain,
                                                            const Revocations& revocations,
                                                            Lever& lever) {
  std::unique_ptr<LeverPort> self(new LeverPort(spec, domain, revocations, lever));
  RETURN_IF_ERROR(Annotate(self->ReadToken(), "stop.tokenFile"));
  const absl::StatusOr<Address> at = ParseListenAddress(spec.listen());
  if (!at.ok()) return Annotate(at.status(), absl::StrCat("stop.listen: ", spec.listen()));
  ASSIGN_OR_RETURN(self->server_, HttpListener::Start({.key = "stop.listen",
                                                       .host = at->host,
                                                       .port = at->port,
                                                       .identity = identity,
                                                       .connections = kMostConnections,
                                                       .longest_body = kLongestReason,
                                                       .patience = kPatience},
                                                      [port = self.get()](const HttpCall& call) {
                                                        return port->Take(call);
                                                      }));
  return self;
}

absl::Status LeverPort::ReadToken() {
  if (spec_.token_file().empty()) return absl::OkStatus();
  v1::Secret where;
  where.set_file(spec_.token_file());
  ASSIGN_OR_RETURN(const std::string token, ResolveSecret(where));
  if (token.size() < kShortestToken) {
    return absl::InvalidArgumentError(
        absl::StrCat(spec_.token_file(), ": a token of less than ", kShortestToken,
                     " characters can be guessed; openssl rand -hex 32 makes one"));
  }
  token_ = token;
  return absl::OkStatus();
}

absl::StatusOr<std::string> LeverPort::Admit(const HttpCall& call, v1::Role role) {
  if (call.caller.has_value()) {
    RETURN_IF_ERROR(CheckCaller(*call.caller, domain_, revocations_,
                                absl::StrCat(call.method, " ", kPath), role, absl::Now()));
    return call.caller->peer.name;
  }
  // A disk that cannot be read must not take the lever out of anybody's hand.
  if (const absl::Status read = ReadToken(); !read.ok()) spdlog::error("stop.tokenFile: {}", read);
  absl::string_view token = call.authorization;
  if (absl::ConsumePrefix(&token, "Bearer ") && !token_.empty() &&
      SameSecret(token_, std::string(token))) {
    return "the stop token";
  }
  return absl::UnauthenticatedError(absl::StrCat(
      "the lever asks who you are: curl --cert operator-NAME.crt --key operator-NAME.key",
      spec_.token_file().empty() ? "" : ", or --oauth2-bearer with the token of stop.tokenFile",
      "; on a node, touch the file STOP in its state folder"));
}

HttpReply LeverPort::Take(const HttpCall& call) {
  if (call.path != kPath) return Refused(404, "there is only /stop here");
  const bool pull = call.method == "POST";
  if (!pull && call.method != "GET") {
    HttpReply reply =
        Refused(405, "POST /stop pulls the lever, GET /stop says whether it is pulled");
    reply.headers["Allow"] = "GET, POST";
    return reply;
  }
  const absl::StatusOr<std::string> by = Admit(call, pull ? v1::ROLE_OPERATOR : v1::ROLE_VIEWER);
  if (!by.ok()) {
    spdlog::warn("refused {} {}: {}", call.method, kPath, by.status());
    if (absl::IsPermissionDenied(by.status())) return Refused(403, by.status().message());
    HttpReply reply = Refused(401, by.status().message());
    reply.headers["WWW-Authenticate"] = "Bearer";
    return reply;
  }
  if (!pull) {
    const std::optional<Pull> pulled = lever_.Pulled();
    return Said(200, pulled.has_value() ? Words(*pulled) : nlohmann::json{{"pulled", false}});
  }
  const Lever::Answer answer = lever_.PullIt(*by, call.body);
  nlohmann::json words = Words(answer.pull);
  words["runsStopped"] = answer.reached.runs;
  words["injectorsTold"] = answer.reached.injectors;
  if (!answer.kept.ok()) words["warning"] = std::string(answer.kept.message());
  return Said(200, words);
}

}  // namespace firedrill
