// What the codec must know of Redis's commands and errors by name.
#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "firedrill/v1/wire.pb.h"
#include "injector/wire/codec.h"

namespace firedrill::wire {

// What a command changes about the conversation that follows it.
enum class RedisEffect : uint8_t {
  kNone,
  kMulti,
  kExec,
  kDiscard,
  kReset,
  kAuth,
  kHello,
  kSelect,
  // Answered by confirmations, one for each channel, that look like messages.
  kSubscribe,
  // What follows is no longer one answer for each command.
  kEnd,
};

RedisEffect EffectOf(const Words& words);

// Who AUTH or HELLO lets in; empty where HELLO does not say.
std::string UserOf(const Words& words);

// "-LOADING Redis is loading ...\r\n", as the server words it.
std::string RedisErrorReply(const v1::QueryFailure& failure);

}  // namespace firedrill::wire
