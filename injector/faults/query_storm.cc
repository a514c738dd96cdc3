// A storm's life at a server of any kind.
#include "injector/faults/query_storm.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "base/clock.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "injector/os/descriptors.h"
#include "injector/os/statements.h"
#include "injector/wire/sql_words.h"

namespace firedrill {
namespace {

// Sessions for a rate, where the definition does not say.
constexpr int kSessionsForRate = 20;
// Descriptors that this process needs for everything else.
constexpr size_t kOtherDescriptors = 128;
// A statement that cannot be run at all says so at once.
constexpr absl::Duration kFailsWithin = absl::Milliseconds(300);
// Of what is due, what must have begun for the rate to count as reached: one session's hiccup is
// not the end of a storm.
constexpr double kEnough = 0.95;
constexpr absl::Duration kLookEvery = absl::Milliseconds(20);

// The server's transactions are read-only, but one of several statements could end that, and so
// could a procedure.
absl::Status CheckReadsOnly(const v1::Profile& profile, const std::string& name,
                            const std::string& text) {
  const bool mysql = profile.has_mysql();
  wire::SqlWords words(mysql ? wire::Dialect::kMysql : wire::Dialect::kPostgresql, text);
  wire::Token token = words.Next();
  while (token.text == "(") token = words.Next();
  constexpr absl::string_view kReading[] = {"select", "with", "table", "values", "show", "explain"};
  bool reads = (mysql && absl::EqualsIgnoreCase(token.text, "do")) ||
               std::any_of(std::begin(kReading), std::end(kReading), [&](absl::string_view verb) {
                 return absl::EqualsIgnoreCase(verb, token.text);
               });
  for (; token.kind != wire::Token::kEnd && token.text != ";"; token = words.Next()) {
    // INTO OUTFILE writes a file of the server, which its read-only transaction allows.
    reads = reads && !(mysql && absl::EqualsIgnoreCase(token.text, "into"));
  }
  reads = reads && words.Next().kind == wire::Token::kEnd;
  if (reads) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "the statement ", name, " of profile ", profile.name(),
      " is to be one SELECT, WITH, TABLE, VALUES, SHOW or EXPLAIN in a read-only transaction; say "
      "`writes: true` where it is to do more"));
}

// "0.4 ms", where FormatDuration() would say "0s".
std::string Latency(absl::Duration took) {
  if (took >= absl::Milliseconds(10)) return firedrill::FormatDuration(took);
  return absl::StrFormat("%.2g ms", absl::ToDoubleMilliseconds(took));
}

}  // namespace

int QueryStorm::sessions() const {
  return message_.sessions() > 0 ? static_cast<int>(message_.sessions()) : kSessionsForRate;
}

std::string QueryStorm::FewerSessions() const {
  return absl::StrCat("; the storm opens ", sessions(), " sessions",
                      message_.sessions() > 0
                          ? ": ask for fewer (`sessions`)"
                          : ", as `sessions` is not given: say `sessions`, with as many as fit and "
                            "the rate needs");
}

absl::Status QueryStorm::Validate(const Node& node) const {
  ASSIGN_OR_RETURN(const v1::Profile profile, node.FindProfile(message_.profile()));
  RETURN_IF_ERROR(make_(message_, profile, "").status());
  if (message_.rate() <= 0 && message_.sessions() == 0) {
    return absl::InvalidArgumentError("say how much: sessions, or a rate");
  }
  ASSIGN_OR_RETURN(const std::string text, FindPlainStatement(profile, message_.statement()));
  if (!message_.writes()) {
    RETURN_IF_ERROR(CheckReadsOnly(profile, message_.statement(), text));
  }
  return PermitDescriptors(sessions() + kOtherDescriptors);
}

absl::Status QueryStorm::Open(const Context& context, const Node& node) const {
  ASSIGN_OR_RETURN(const v1::Profile profile, node.FindProfile(message_.profile()));
  if (server_ == nullptr) {
    ASSIGN_OR_RETURN(server_, make_(message_, profile, context.Stamp()));
  }
  return server_->Open(profile, context.run, context.patience());
}

absl::Status QueryStorm::Prepare(const Context& context, Node& node) { return Open(context, node); }

absl::Status QueryStorm::Apply(const Context& context, Node& node, Changes&) {
  RETURN_IF_ERROR(Open(context, node));
  ASSIGN_OR_RETURN(const v1::Profile profile, node.FindProfile(message_.profile()));
  Storm::Options options;
  ASSIGN_OR_RETURN(options.statement, FindPlainStatement(profile, message_.statement()));
  options.sessions = sessions();
  options.rate = message_.rate();
  options.end = RealClock().Boot() + (context.ends_at - context.clock.Boot());
  options.begin = server_->Sessions(options.end);
  options.limit = server_->Limit();
  applied_ = true;
  storm_ = std::make_unique<Storm>(std::move(options));
  const absl::Status status = AwaitFirst(context.patience());
  if (!status.ok()) storm_.reset();
  return status;
}

absl::StatusOr<v1::Observation> QueryStorm::Observe(const Context& context,
                                                    const Node& node) const {
  if (!applied_ || storm_ == nullptr) {
    return absl::FailedPreconditionError("running statements: not applied");
  }
  RETURN_IF_ERROR(Open(context, node));
  ASSIGN_OR_RETURN(const StormCounts counts, server_->Count(context.patience()));
  const int there = counts.there;
  const Storm::Figures storm = storm_->figures();
  v1::Observation observation;
  observation.set_subject(server_->identity());
  // Statements that all fail disturb nobody.
  const bool effect = storm.finished > 0 || storm.busy > 0;
  if (message_.rate() > 0) {
    const bool enough = storm.due_rate > 0 && storm.begun_rate >= kEnough * storm.due_rate;
    observation.set_requested(message_.rate());
    observation.set_real(enough ? message_.rate() : storm.begun_rate);
    observation.set_unit("statements/s");
    observation.set_reached(effect && enough && there > 0);
  } else {
    observation.set_requested(sessions());
    observation.set_real(there);
    observation.set_unit("sessions");
    observation.set_reached(effect && there >= sessions());
  }
  std::string detail =
      absl::StrCat(there, there == 1 ? " session runs " : " sessions run ", message_.statement(),
                   ": ", static_cast<int64_t>(storm.begun_rate), " begun and ",
                   static_cast<int64_t>(storm.answered_rate), " answered a second, ");
  if (storm.p50 > absl::ZeroDuration()) {
    absl::StrAppend(&detail, "median ", Latency(storm.p50), ", 95th percentile ",
                    Latency(storm.p95));
  } else {
    absl::StrAppend(
        &detail, storm.finished == 0 ? "none has been answered yet" : "none was answered of late");
  }
  if (storm.waiting > 0) absl::StrAppend(&detail, ", ", storm.waiting, " due and not begun");
  if (!storm.errors.empty()) absl::StrAppend(&detail, "; last error: ", storm.trouble);
  observation.set_detail(detail);
  auto& figures = *observation.mutable_figures();
  figures["sessions"] = there;
  figures["active"] = counts.active;
  figures["begun_per_second"] = storm.begun_rate;
  figures["answered_per_second"] = storm.answered_rate;
  figures["waiting"] = static_cast<double>(storm.waiting);
  figures["finished"] = static_cast<double>(storm.finished);
  figures["failed"] = static_cast<double>(storm.failed);
  figures["p50_ms"] = absl::ToDoubleMilliseconds(storm.p50);
  figures["p95_ms"] = absl::ToDoubleMilliseconds(storm.p95);
  for (const auto& [code, count] : storm.errors) {
    figures[absl::StrCat("errors_", code)] = static_cast<double>(count);
  }
  return observation;
}

void QueryStorm::Release() {
  storm_.reset();
  if (!applied_) server_.reset();
}

absl::Status QueryStorm::ReadBack(const Context& context, const Node& node) const {
  RETURN_IF_ERROR(LookUntilOk([&] { return LookForOurs(context, node); }, kLookEvery,
                              context.patience(), "looking whether all sessions are gone"));
  server_.reset();
  return absl::OkStatus();
}

absl::Status QueryStorm::LookForOurs(const Context& context, const Node& node) const {
  const absl::Status opened = Open(context, node);
  // No session lives in a server that is down.
  if (server_ != nullptr && server_->Down(opened)) return absl::OkStatus();
  RETURN_IF_ERROR(opened);
  ASSIGN_OR_RETURN(const StormCounts counts, server_->Count(context.patience()));
  if (counts.there == 0) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(counts.there, " sessions of ", context.Stamp(),
                                                    " are still there; ", server_->ByHand()));
}

// A statement that fails, or a profile that gets no session, is refused with the server's words.
absl::Status QueryStorm::AwaitFirst(const Patience& patience) const {
  const absl::Duration begin = RealClock().Boot();
  for (;;) {
    const Storm::Figures figures = storm_->figures();
    if (figures.finished > 0) return absl::OkStatus();
    if (!figures.trouble.empty()) {
      const bool full = figures.trouble_code == absl::StatusCode::kResourceExhausted;
      return Annotate(absl::Status(figures.trouble_code,
                                   absl::StrCat(figures.trouble, full ? FewerSessions() : "")),
                      absl::StrCat("running the statement ", message_.statement(), " with profile ",
                                   message_.profile()));
    }
    // It may be slow: that it runs is enough.
    if (figures.busy > 0 && RealClock().Boot() - begin > kFailsWithin) return absl::OkStatus();
    RETURN_IF_ERROR(Annotate(patience.Check(), "running the first statement"));
    absl::SleepFor(absl::Milliseconds(2));
  }
}

}  // namespace firedrill
