// call_url: one HTTP request to an endpoint of the site, through the same door as every other one:
// no redirects, no proxy, no link-local address. It is sent once: what it does is not known to be
// harmless twice.
#include <algorithm>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/endpoint.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "injector/remedies/remedy.h"

namespace firedrill {
namespace {

constexpr absl::Duration kDefaultTimeout = absl::Seconds(10);
constexpr char kDefaultType[] = "application/json";
// Of an answer that was not expected, so that a person sees why.
constexpr size_t kShownAnswer = 300;

// The begin of an answer, in one line: whoever shows the last line of a report shows all.
std::string OneLine(absl::string_view body) {
  std::string line(absl::StripAsciiWhitespace(body.substr(0, kShownAnswer)));
  std::replace_if(
      line.begin(), line.end(), [](char c) { return absl::ascii_isspace(c); }, ' ');
  return line;
}

struct StatusRange {
  int first = 200;
  int last = 299;
};

// "204", "200-299"; the usual range where it is empty.
absl::StatusOr<StatusRange> ParseRange(absl::string_view text) {
  StatusRange range;
  if (text.empty()) return range;
  const absl::Status wrong = absl::InvalidArgumentError(
      absl::StrCat("callUrl.status is '", text, "'; write a status or a range such as 200-299"));
  const size_t dash = text.find('-');
  if (!absl::SimpleAtoi(text.substr(0, dash), &range.first)) return wrong;
  range.last = range.first;
  if (dash != absl::string_view::npos && !absl::SimpleAtoi(text.substr(dash + 1), &range.last)) {
    return wrong;
  }
  if (range.first < 100 || range.last > 599 || range.last < range.first) return wrong;
  return range;
}

class CallUrl final : public Remedy {
 public:
  explicit CallUrl(const v1::CallUrl& message) : message_(message) {}

  // The reader has checked all this; but it is the node that sends.
  absl::Status Validate(const Node& node) const override {
    static constexpr const char* kMethods[] = {"POST", "GET", "PUT", "PATCH", "DELETE"};
    const std::string method = Method();
    bool known = false;
    for (const char* one : kMethods) known = known || method == one;
    if (!known) {
      return absl::InvalidArgumentError(absl::StrCat(
          "callUrl.method is '", method, "'; it can be POST, GET, PUT, PATCH or DELETE"));
    }
    if (!absl::StartsWith(message_.path(), "/")) {
      return absl::InvalidArgumentError(
          absl::StrCat("callUrl.path is '", message_.path(), "'; a path begins with a slash"));
    }
    for (const char c : message_.path()) {
      if (absl::ascii_isspace(c) || absl::ascii_iscntrl(c)) {
        return absl::InvalidArgumentError("callUrl.path has a blank in it; write %20");
      }
    }
    if (message_.leaves() != v1::LEAVES_NOTHING && message_.leaves() != v1::LEAVES_CHANGED) {
      return absl::InvalidArgumentError(
          "callUrl.leaves must be nothing or changed: what a call did cannot be restored");
    }
    return ParseRange(message_.status()).status();
  }

  absl::StatusOr<v1::Leaves> Leaves(const Node& node) const override {
    RETURN_IF_ERROR(Validate(node));
    return message_.leaves();
  }

  v1::RemedyReport Run(const RemedyContext& context, const Node& node) const override {
    int status = 0;
    const absl::StatusOr<std::string> done = Call(context, &status);
    v1::RemedyReport report = ReportOf(done.status(), done.ok() ? *done : "");
    if (!done.ok() && status != 0) report.set_failure(absl::StrCat("HTTP ", status));
    return report;
  }

 private:
  std::string Method() const { return message_.method().empty() ? "POST" : message_.method(); }

  // `status`: of the answer, where there was one.
  absl::StatusOr<std::string> Call(const RemedyContext& context, int* status) const {
    if (context.endpoint.name() != message_.endpoint()) {
      return absl::NotFoundError(
          absl::StrCat("the site has no endpoint '", message_.endpoint(), "'"));
    }
    ASSIGN_OR_RETURN(const StatusRange range, ParseRange(message_.status()));
    ASSIGN_OR_RETURN(HttpRequest request, RequestTo(context.endpoint, message_.path()));
    request.method = Method();
    request.body = message_.body();
    // An empty value keeps libcurl from sending the type of a form with a body that is none.
    request.headers["Content-Type"] = message_.body().empty()           ? ""
                                      : message_.content_type().empty() ? kDefaultType
                                                                        : message_.content_type();
    request.deadline = message_.has_timeout() ? FromProto(message_.timeout()) : kDefaultTimeout;
    if (context.stop.stop_requested()) return absl::CancelledError("not called: stopped");
    const absl::StatusOr<HttpResponse> response = Fetch(request, context.stop);
    const std::string what =
        absl::StrCat(request.method, " ", message_.path(), " at ", message_.endpoint());
    if (!response.ok()) {
      *status = SentAnyway(response.status()).value_or(0);
      return Failed(what, request, response.status());
    }
    *status = response->status;
    const std::string answer = absl::StrCat(what, ": status ", response->status, " in ",
                                            firedrill::FormatDuration(response->took));
    if (response->status >= range.first && response->status <= range.last) return answer;
    return absl::FailedPreconditionError(absl::StrCat(
        answer, ", not ", range.first,
        range.first == range.last ? std::string() : absl::StrCat("-", range.last),
        response->status / 100 == 3 ? "; redirects are not followed" : "",
        response->body.empty() ? std::string()
                               : absl::StrCat("; it says: ", OneLine(response->body))));
  }

  static absl::Status Failed(absl::string_view what, const HttpRequest& request,
                             const absl::Status& why) {
    absl::string_view reason = why.message();
    // "POST https://shop: ", which `what` says already.
    const size_t behind = reason.find(": ");
    if (absl::StartsWith(reason, request.method) && behind != absl::string_view::npos) {
      reason.remove_prefix(behind + 2);
    }
    if (absl::IsCancelled(why)) reason = "the run was stopped";
    std::string text = absl::StrCat(what, ": ", reason);
    if (const std::optional<int> status = SentAnyway(why); status.has_value()) {
      if (*status != 0) absl::StrAppend(&text, ", after status ", *status);
      absl::StrAppend(&text,
                      *status == 0 ? "; the call may have been taken all the same"
                                   : "; the call was taken, and what it did is not known",
                      ": look at the server");
    } else if (absl::IsUnauthenticated(why)) {
      absl::StrAppend(
          &text,
          "; nothing was sent. Where its certificate is of an authority of your own, put "
          "that among those of this machine (/usr/local/share/ca-certificates, then "
          "update-ca-certificates); an endpoint has no caFile");
    }
    return absl::Status(why.code(), text);
  }

  const v1::CallUrl message_;
};

const RemedyRegistration kCallUrl(v1::Remedy::kCallUrl, [](const v1::Remedy& remedy) {
  return std::make_unique<CallUrl>(remedy.call_url());
});

}  // namespace
}  // namespace firedrill
