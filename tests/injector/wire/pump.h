// A small blocking relay between real clients and a real server, with a codec in the middle.
#pragma once

#include <atomic>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/unique_fd.h"
#include "tests/injector/wire/codec_feed.h"

namespace firedrill::wire {

class Pump {
 public:
  // Takes in connections on 127.0.0.1 and brings each to `server_port`. `decide` is called on the
  // thread of the connection, one call at a time.
  Pump(v1::Protocol protocol, uint16_t server_port, CodecFeed::Decide decide = nullptr);
  ~Pump();

  uint16_t port() const { return port_; }
  std::vector<SeenRequest> requests();
  // What the first connection's ends said, in order: true for the client.
  std::vector<std::pair<bool, std::string>> recorded();
  // Why codecs lost track, in order.
  std::vector<std::string> lost();
  // Promises that were broken.
  std::vector<std::string> broken();
  int encrypted() const { return encrypted_; }
  int not_failed() const { return not_failed_; }
  // Connections that were quiet at their end.
  int quiet() const { return quiet_; }

 private:
  void Accept();
  void Carry(UniqueFd client, bool first);

  const v1::Protocol protocol_;
  const uint16_t server_port_;
  const CodecFeed::Decide decide_;
  UniqueFd listener_;
  uint16_t port_ = 0;
  std::atomic<bool> stopping_{false};
  std::atomic<int> encrypted_{0};
  std::atomic<int> not_failed_{0};
  std::atomic<int> quiet_{0};
  std::mutex mutex_;
  std::vector<SeenRequest> requests_;
  std::vector<std::pair<bool, std::string>> recorded_;
  std::vector<std::string> lost_;
  std::vector<std::string> broken_;
  std::vector<std::thread> threads_;
  std::thread acceptor_;
};

// Runs a program of the machine to its end with `input`, and returns what it said on both outputs.
// `code` may be null.
std::string RunProgram(const std::vector<std::string>& words, const std::string& input = "",
                       int* code = nullptr);

}  // namespace firedrill::wire
