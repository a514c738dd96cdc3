// send_requests: HTTP requests at a fixed rate of arrivals, whatever the answers do. One thread
// drives every connection, so that the load itself costs little on a busy machine.
#include <curl/curl.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <fstream>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "base/secret.h"
#include "base/status_macros.h"
#include "base/time_proto.h"
#include "base/unique_fd.h"
#include "injector/loads/latency.h"
#include "injector/loads/load.h"
#include "injector/os/descriptors.h"

namespace firedrill {
namespace {

constexpr absl::Duration kWindow = absl::Seconds(1);
constexpr absl::Duration kDefaultTimeout = absl::Seconds(5);
// Requests without an answer yet. Those that would be more are due, but not sent: the load is
// starved.
constexpr size_t kMostUnderWay = 4096;
// Connections kept open for the next request.
constexpr long kMostIdle = 512;
// A value file is read whole.
constexpr size_t kMostValues = 1'000'000;
constexpr size_t kLongestValue = 4096;

// A path, cut at its placeholders.
struct Shape {
  std::string name;
  std::string method;
  std::string body;
  uint64_t weight = 1;
  // Text, and after each piece but the last a drawn value.
  std::vector<std::string> pieces;
  std::vector<const std::vector<std::string>*> values;
};

std::string PercentEncode(absl::string_view text) {
  std::string encoded;
  for (const char c : text) {
    if (absl::ascii_isalnum(c) || absl::StrContains("-._~", absl::string_view(&c, 1))) {
      encoded.push_back(c);
    } else {
      absl::StrAppendFormat(&encoded, "%%%02X", static_cast<unsigned char>(c));
    }
  }
  return encoded;
}

absl::StatusOr<std::vector<std::string>> ReadValues(const v1::ValueFile& file) {
  std::ifstream stream(file.file());
  if (!stream) {
    return absl::NotFoundError(absl::StrCat("reading the values ", file.name(), " from ",
                                            file.file(), ": the file cannot be opened"));
  }
  std::vector<std::string> values;
  for (std::string line; std::getline(stream, line);) {
    line = std::string(absl::StripAsciiWhitespace(line));
    if (line.empty()) continue;
    if (values.size() == kMostValues || line.size() > kLongestValue) {
      return absl::InvalidArgumentError(absl::StrCat(
          "reading the values ", file.name(), " from ", file.file(), ": more than ", kMostValues,
          " lines, or a line longer than ", kLongestValue, " bytes; use a smaller file"));
    }
    values.push_back(PercentEncode(line));
  }
  if (values.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("reading the values ", file.name(), " from ",
                                                   file.file(), ": no line has a value"));
  }
  return values;
}

using ValueLists = std::map<std::string, std::vector<std::string>>;

absl::StatusOr<Shape> ParseShape(const v1::RequestShape& request, const ValueLists& lists) {
  Shape shape{.name = request.name(),
              .method = request.method().empty() ? "GET" : request.method(),
              .body = request.body(),
              .weight = std::max<uint64_t>(1, request.weight())};
  absl::string_view rest = request.path();
  for (;;) {
    const size_t open = rest.find('{');
    shape.pieces.emplace_back(rest.substr(0, open));
    if (open == absl::string_view::npos) return shape;
    const size_t close = rest.find('}', open);
    const std::string name(rest.substr(open + 1, close - open - 1));
    const auto found = lists.find(name);
    if (close == absl::string_view::npos || found == lists.end()) {
      return absl::InvalidArgumentError(absl::StrCat("request ", request.name(), ": `{", name,
                                                     "}` in its path is not one of `values`"));
    }
    shape.values.push_back(&found->second);
    rest.remove_prefix(close + 1);
  }
}

// What happened in one second to the requests of one name.
struct Tally {
  uint64_t due = 0;
  uint64_t sent = 0;
  uint64_t ok = 0;
  std::map<std::string, uint64_t> errors;
  std::map<uint64_t, uint64_t> latency;
  absl::Duration lateness;
};

std::string ErrorClass(CURL* easy, CURLcode code, long status) {
  long os_error = 0;
  curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &os_error);
  switch (code) {
    case CURLE_OK:
      return absl::StrCat("status-", status);
    case CURLE_OPERATION_TIMEDOUT:
      return "timeout";
    case CURLE_COULDNT_CONNECT:
      return os_error == ECONNREFUSED ? "refused" : "other";
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_PARTIAL_FILE:
      return "reset";
    default:
      return "other";
  }
}

// Cloud machines give out credentials on link-local addresses; nothing under test lives there.
bool LinkLocal(const sockaddr* address) {
  if (address->sa_family == AF_INET) {
    const auto* v4 = reinterpret_cast<const sockaddr_in*>(address);
    return (ntohl(v4->sin_addr.s_addr) >> 16) == 0xa9fe;
  }
  const auto* v6 = reinterpret_cast<const sockaddr_in6*>(address);
  return address->sa_family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&v6->sin6_addr);
}

curl_socket_t OpenSocket(void*, curlsocktype, curl_sockaddr* address) {
  if (LinkLocal(&address->addr)) return CURL_SOCKET_BAD;
  return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

size_t Discard(char*, size_t size, size_t count, void*) { return size * count; }

absl::Duration Now() { return RealClock().Boot(); }

class SendRequests final : public LoadRun {
 public:
  struct Parts {
    std::string load;
    std::string url;
    std::string token;
    double rate = 1;
    absl::Duration timeout;
    ValueLists lists;
    std::vector<Shape> shapes;
  };

  // `parts` is on the heap so that the shapes' pointers into its lists stay.
  SendRequests(std::unique_ptr<Parts> parts, uint64_t seed, LoadSink emit)
      : parts_(std::move(parts)),
        emit_(std::move(emit)),
        chance_(seed),
        epoll_(epoll_create1(EPOLL_CLOEXEC)),
        timer_(timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK)),
        wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    for (const Shape& shape : parts_->shapes) total_weight_ += shape.weight;
    tallies_.resize(parts_->shapes.size());
    thread_ = std::jthread([this](std::stop_token stop) { Loop(std::move(stop)); });
  }

  ~SendRequests() override {
    thread_.request_stop();
    eventfd_write(wake_.get(), 1);
    thread_.join();
  }

 private:
  struct Request {
    size_t shape = 0;
    absl::Duration due;
  };

  void Loop(std::stop_token stop) {
    SetUp();
    const absl::Duration start = Now();
    absl::Duration window = start;
    for (uint64_t arrival = 0; !stop.stop_requested();) {
      const absl::Duration now = Now();
      // By number, not by adding up: rounding would make the rate drift.
      absl::Duration due = start + absl::Seconds(static_cast<double>(arrival) / parts_->rate);
      while (due <= now) {
        // What was due before the second's end belongs to it, however late we are.
        while (due >= window + kWindow) Emit(window);
        Launch(due);
        due = start + absl::Seconds(static_cast<double>(++arrival) / parts_->rate);
      }
      while (now >= window + kWindow) Emit(window);
      Wait(std::min(due, window + kWindow));
      Collect();
    }
    TearDown();
  }

  void SetUp() {
    multi_ = curl_multi_init();
    curl_multi_setopt(multi_, CURLMOPT_SOCKETFUNCTION, &SendRequests::OnSocket);
    curl_multi_setopt(multi_, CURLMOPT_SOCKETDATA, this);
    curl_multi_setopt(multi_, CURLMOPT_TIMERFUNCTION, &SendRequests::OnTimer);
    curl_multi_setopt(multi_, CURLMOPT_TIMERDATA, this);
    curl_multi_setopt(multi_, CURLMOPT_MAXCONNECTS, kMostIdle);
    curl_multi_setopt(multi_, CURLMOPT_PIPELINING, CURLPIPE_NOTHING);
    Watch(EPOLL_CTL_ADD, timer_.get(), EPOLLIN);
    Watch(EPOLL_CTL_ADD, wake_.get(), EPOLLIN);
    headers_ = curl_slist_append(headers_, "Expect:");
    if (!parts_->token.empty()) {
      headers_ = curl_slist_append(headers_,
                                   absl::StrCat("Authorization: Bearer ", parts_->token).c_str());
    }
  }

  void TearDown() {
    for (const auto& [easy, request] : under_way_) {
      curl_multi_remove_handle(multi_, easy);
      curl_easy_cleanup(easy);
    }
    for (CURL* easy : idle_) curl_easy_cleanup(easy);
    curl_multi_cleanup(multi_);
    curl_slist_free_all(headers_);
  }

  // The same draws whether or not a request is sent, so that a seed gives the same requests on a
  // slow machine.
  std::pair<size_t, std::string> Draw() {
    uint64_t ticket = chance_() % total_weight_;
    size_t index = 0;
    while (ticket >= parts_->shapes[index].weight) ticket -= parts_->shapes[index++].weight;
    const Shape& shape = parts_->shapes[index];
    std::string url = absl::StrCat(parts_->url, shape.pieces[0]);
    for (size_t i = 0; i < shape.values.size(); ++i) {
      const auto& values = *shape.values[i];
      absl::StrAppend(&url, values[chance_() % values.size()], shape.pieces[i + 1]);
    }
    return {index, std::move(url)};
  }

  void Launch(absl::Duration due) {
    const auto [index, url] = Draw();
    Tally& tally = tallies_[index];
    ++tally.due;
    const absl::Duration late = Now() - due;
    tally.lateness = std::max(tally.lateness, late);
    const absl::Duration left = parts_->timeout - late;
    if (under_way_.size() >= kMostUnderWay || left < absl::Milliseconds(1)) return;
    CURL* easy = idle_.empty() ? curl_easy_init() : idle_.back();
    if (!idle_.empty()) idle_.pop_back();
    if (easy == nullptr) return;
    Prepare(easy, parts_->shapes[index], url, left);
    if (curl_multi_add_handle(multi_, easy) != CURLM_OK) {
      curl_easy_cleanup(easy);
      return;
    }
    under_way_[easy] = {index, due};
    ++tally.sent;
  }

  void Prepare(CURL* easy, const Shape& shape, const std::string& url, absl::Duration timeout) {
    curl_easy_reset(easy);
    curl_easy_setopt(easy, CURLOPT_URL, url.c_str());
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers_);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, &OpenSocket);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, &Discard);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "firedrill-load");
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS,
                     static_cast<long>(absl::ToInt64Milliseconds(timeout)));
    if (shape.method == "HEAD") {
      curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    } else if (shape.method != "GET" || !shape.body.empty()) {
      curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, static_cast<long>(shape.body.size()));
      // Not copied: the shape outlives the request.
      curl_easy_setopt(easy, CURLOPT_POSTFIELDS, shape.body.c_str());
      curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, shape.method.c_str());
    }
  }

  void Wait(absl::Duration until) {
    itimerspec at{};
    at.it_value = absl::ToTimespec(until);
    timerfd_settime(timer_.get(), TFD_TIMER_ABSTIME, &at, nullptr);
    int timeout_ms = -1;
    if (curl_due_.has_value()) {
      const absl::Duration left = std::max(absl::ZeroDuration(), *curl_due_ - Now());
      timeout_ms =
          static_cast<int>(absl::ToInt64Milliseconds(absl::Ceil(left, absl::Milliseconds(1))));
    }
    std::array<epoll_event, 64> events;
    const int count = epoll_wait(epoll_.get(), events.data(), events.size(), timeout_ms);
    int running = 0;
    for (int i = 0; i < count; ++i) {
      const int fd = events[i].data.fd;
      if (fd == wake_.get() || fd == timer_.get()) continue;
      int action = 0;
      if ((events[i].events & EPOLLIN) != 0) action |= CURL_CSELECT_IN;
      if ((events[i].events & EPOLLOUT) != 0) action |= CURL_CSELECT_OUT;
      if ((events[i].events & (EPOLLERR | EPOLLHUP)) != 0) action |= CURL_CSELECT_ERR;
      curl_multi_socket_action(multi_, fd, action, &running);
    }
    if (curl_due_.has_value() && *curl_due_ <= Now()) {
      curl_due_.reset();
      curl_multi_socket_action(multi_, CURL_SOCKET_TIMEOUT, 0, &running);
    }
  }

  void Collect() {
    int left = 0;
    while (const CURLMsg* message = curl_multi_info_read(multi_, &left)) {
      if (message->msg != CURLMSG_DONE) continue;
      CURL* easy = message->easy_handle;
      const CURLcode code = message->data.result;
      Count(easy, code, under_way_[easy]);
      under_way_.erase(easy);
      curl_multi_remove_handle(multi_, easy);
      idle_.push_back(easy);
    }
  }

  void Count(CURL* easy, CURLcode code, const Request& request) {
    Tally& tally = tallies_[request.shape];
    long status = 0;
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    if (code == CURLE_OK) {
      const int64_t micros = std::max<int64_t>(0, absl::ToInt64Microseconds(Now() - request.due));
      ++tally.latency[LatencyBound(static_cast<uint64_t>(micros))];
    }
    if (code == CURLE_OK && status < 400) {
      ++tally.ok;
    } else {
      ++tally.errors[ErrorClass(easy, code, status)];
    }
  }

  // Ends the second that began at `window`, and begins the next.
  void Emit(absl::Duration& window) {
    const absl::Time start = RealClock().Now() - (Now() - window);
    for (size_t i = 0; i < tallies_.size(); ++i) {
      Tally tally = std::exchange(tallies_[i], Tally());
      v1::LoadWindow one;
      one.set_load(parts_->load);
      one.set_request(parts_->shapes[i].name);
      *one.mutable_start() = ToProto(start);
      *one.mutable_length() = ToProto(kWindow);
      one.set_due(tally.due);
      one.set_sent(tally.sent);
      one.set_ok(tally.ok);
      one.mutable_errors()->insert(tally.errors.begin(), tally.errors.end());
      one.mutable_latency()->insert(tally.latency.begin(), tally.latency.end());
      *one.mutable_lateness() = ToProto(tally.lateness);
      emit_(std::move(one));
    }
    window += kWindow;
  }

  void Watch(int operation, int fd, uint32_t events) {
    epoll_event event{};
    event.events = events;
    event.data.fd = fd;
    epoll_ctl(epoll_.get(), operation, fd, &event);
  }

  static int OnSocket(CURL*, curl_socket_t fd, int what, void* self, void* known) {
    auto* load = static_cast<SendRequests*>(self);
    if (what == CURL_POLL_REMOVE) {
      load->Watch(EPOLL_CTL_DEL, fd, 0);
      return 0;
    }
    uint32_t events = 0;
    if ((what & CURL_POLL_IN) != 0) events |= EPOLLIN;
    if ((what & CURL_POLL_OUT) != 0) events |= EPOLLOUT;
    load->Watch(known == nullptr ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, events);
    curl_multi_assign(load->multi_, fd, load);
    return 0;
  }

  static int OnTimer(CURLM*, long timeout_ms, void* self) {
    auto* load = static_cast<SendRequests*>(self);
    load->curl_due_.reset();
    if (timeout_ms >= 0) load->curl_due_ = Now() + absl::Milliseconds(timeout_ms);
    return 0;
  }

  const std::unique_ptr<Parts> parts_;
  const LoadSink emit_;
  std::mt19937_64 chance_;
  const UniqueFd epoll_;
  const UniqueFd timer_;
  const UniqueFd wake_;
  uint64_t total_weight_ = 0;

  // The thread's own.
  CURLM* multi_ = nullptr;
  curl_slist* headers_ = nullptr;
  std::optional<absl::Duration> curl_due_;
  std::map<CURL*, Request> under_way_;
  std::vector<CURL*> idle_;
  std::vector<Tally> tallies_;
  std::jthread thread_;
};

absl::StatusOr<std::unique_ptr<LoadRun>> StartSendRequests(const v1::PlannedLoad& planned,
                                                           const v1::Endpoint& endpoint,
                                                           uint64_t seed, const Node& node,
                                                           LoadSink emit) {
  const v1::SendRequests& message = planned.load().send_requests();
  auto parts = std::make_unique<SendRequests::Parts>();
  parts->load = planned.name();
  parts->url = std::string(absl::StripSuffix(endpoint.url(), "/"));
  if (!absl::StartsWith(parts->url, "http://") && !absl::StartsWith(parts->url, "https://")) {
    return absl::InvalidArgumentError(absl::StrCat("load ", planned.name(), ": endpoint ",
                                                   endpoint.name(), " has no HTTP address but ",
                                                   endpoint.url()));
  }
  parts->rate = message.rate();
  if (!(parts->rate > 0) || !std::isfinite(parts->rate) || message.requests().empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("load ", planned.name(), ": needs a rate above 0 and at least one request"));
  }
  parts->timeout = message.has_timeout() ? FromProto(message.timeout()) : kDefaultTimeout;
  ASSIGN_OR_RETURN(parts->token, ResolveSecret(endpoint.token()));
  for (const auto& [placeholder, name] : message.values()) {
    ASSIGN_OR_RETURN(const v1::ValueFile file, node.FindValues(name));
    ASSIGN_OR_RETURN(parts->lists[placeholder], ReadValues(file));
  }
  for (const v1::RequestShape& request : message.requests()) {
    ASSIGN_OR_RETURN(Shape shape, ParseShape(request, parts->lists));
    parts->shapes.push_back(std::move(shape));
  }
  RETURN_IF_ERROR(PermitDescriptors(
      std::min<size_t>(kMostUnderWay,
                       static_cast<size_t>(parts->rate * absl::ToDoubleSeconds(parts->timeout))) +
      kMostIdle));
  curl_global_init(CURL_GLOBAL_DEFAULT);
  return std::make_unique<SendRequests>(std::move(parts), seed, std::move(emit));
}

const LoadRegistration kSendRequests(v1::Load::kSendRequests, StartSendRequests);

}  // namespace
}  // namespace firedrill
