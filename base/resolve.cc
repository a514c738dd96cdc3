// The addresses of a host, asked for on a thread that may be left behind. getaddrinfo_a() would be
// shorter, but ThreadSanitizer crashes on the threads that glibc starts for it.
#include "base/resolve.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <memory>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "base/text.h"

namespace firedrill {
namespace {

constexpr size_t kMostAddresses = 16;
// How soon a stop is noticed while a name is being resolved.
constexpr absl::Duration kLook = absl::Milliseconds(20);

bool IsNumeric(const std::string& host) {
  unsigned char bytes[sizeof(in6_addr)];
  return inet_pton(AF_INET, host.c_str(), bytes) == 1 ||
         inet_pton(AF_INET6, host.substr(0, host.find('%')).c_str(), bytes) == 1;
}

std::vector<std::string> Numeric(const addrinfo* list) {
  std::vector<std::string> addresses;
  for (const addrinfo* at = list; at != nullptr && addresses.size() < kMostAddresses;
       at = at->ai_next) {
    char text[NI_MAXHOST];
    if (getnameinfo(at->ai_addr, at->ai_addrlen, text, sizeof text, nullptr, 0, NI_NUMERICHOST) ==
        0) {
      addresses.emplace_back(text);
    }
  }
  return addresses;
}

struct Answer {
  Mutex mutex;
  CondVar changed;
  bool done FD_GUARDED_BY(mutex) = false;
  int error FD_GUARDED_BY(mutex) = 0;
  std::vector<std::string> addresses FD_GUARDED_BY(mutex);
};

}  // namespace

absl::StatusOr<std::vector<std::string>> ResolveHost(const std::string& host,
                                                     absl::Duration deadline,
                                                     std::stop_token stop) {
  if (IsNumeric(host)) return std::vector<std::string>{host};
  const absl::Duration end = RealClock().Boot() + deadline;
  const auto answer = std::make_shared<Answer>();
  std::thread([answer, host] {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* list = nullptr;
    const int error = getaddrinfo(host.c_str(), nullptr, &hints, &list);
    std::vector<std::string> addresses = Numeric(list);
    if (list != nullptr) freeaddrinfo(list);
    MutexLock lock(answer->mutex);
    answer->error = error;
    answer->addresses = std::move(addresses);
    answer->done = true;
    answer->changed.NotifyAll();
  }).detach();
  MutexLock lock(answer->mutex);
  while (!answer->done) {
    if (stop.stop_requested()) {
      return absl::CancelledError(absl::StrCat("resolving the name ", host, ": stopped"));
    }
    if (RealClock().Boot() >= end) {
      return absl::DeadlineExceededError(absl::StrCat(
          "resolving the name ", host, ": no answer within ", firedrill::FormatDuration(deadline)));
    }
    answer->changed.WaitFor(answer->mutex, kLook);
  }
  if (answer->error != 0) {
    return absl::NotFoundError(
        absl::StrCat("resolving the name ", host, ": ", gai_strerror(answer->error)));
  }
  return answer->addresses;
}

}  // namespace firedrill
