// A client of a protocol that needs no library: it says something and knows what it must hear.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/unique_fd.h"
#include "tests/contract/contract_stage.h"

namespace firedrill {

class StreamClient final : public TrafficClient {
 public:
  static constexpr size_t kMuch = 100'000;
  enum class Heard { kPart, kWhole, kWrong };
  // Of what was heard so far.
  using Judge = std::function<Heard(const std::string&)>;
  struct Exchange {
    std::string say;
    Judge judge;
  };
  static Judge Exactly(std::string answer);

  // To 127.0.0.1; a null pointer where nobody listens.
  static std::unique_ptr<TrafficClient> Connect(int port, Exchange small, Exchange much);

  bool Ask() override { return Try(small_); }
  bool AskMuch() override { return Try(much_); }

 private:
  StreamClient(UniqueFd fd, Exchange small, Exchange much)
      : fd_(std::move(fd)), small_(std::move(small)), much_(std::move(much)) {}
  bool Try(const Exchange& exchange);

  const UniqueFd fd_;
  const Exchange small_, much_;
};

}  // namespace firedrill
