// The servers that profiles name.
#pragma once

#include "firedrill/v1/site.pb.h"
#include "firedrill/v1/wire.pb.h"

namespace firedrill {

// What its server speaks; PROTOCOL_UNSPECIFIED where it names none.
v1::Protocol ProtocolOf(const v1::Profile& profile);

}  // namespace firedrill
