// Plain sockets: a test server that can be slow, silent or wrong on purpose.
#include "tests/testing/http_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <cstdlib>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"

namespace firedrill {
namespace {

bool ReadRequest(int fd, ServerRequest* request) {
  std::string text;
  size_t end = std::string::npos;
  size_t length = 0;
  char chunk[4096];
  while (end == std::string::npos || text.size() < end + 4 + length) {
    const ssize_t got = recv(fd, chunk, sizeof chunk, 0);
    if (got <= 0) return false;
    text.append(chunk, static_cast<size_t>(got));
    if (end != std::string::npos || (end = text.find("\r\n\r\n")) == std::string::npos) continue;
    const std::vector<std::string> lines = absl::StrSplit(text.substr(0, end), "\r\n");
    const std::vector<std::string> first = absl::StrSplit(lines[0], ' ');
    if (first.size() < 2) return false;
    request->method = first[0];
    request->target = first[1];
    for (size_t i = 1; i < lines.size(); ++i) {
      const std::pair<std::string, std::string> header =
          absl::StrSplit(lines[i], absl::MaxSplits(": ", 1));
      request->headers[absl::AsciiStrToLower(header.first)] = header.second;
    }
    const auto found = request->headers.find("content-length");
    if (found != request->headers.end() && !absl::SimpleAtoi(found->second, &length)) return false;
  }
  request->body = text.substr(end + 4);
  return true;
}

}  // namespace

HttpServer::HttpServer(Answers answers) : answers_(std::move(answers)) {
  listener_.Reset(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), size) != 0 ||
      listen(listener_.get(), 64) != 0 ||
      getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    std::abort();
  }
  port_ = ntohs(address.sin_port);
  acceptor_ = std::thread([this] { Accept(); });
}

HttpServer::~HttpServer() {
  stopping_ = true;
  acceptor_.join();
  for (std::thread& thread : threads_) thread.join();
}

std::string HttpServer::url() const { return absl::StrCat("http://127.0.0.1:", port_); }

std::vector<ServerRequest> HttpServer::seen() {
  const std::lock_guard lock(mutex_);
  return seen_;
}

void HttpServer::Accept() {
  while (!stopping_) {
    pollfd wait{listener_.get(), POLLIN, 0};
    if (poll(&wait, 1, 10) <= 0) continue;
    UniqueFd fd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!fd.valid()) continue;
    const timeval patience{5, 0};
    setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    threads_.emplace_back([this, raw = fd.Release()] { Serve(UniqueFd(raw)); });
  }
}

void HttpServer::Serve(UniqueFd fd) {
  ServerRequest request;
  if (!ReadRequest(fd.get(), &request)) return;
  {
    const std::lock_guard lock(mutex_);
    seen_.push_back(request);
  }
  const ServerAnswer answer = answers_(request);
  const absl::Time due = absl::Now() + answer.delay;
  while (!stopping_ && absl::Now() < due) absl::SleepFor(absl::Milliseconds(5));
  if (answer.hang_up || stopping_) return;
  std::string text =
      absl::StrCat("HTTP/1.1 ", answer.status, " X\r\nContent-Length: ", answer.body.size(),
                   "\r\nConnection: close\r\n");
  for (const auto& [name, value] : answer.headers)
    absl::StrAppend(&text, name, ": ", value, "\r\n");
  absl::StrAppend(&text, "\r\n", answer.body);
  for (size_t sent = 0; sent < text.size();) {
    const ssize_t put = send(fd.get(), text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
    if (put <= 0) return;
    sent += static_cast<size_t>(put);
  }
}

}  // namespace firedrill
