// Whether whoever calls counts for anything, and for what, over gRPC and over HTTP alike.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "firedrill/v1/options.pb.h"
#include "identity/certificate.h"
#include "identity/revocations.h"

namespace firedrill {

// Why a certificate is good no more, UNAUTHENTICATED: revoked, or expired.
absl::Status CheckStillGood(const Certificate& caller, const Revocations& revocations,
                            absl::Time now);

// OK, or why a certificate that TLS has proven counts for nothing: UNAUTHENTICATED where it is of
// another domain than `domain`, revoked or expired; PERMISSION_DENIED where its role is too low for
// `what` ("/package.Service/Rpc", "POST /stop").
absl::Status CheckCaller(const Certificate& caller, const std::string& domain,
                         const Revocations& revocations, absl::string_view what, v1::Role asked,
                         absl::Time now);

}  // namespace firedrill
