// One HTTP exchange over libcurl. The multi interface is used for one transfer, because only its
// poll can be woken at once when a stop is requested.
#include "base/http.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/clock.h"
#include "base/text.h"

namespace firedrill {
namespace {

// Header lines of one answer that are kept; a server that sends more is not one of ours.
constexpr size_t kMostHeaders = 256;

constexpr char kSentPayload[] = "firedrill/http-sent";

struct EasyDelete {
  void operator()(CURL* easy) const { curl_easy_cleanup(easy); }
};
struct MultiDelete {
  void operator()(CURLM* multi) const { curl_multi_cleanup(multi); }
};
struct ListDelete {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};

// What the callbacks fill while the transfer goes on.
struct Answer {
  HttpResponse response;
  size_t max_body = 0;
  bool too_long = false;
  bool link_local = false;
};

size_t TakeBody(char* data, size_t size, size_t count, void* user) {
  auto* answer = static_cast<Answer*>(user);
  const size_t bytes = size * count;
  if (answer->response.body.size() + bytes > answer->max_body) {
    answer->too_long = true;
    return 0;
  }
  answer->response.body.append(data, bytes);
  return bytes;
}

size_t TakeHeader(char* data, size_t size, size_t count, void* user) {
  auto* answer = static_cast<Answer*>(user);
  const absl::string_view line(data, size * count);
  if (absl::StartsWith(line, "HTTP/")) answer->response.headers.clear();  // After a 100 Continue.
  const size_t colon = line.find(':');
  if (colon != absl::string_view::npos && answer->response.headers.size() < kMostHeaders) {
    answer->response.headers[absl::AsciiStrToLower(line.substr(0, colon))] =
        std::string(absl::StripAsciiWhitespace(line.substr(colon + 1)));
  }
  return size * count;
}

bool IsLinkLocal(const sockaddr& address) {
  const auto v4 = [](uint32_t bits) { return (ntohl(bits) >> 16) == 0xA9FE; };  // 169.254/16
  if (address.sa_family == AF_INET) {
    return v4(reinterpret_cast<const sockaddr_in&>(address).sin_addr.s_addr);
  }
  if (address.sa_family != AF_INET6) return false;
  const in6_addr& six = reinterpret_cast<const sockaddr_in6&>(address).sin6_addr;
  if (IN6_IS_ADDR_LINKLOCAL(&six)) return true;
  uint32_t last = 0;
  std::memcpy(&last, six.s6_addr + 12, sizeof last);
  return IN6_IS_ADDR_V4MAPPED(&six) && v4(last);
}

// Metadata services of clouds live on link-local addresses, and hand out credentials.
curl_socket_t OpenSocket(void* user, curlsocktype, curl_sockaddr* address) {
  if (IsLinkLocal(address->addr)) {
    static_cast<Answer*>(user)->link_local = true;
    return CURL_SOCKET_BAD;
  }
  return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

// What stands before "@" is a credential and has no place in a message.
std::string Shown(const std::string& url) {
  const size_t begin = url.find("://");
  const size_t host = begin == std::string::npos ? 0 : begin + 3;
  const size_t end = url.find_first_of("/?#", host);
  const size_t at = url.rfind('@', end);
  std::string shown = url.substr(0, url.find_first_of("?#", host));
  if (at != std::string::npos && at >= host) shown.erase(host, at + 1 - host);
  return shown;
}

absl::Status ToStatus(CURLcode code, const Answer& answer, const HttpRequest& request,
                      const char* detail) {
  const std::string what = absl::StrCat(request.method, " ", Shown(request.url), ": ");
  const char* why = detail[0] != '\0' ? detail : curl_easy_strerror(code);
  if (answer.too_long) {
    return absl::ResourceExhaustedError(
        absl::StrCat(what, "the answer is longer than ", request.max_body, " bytes"));
  }
  if (answer.link_local) {
    return absl::PermissionDeniedError(absl::StrCat(what, "link-local addresses are refused"));
  }
  switch (code) {
    case CURLE_OPERATION_TIMEDOUT:
      return absl::DeadlineExceededError(
          absl::StrCat(what, "no answer within ", firedrill::FormatDuration(request.deadline)));
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_URL_MALFORMAT:
      return absl::InvalidArgumentError(absl::StrCat(what, why));
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
      return absl::UnauthenticatedError(absl::StrCat(what, why));
    default:
      // The other end says what it holds against our certificate in an alert of TLS.
      if (absl::StrContains(why, "alert") &&
          (absl::StrContains(why, "certificate") || absl::StrContains(why, "unknown ca"))) {
        return absl::UnauthenticatedError(absl::StrCat(what, why));
      }
      return absl::UnavailableError(absl::StrCat(what, why));
  }
}

absl::Status Prepare(CURL* easy, const HttpRequest& request, curl_slist* headers, Answer& answer,
                     char* detail) {
  const long millis = std::max<long>(1, absl::ToInt64Milliseconds(request.deadline));
  const bool ok =
      curl_easy_setopt(easy, CURLOPT_URL, request.url.c_str()) == CURLE_OK &&
      curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK &&
      curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request.method.c_str()) == CURLE_OK &&
      curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers) == CURLE_OK;
  if (!ok) return absl::InternalError("libcurl refuses an option: is it older than 7.85?");
  curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(easy, CURLOPT_PROXY, "");
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);  // Never wait for a resolver that hangs.
  curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, millis);
  curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, millis);
  curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, detail);
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, TakeBody);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, &answer);
  curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, TakeHeader);
  curl_easy_setopt(easy, CURLOPT_HEADERDATA, &answer);
  curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, OpenSocket);
  curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, &answer);
  curl_easy_setopt(easy, CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
  if (!request.ca_file.empty()) {
    curl_easy_setopt(easy, CURLOPT_CAINFO, request.ca_file.c_str());
    curl_easy_setopt(easy, CURLOPT_CAPATH, nullptr);  // Nobody else's word counts then.
  }
  if (!request.identity.empty()) {
    curl_easy_setopt(easy, CURLOPT_SSLCERT, absl::StrCat(request.identity, ".crt").c_str());
    curl_easy_setopt(easy, CURLOPT_SSLKEY, absl::StrCat(request.identity, ".key").c_str());
  }
  if (request.method == "HEAD") curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
  if (!request.body.empty() || request.method == "POST" || request.method == "PUT") {
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE,
                     static_cast<curl_off_t>(request.body.size()));
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request.body.c_str());
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<curl_slist, ListDelete>> HeaderList(const HttpRequest& request) {
  std::unique_ptr<curl_slist, ListDelete> list;
  const auto add = [&](const std::string& line) {
    list.reset(curl_slist_append(list.release(), line.c_str()));
  };
  add("Expect:");  // A 100-continue costs a second with servers that do not know it.
  for (const auto& [name, value] : request.headers) {
    if (absl::StrContains(name, '\n') || absl::StrContains(value, '\n') ||
        absl::StrContains(name, '\r') || absl::StrContains(value, '\r')) {
      return absl::InvalidArgumentError(
          absl::StrCat(request.method, " ", Shown(request.url), ": a line break in a header"));
    }
    add(absl::StrCat(name, ": ", value));
  }
  return list;
}

}  // namespace

std::optional<int> SentAnyway(const absl::Status& error) {
  const auto payload = error.GetPayload(kSentPayload);
  int status = 0;
  if (!payload.has_value() || !absl::SimpleAtoi(std::string(*payload), &status)) return {};
  return status;
}

absl::StatusOr<HttpResponse> Fetch(const HttpRequest& request, std::stop_token stop) {
  static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
  if (ready != CURLE_OK) return absl::InternalError(curl_easy_strerror(ready));
  if (request.deadline <= absl::ZeroDuration()) {
    return absl::DeadlineExceededError(
        absl::StrCat(request.method, " ", Shown(request.url), ": no time left"));
  }
  const auto headers_or = HeaderList(request);
  if (!headers_or.ok()) return headers_or.status();

  Answer answer;
  answer.max_body = request.max_body;
  char detail[CURL_ERROR_SIZE] = "";
  const std::unique_ptr<CURL, EasyDelete> easy(curl_easy_init());
  const std::unique_ptr<CURLM, MultiDelete> multi(curl_multi_init());
  if (easy == nullptr || multi == nullptr)
    return absl::ResourceExhaustedError("libcurl: no memory");
  const absl::Status prepared = Prepare(easy.get(), request, headers_or->get(), answer, detail);
  if (!prepared.ok()) return prepared;

  const absl::Duration begin = RealClock().Boot();
  curl_multi_add_handle(multi.get(), easy.get());
  {
    const std::stop_callback wake(stop, [&] { curl_multi_wakeup(multi.get()); });
    int running = 1;
    while (running > 0 && !stop.stop_requested()) {
      if (curl_multi_perform(multi.get(), &running) != CURLM_OK) break;
      // libcurl shortens the wait to its own next time-out.
      if (running > 0) curl_multi_poll(multi.get(), nullptr, 0, 1000, nullptr);
    }
  }
  answer.response.took = RealClock().Boot() - begin;
  int left = 0;
  const CURLMsg* message = curl_multi_info_read(multi.get(), &left);
  const CURLcode code = message == nullptr ? CURLE_ABORTED_BY_CALLBACK : message->data.result;
  long status = 0;
  curl_easy_getinfo(easy.get(), CURLINFO_RESPONSE_CODE, &status);
  long sent = 0;
  curl_easy_getinfo(easy.get(), CURLINFO_REQUEST_SIZE, &sent);
  curl_multi_remove_handle(multi.get(), easy.get());
  absl::Status error;
  if (message == nullptr && stop.stop_requested()) {
    error =
        absl::CancelledError(absl::StrCat(request.method, " ", Shown(request.url), ": stopped"));
  } else if (code != CURLE_OK) {
    error = ToStatus(code, answer, request, detail);
  }
  if (!error.ok()) {
    if (sent > 0) error.SetPayload(kSentPayload, absl::Cord(absl::StrCat(status)));
    return error;
  }
  answer.response.status = static_cast<int>(status);
  return std::move(answer.response);
}

}  // namespace firedrill
