// A proxy by hand: `wire_proxy --listen 127.0.0.1:0 --server 127.0.0.1:5432 --protocol postgresql`
// prints its port, and its counters when it is interrupted. SIGUSR1 takes the disturbance off, or
// puts it on again; it prints how many microseconds that took.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "base/time_proto.h"
#include "injector/wire/proxy.h"

namespace firedrill::wire {
namespace {

[[noreturn]] void Die(const std::string& why) {
  fprintf(stderr, "wire_proxy: %s\n", why.c_str());
  exit(2);
}

sockaddr_storage Address(const std::string& text) {
  const std::vector<std::string> parts = absl::StrSplit(text, ':');
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  int port = -1;
  if (parts.size() != 2 || inet_pton(AF_INET, parts[0].c_str(), &address.sin_addr) != 1 ||
      !absl::SimpleAtoi(parts[1], &port) || port < 0 || port > 65535) {
    Die("an address is 127.0.0.1:5432, not " + text);
  }
  address.sin_port = htons(static_cast<uint16_t>(port));
  sockaddr_storage storage = {};
  memcpy(&storage, &address, sizeof address);
  return storage;
}

v1::DelayShape Shape(const std::string& text) {
  absl::Duration delay;
  if (!absl::ParseDuration(text, &delay)) Die("a delay is 20ms, not " + text);
  v1::DelayShape shape;
  *shape.mutable_delay() = ToProto(delay);
  return shape;
}

double Number(const std::string& text) {
  double number = 0;
  if (!absl::SimpleAtod(text, &number)) Die("not a number: " + text);
  return number;
}

// Rules of every sort that look at each request and never match.
std::shared_ptr<const Rules> Bystanders(v1::Protocol protocol, int count) {
  std::vector<Rule> rules;
  for (int i = 0; i < count; ++i) {
    Rule rule;
    rule.name = absl::StrCat("bystander-", i);
    rule.delay = Shape("1s");
    switch (i % 3) {
      case 0:
        rule.match.add_tables(absl::StrCat("nobodys_table_", i));
        break;
      case 1:
        rule.match.set_regex(absl::StrCat("(?i)where\\s+nothing_", i, "\\s*="));
        break;
      default:
        rule.match.add_verbs("truncate");
        rule.match.set_user(absl::StrCat("nobody_", i));
    }
    rules.push_back(std::move(rule));
  }
  auto compiled = Rules::Compile(protocol, rules, 1);
  if (!compiled.ok()) Die(compiled.status().ToString());
  return *std::move(compiled);
}

int Main(int argc, char** argv) {
  int bystanders = 0;
  ProxyOptions options;
  options.protocol = v1::PROTOCOL_TCP;
  Disturbance disturbance;
  sockaddr_storage listen_at = Address("127.0.0.1:0");
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string key = argv[i];
    const std::string value = argv[i + 1];
    if (key == "--listen") {
      listen_at = Address(value);
    } else if (key == "--server") {
      options.server = Address(value);
    } else if (key == "--protocol") {
      if (!v1::Protocol_Parse("PROTOCOL_" + absl::AsciiStrToUpper(value), &options.protocol)) {
        Die("no such protocol: " + value);
      }
    } else if (key == "--threads") {
      options.threads = atoi(value.c_str());
    } else if (key == "--rules") {
      bystanders = atoi(value.c_str());
    } else if (key == "--delay-to-server") {
      disturbance.delay_to_server = Shape(value);
    } else if (key == "--delay-to-client") {
      disturbance.delay_to_client = Shape(value);
    } else if (key == "--rate-to-server") {
      disturbance.rate_to_server = Number(value);
    } else if (key == "--rate-to-client") {
      disturbance.rate_to_client = Number(value);
    } else {
      Die("no such option: " + key);
    }
  }
  if (argc % 2 == 0 || options.server.ss_family == 0) Die("--server 127.0.0.1:PORT is needed");
  if (bystanders > 0) disturbance.rules = Bystanders(options.protocol, bystanders);

  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGUSR1);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  prctl(PR_SET_PDEATHSIG, SIGTERM);

  UniqueFd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  socklen_t length = sizeof listen_at;
  auto* own = reinterpret_cast<sockaddr*>(&listen_at);
  if (bind(listener.get(), own, sizeof(sockaddr_in)) != 0 || listen(listener.get(), 4096) != 0 ||
      getsockname(listener.get(), own, &length) != 0) {
    Die(absl::StrCat("cannot listen: ", strerror(errno)));
  }
  options.listeners.push_back(std::move(listener));
  auto proxy = Proxy::Start(std::move(options));
  if (!proxy.ok()) Die(proxy.status().ToString());
  const absl::Status set = (*proxy)->Set(disturbance);
  if (!set.ok()) Die(set.ToString());
  printf("%d\n", ntohs(reinterpret_cast<sockaddr_in*>(&listen_at)->sin_port));
  fflush(stdout);

  int signal = 0;
  for (bool on_now = true; sigwait(&signals, &signal) == 0 && signal == SIGUSR1;) {
    on_now = !on_now;
    const absl::Time begin = absl::Now();
    const absl::Status done = (*proxy)->Set(on_now ? disturbance : Disturbance());
    if (!done.ok()) Die(done.ToString());
    printf("%.0f\n", absl::ToDoubleMicroseconds(absl::Now() - begin));
    fflush(stdout);
  }
  const ProxyCounters counters = (*proxy)->Read();
  fprintf(stderr, "accepted %lu, refused %lu, requests %lu, delayed %lu, held p50 %s p99 %s\n",
          counters.accepted, counters.refused, counters.requests, counters.delayed,
          absl::FormatDuration(counters.held_p50).c_str(),
          absl::FormatDuration(counters.held_p99).c_str());
  fprintf(stderr, "lost %lu (%s), encrypted %lu\n", counters.lost, counters.lost_why.c_str(),
          counters.encrypted);
  return 0;
}

}  // namespace
}  // namespace firedrill::wire

int main(int argc, char** argv) { return firedrill::wire::Main(argc, argv); }
