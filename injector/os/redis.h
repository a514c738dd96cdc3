// The door to Redis: one session in RESP2 that never blocks past its deadline.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "firedrill/v1/site.pb.h"
#include "injector/os/patience.h"
#include "injector/os/stream.h"

namespace firedrill {

// Where a server is and who we are there. Holds the password: never printed.
struct RedisAccount {
  StreamAddress server;
  // "default" where the profile names none.
  std::string user;
  std::string password;

  // "127.0.0.1:6379 as default", for messages.
  std::string Name() const;
  // The commands that say who we are, and what the connection is called; one answer each.
  std::vector<std::vector<std::string>> Greeting(const std::string& name) const;
};

// Resolves the secret and the host's name, and looks whether somebody listens. Blocks; the error
// says what to mend.
absl::StatusOr<RedisAccount> FindRedisAccount(const v1::RedisServer& server,
                                              const Patience& patience);

// A command as it is sent.
std::string RedisCommand(const std::vector<std::string>& words);

// Takes the first whole answer from the front of `bytes`: its text, with the elements of an array
// one a line; an error of the server's as a status. NOT_FOUND while it is not whole, DATA_LOSS for
// bytes that are no RESP2.
absl::StatusOr<std::string> TakeRedisAnswer(std::string* bytes);
// RESOURCE_EXHAUSTED where the server is full, PERMISSION_DENIED where it does not let us.
absl::Status RedisError(absl::string_view text);

// One session. Its socket is close-on-exec. One thread at a time.
class RedisSession {
 public:
  // Connects and says who we are; `name` must not have blanks. Blocks.
  static absl::StatusOr<std::unique_ptr<RedisSession>> Open(const RedisAccount& account,
                                                            const std::string& name,
                                                            const Patience& patience);
  // After any error but one of the server's own the session is unusable.
  absl::StatusOr<std::string> Ask(const std::vector<std::string>& words, const Patience& patience);
  bool usable() const { return usable_; }

 private:
  explicit RedisSession(UniqueFd fd) : fd_(std::move(fd)) {}
  absl::Status Await(short events, const Patience& patience);

  UniqueFd fd_;
  std::string received_;
  bool usable_ = true;
};

// The lines of INFO: {"connected_clients", "12"}.
std::map<std::string, std::string> ReadRedisInfo(absl::string_view text);

}  // namespace firedrill
